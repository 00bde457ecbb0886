import { AxisBottom, AxisLeft } from "@visx/axis";
import { Group } from "@visx/group";
import { scaleBand, scaleLinear } from "@visx/scale";
import { Bar } from "@visx/shape";
import { useMemo } from "react";
import { useApp } from "../../context";
import { change } from "../../route/useRoute";
import { rateColour } from "../../ui/colour";
import { Numbers } from "../../ui/Numbers";
import { type Bin, bins } from "./bins";

const WIDTH = 560;
const HEIGHT = 190;
const MARGIN = { left: 44, right: 4, top: 20, bottom: 40 };

/** How many turns have which pass rate. A bar filters; clicking it again takes the filter away. */
export function Histogram() {
  const { run, source, params } = useApp();
  const list = useMemo(() => bins(run, source), [run, source]);
  const x = scaleBand({
    domain: list.map((bin) => bin.label),
    range: [MARGIN.left, WIDTH - MARGIN.right],
    padding: 0.16,
  });
  const y = scaleLinear({
    domain: [0, Math.max(1, ...list.map((bin) => bin.turns))],
    range: [HEIGHT - MARGIN.bottom, MARGIN.top],
    nice: true,
  });
  const isChosen = (bin: Bin) =>
    (params.outcome ?? "") === bin.filter.outcome && (params.rate ?? "") === bin.filter.rate;
  const anyChosen = list.some(isChosen);
  const toggle = (bin: Bin) => change({ ...params, ...(isChosen(bin) ? { outcome: "", rate: "" } : bin.filter) });
  return (
    <section className="histogram" aria-labelledby="histogram-title" data-testid="histogram">
      <h2 id="histogram-title">Turns by pass rate</h2>
      <p className="quiet">
        {run.sourceTitle(source)}. {run.head.comparison ? "" : "The solid part of a bar is pivots. "}Click a bar to see
        its turns only.
      </p>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="group" aria-label="Histogram of pass rates; each bar is a filter">
        <defs>
          <pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
            <rect width="6" height="6" className="hatch-ground" />
            <rect width="2" height="6" className="hatch-line" />
          </pattern>
        </defs>
        {list.map((bin) => {
          const [left, top, bottom] = [x(bin.label) ?? 0, y(bin.turns), HEIGHT - MARGIN.bottom];
          const colour = bin.rate === null ? "url(#hatch)" : rateColour(bin.rate);
          return (
            <Group
              key={bin.label}
              className={anyChosen && !isChosen(bin) ? "bar dimmed" : "bar"}
              role="button"
              tabIndex={0}
              aria-pressed={isChosen(bin)}
              aria-label={`${bin.rate === null ? "No verdict" : `Pass rate ${bin.label}`}: ${bin.turns} turns, ${bin.pivots} pivots`}
              onClick={() => toggle(bin)}
              onKeyDown={(event: React.KeyboardEvent) => {
                if (event.key !== "Enter" && event.key !== " ") return;
                event.preventDefault();
                toggle(bin);
              }}
              data-testid={`bar-${bin.label}`}
            >
              <rect x={left} y={MARGIN.top} width={x.bandwidth()} height={bottom - MARGIN.top} className="bar-target" />
              <Bar x={left} y={top} width={x.bandwidth()} height={bottom - top} fill={colour} className="bar-all" />
              <Bar
                x={left}
                y={y(bin.pivots)}
                width={x.bandwidth()}
                height={bottom - y(bin.pivots)}
                fill={colour}
                className="bar-pivots"
              />
              <text x={left + x.bandwidth() / 2} y={top - 4} className="bar-count">
                {bin.turns || ""}
              </text>
            </Group>
          );
        })}
        <AxisBottom
          scale={x}
          top={HEIGHT - MARGIN.bottom}
          hideTicks
          label="pass rate"
          labelClassName="axis-label"
          tickClassName="axis-tick"
          axisLineClassName="axis-line"
          labelOffset={6}
        />
        <AxisLeft
          scale={y}
          left={MARGIN.left}
          numTicks={4}
          hideAxisLine
          hideTicks
          tickClassName="axis-tick"
          tickFormat={(value) => Number(value).toLocaleString("en")}
        />
      </svg>
      <Numbers
        head={["pass rate", "turns", "pivots"]}
        rows={list.map((bin) => [bin.label, bin.turns, bin.pivots])}
        testId="histogram-numbers"
      />
    </section>
  );
}
