import { shortRate } from "../data/rates";
import { rateColour } from "./colour";

/** A pass rate as a swatch and a number. */
export function Rate({ rate, title }: { rate: number | null; title?: string }) {
  return (
    <span className="rate" title={title}>
      <span
        className={rate === null ? "swatch unknown" : "swatch"}
        style={rate === null ? {} : { backgroundColor: rateColour(rate) }}
      />
      <span className="number">{shortRate(rate)}</span>
    </span>
  );
}
