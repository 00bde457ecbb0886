import { AxisBottom, AxisLeft } from "@visx/axis";
import { scaleLinear, scaleSymlog } from "@visx/scale";
import { LinePath } from "@visx/shape";
import { useState } from "react";
import { amount, type Axis, changeWords, linesOf, placeOn, scoreOf, UNKNOWN } from "../../compare/policies";
import { useApp } from "../../context";
import type { Comparison, Policy } from "../../data/schema";
import { Choice } from "../../ui/Choice";
import { compareHref } from "./compareHref";

const WIDTH = 600;
const HEIGHT = 300;
const MARGIN = { left: 52, right: 12, top: 12, bottom: 42 };
/** Below it the axis of forgetting is linear, beyond it logarithmic. */
const LINEAR = 0.01;
const HARM_TICKS = [-0.01, 0, 0.01, 0.03, 0.1, 0.3, 1, 3, 10];
const AXES: Record<Axis, [choice: string, label: string]> = {
  harm: ["forgetting", ""],
  rollout_turns: ["rollout turns", "rollout turns, profile included"],
  seconds: ["seconds", "seconds of training, profile included"],
  step: ["updates", "updates"],
};

/** Score against forgetting or cost: every policy is a point, and a link to the turns that it changed. */
export function Frontier({ comparison }: { comparison: Comparison }) {
  const { score, harm, measures, methods, policies } = comparison;
  const [axis, setAxis] = useState<Axis>(harm ? "harm" : "step");
  const measure = (name: string | null) => measures.find((each) => each.name === name);
  const unit = measure(score)?.unit ?? "share";
  const shown = policies.filter(
    (policy) => scoreOf(comparison, policy) !== null && placeOn(comparison, policy, axis) !== null,
  );
  const base = policies[0] ? scoreOf(comparison, policies[0]) : null;
  const xs = shown.map((policy) => placeOn(comparison, policy, axis) ?? 0);
  const ys = [...shown.map((policy) => scoreOf(comparison, policy) ?? 0), ...shown.flatMap((p) => interval(p) ?? [])];
  const range: [number, number] = [MARGIN.left, WIDTH - MARGIN.right];
  const domain: [number, number] = [Math.min(0, ...xs), Math.max(axis === "harm" ? LINEAR : 1, ...xs)];
  const x =
    axis === "harm" ? scaleSymlog({ domain, range, constant: LINEAR }) : scaleLinear({ domain, range, nice: true });
  const y = scaleLinear({
    domain: [Math.min(...ys), Math.max(...ys)],
    range: [HEIGHT - MARGIN.bottom, MARGIN.top],
    nice: true,
  });
  const at = (policy: Policy): [number, number] => [
    x(placeOn(comparison, policy, axis) ?? 0),
    y(scoreOf(comparison, policy) ?? 0),
  ];

  /** Of the score of a chosen policy, around its own level. */
  function interval(policy: Policy): [number, number] | null {
    const [level, change, low, high] = policy.values[score] ?? UNKNOWN;
    if (!policy.best || level === null || change === null || low === null || high === null) return null;
    return [level - change + low, level - change + high];
  }

  return (
    <figure className="frontier" data-testid="frontier">
      <div className="section-head">
        <figcaption>
          <b>{measure(score)?.label}</b>
          {unit === "share" && ", percent"} over
        </figcaption>
        <Choice
          label="Horizontal axis"
          value={axis}
          options={(Object.keys(AXES) as Axis[])
            .filter((each) => each !== "harm" || harm !== null)
            .map((each) => [each, AXES[each][0]])}
          onChange={setAxis}
          testId="axis"
        />
      </div>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="group" aria-label="Policies; each point opens its turns">
        {base !== null && (
          <line x1={MARGIN.left} x2={WIDTH - MARGIN.right} y1={y(base)} y2={y(base)} className="before-line" />
        )}
        {methods.map((title, method) =>
          linesOf(comparison, method, axis).map((line, i) => (
            <LinePath
              key={`${title}/${i}`}
              data={line}
              x={(policy) => at(policy)[0]}
              y={(policy) => at(policy)[1]}
              className={`method-line method-${method % 8}`}
            />
          )),
        )}
        {shown.map((policy) => (
          <Point
            key={policy.policy}
            policy={policy}
            at={at(policy)}
            bar={interval(policy)?.map((value) => y(value))}
            words={`${policy.policy}: ${amount(unit, scoreOf(comparison, policy))} ${changeWords(unit, policy.values[score] ?? UNKNOWN)}`}
          />
        ))}
        <AxisBottom
          scale={x}
          top={HEIGHT - MARGIN.bottom}
          {...(axis === "harm"
            ? { tickValues: HARM_TICKS.filter((tick) => tick >= domain[0] - LINEAR / 2 && tick <= domain[1]) }
            : { numTicks: 5 })}
          tickFormat={(value) => Number(value).toLocaleString("en").replace("-", "−")}
          hideTicks
          label={axis === "harm" ? `${measure(harm)?.label}, change` : AXES[axis][1]}
          labelClassName="axis-label"
          tickClassName="axis-tick"
          axisLineClassName="axis-line"
          labelOffset={6}
        />
        <AxisLeft
          scale={y}
          left={MARGIN.left}
          numTicks={5}
          hideAxisLine
          hideTicks
          tickClassName="axis-tick"
          tickFormat={(value) => (unit === "share" ? (100 * Number(value)).toFixed(0) : Number(value).toFixed(2))}
        />
      </svg>
      <ul className="method-legend">
        {methods.map((title, method) => (
          <li key={title}>
            <span className={`method-mark method-${method % 8}`} /> {title}
          </li>
        ))}
        <li>
          <span className="before-mark" /> before training
        </li>
      </ul>
      <p className="quiet small">
        {axis === "harm"
          ? "Every point is a rate and a number of updates. A line joins the points of a method that no other of its points beats with less forgetting. Up and to the left is better."
          : "Every point is a rate and a number of updates; a line joins one rate. Further up is better, further left is cheaper."}{" "}
        ★ and its 95 % interval: what validation chose. A click on a point opens the turns that changed.
      </p>
    </figure>
  );
}

function Point({
  policy,
  at: [x, y],
  bar,
  words,
}: {
  policy: Policy;
  at: [number, number];
  bar: number[] | undefined;
  words: string;
}) {
  const { run, params } = useApp();
  const href = compareHref(run, params, policy);
  const mark = (
    <g className={`method-point method-${policy.method % 8}`}>
      {bar && <line x1={x} x2={x} y1={bar[0]} y2={bar[1]} className="method-bar" />}
      <circle cx={x} cy={y} r={12} className="bar-target" />
      {policy.best ? (
        <text x={x} y={y} className="best-point">
          ★
        </text>
      ) : (
        <circle cx={x} cy={y} r={4} />
      )}
      <title>{words}</title>
    </g>
  );
  if (policy.method < 0) return null;
  return href ? (
    <a href={href} aria-label={words} data-testid={`point-${policy.policy}`}>
      {mark}
    </a>
  ) : (
    mark
  );
}
