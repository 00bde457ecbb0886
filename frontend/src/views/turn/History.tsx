import { AxisBottom, AxisLeft } from "@visx/axis";
import { scaleLinear } from "@visx/scale";
import { LinePath } from "@visx/shape";
import { useApp } from "../../context";
import { shortRate, variance } from "../../data/rates";
import { byStep, type StepRewards } from "../../turn/history";
import { Loading } from "../../ui/Loading";
import { Numbers } from "../../ui/Numbers";
import { useLoaded } from "../../ui/useLoaded";

/** At which steps the turn trained, and the rewards it got then. */
export function History({ turn }: { turn: number }) {
  const { run } = useApp();
  const steps = run.index.turns.steps[turn] ?? 0;
  const loaded = useLoaded(async () => {
    const sources = run.head.sources.flatMap(({ kind }, source) =>
      kind === "training" && run.row(source, turn) >= 0 ? [source] : [],
    );
    return Promise.all(
      sources.map(async (source) => {
        const samples = await run.samples(source, turn);
        return { source, steps: samples ? byStep(samples) : [] };
      }),
    );
  }, [run, turn]);
  return (
    <Loading of={loaded}>
      {(lists) =>
        lists.map(({ source, steps: list }) => (
          <section key={source} className="history" aria-label="History over training" data-testid="history">
            <h2>In training</h2>
            <p className="quiet">
              {run.sourceTitle(source)}: {steps || list.length} {(steps || list.length) === 1 ? "step" : "steps"} used
              this turn. Dots are rewards of single samples, the line is their mean.
            </p>
            {list.length > 0 && <Plot list={list} />}
            <Numbers
              head={["step", "mean reward", "variance", "samples", "no verdict"]}
              rows={list.map(({ step, mean, rewards, unknown }) => [
                step,
                shortRate(mean),
                mean === null ? "–" : shortRate(variance(mean)),
                rewards.length,
                unknown,
              ])}
              testId="history-numbers"
            />
          </section>
        ))
      }
    </Loading>
  );
}

const WIDTH = 420;
const HEIGHT = 120;
/** How far from its step a dot may lie, so that equal rewards can be told apart. */
const SPREAD = 12;

function Plot({ list }: { list: StepRewards[] }) {
  const steps = list.map(({ step }) => step);
  const rewards = list.flatMap((entry) => entry.rewards);
  const [first, last] = [Math.min(...steps), Math.max(...steps)];
  const x = scaleLinear({
    domain: first === last ? [first - 1, last + 1] : [first, last],
    range: [36 + SPREAD, WIDTH - SPREAD],
  });
  const y = scaleLinear({ domain: [Math.min(0, ...rewards), Math.max(1, ...rewards)], range: [HEIGHT - 24, 10] });
  const known = list.filter((entry) => entry.mean !== null);
  return (
    <svg
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      role="img"
      aria-label={`Mean reward by training step: ${known.map(({ step, mean }) => `step ${step} ${shortRate(mean)}`).join(", ")}`}
    >
      {list.flatMap(({ step, rewards: each }) =>
        each.map((reward, i) => (
          <circle
            key={`${step}/${i}`}
            cx={x(step) + (i - (each.length - 1) / 2) * Math.min(2.5, (2 * SPREAD) / each.length)}
            cy={y(reward)}
            r="2"
            className="plot-dot"
          />
        )),
      )}
      <LinePath data={known} x={({ step }) => x(step)} y={({ mean }) => y(mean ?? 0)} className="plot-line" />
      {known.map(({ step, mean }) => (
        <circle key={step} cx={x(step)} cy={y(mean ?? 0)} r="3.5" className="plot-mean" />
      ))}
      <AxisBottom
        scale={x}
        top={HEIGHT - 24}
        numTicks={Math.min(8, list.length)}
        tickFormat={(value) => String(Math.round(Number(value)))}
        tickClassName="axis-tick"
        axisLineClassName="axis-line"
        hideTicks
      />
      <AxisLeft scale={y} left={36} numTicks={3} tickClassName="axis-tick" hideAxisLine hideTicks />
    </svg>
  );
}
