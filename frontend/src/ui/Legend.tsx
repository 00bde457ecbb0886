import { rateColour } from "./colour";

const STEPS = [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1];

/** What the cells mean. */
export function Legend() {
  return (
    <div className="legend" aria-label="Legend" role="group">
      <span className="legend-scale">
        fails
        <span className="legend-steps">
          {STEPS.map((rate) => (
            <span key={rate} style={{ backgroundColor: rateColour(rate) }} />
          ))}
        </span>
        passes
      </span>
      <span>
        <span className="cell sample mixed pivot" style={{ backgroundColor: rateColour(0.5) }} /> pivot
      </span>
      <span>
        <span className="cell sample unknown" /> no verdict
      </span>
      <span>
        <span className="cell sample none" /> not sampled
      </span>
    </div>
  );
}
