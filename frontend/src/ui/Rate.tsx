import { shortRate } from "../data/rates";
import { rateColour } from "./colour";

/** A pass rate as a swatch and a number. As in a strip, no verdict is hatched, and an outline is not sampled. */
export function Rate({ rate, title, sampled = true }: { rate: number | null; title?: string; sampled?: boolean }) {
  return (
    <span className="rate" title={title}>
      <span
        className={rate === null && sampled ? "swatch unknown" : "swatch"}
        style={rate === null ? {} : { backgroundColor: rateColour(rate) }}
      />
      <span className="number">{shortRate(rate)}</span>
    </span>
  );
}
