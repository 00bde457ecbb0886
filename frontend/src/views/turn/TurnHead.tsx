import { useApp, useLabels } from "../../context";
import { shortRate, wilson } from "../../data/rates";
import { inTrajectory, step } from "../../keys/steps";
import { kept } from "../../keys/useGlobalKeys";
import { labelOf } from "../../labels/labels";
import { format, inView } from "../../route/route";
import { copyText } from "../../text/copy";
import { Rate } from "../../ui/Rate";
import { turnAsJson } from "./turnAsJson";

export function TurnHead({ turn }: { turn: number }) {
  const { run, source, params, matches, say } = useApp();
  const label = labelOf(useLabels(), run.turnId(turn));
  const trajectory = run.trajectoryOf(turn);
  const id = run.trajectoryId(trajectory);
  const { depth, message } = run.index.turns;
  const to = (next: number | undefined) =>
    next === undefined ? undefined : format(inView(params, "turn", { turn: run.turnId(next), ...kept(params) }));
  const copy = async (what: string, text: string) =>
    say((await copyText(text)) ? `${what} copied.` : "The browser did not allow copying.");
  return (
    <header className="turn-head">
      <nav aria-label="Breadcrumbs" className="crumbs">
        <a href={format(inView(params, "overview"))}>Overview</a>
        <span aria-hidden="true">›</span>
        <a
          href={format(inView(params, "play", { trajectory: id, at: String(message[turn]) }))}
          data-testid="crumb-trajectory"
        >
          {id}
        </a>
        <span aria-hidden="true">›</span>
        <span aria-current="page">turn {depth[turn]}</span>
      </nav>
      <div className="turn-line">
        <h1 data-testid="turn-title">
          Turn {depth[turn]} <span className="quiet">of {run.index.trajectories.num_turns[trajectory]}</span> ·{" "}
          {run.tool(turn)}
        </h1>
        {run.isPivot(turn) && <span className="tag pivot-tag">pivot</span>}
        {label.drop && <span className="tag drop-tag">to be dropped</span>}
        <span className="turn-steps">
          <Step href={to(inTrajectory(run, turn, -1))} name="Previous turn" sign="‹" hint="k" testId="previous-turn" />
          <Step href={to(inTrajectory(run, turn, 1))} name="Next turn" sign="›" hint="j" testId="next-turn" />
          <Step
            href={to(step(run, turn, 1, (each) => run.isPivot(each)))}
            name="Next pivot"
            sign="pivot ›"
            hint="p"
            testId="next-pivot"
          />
          {matches.filtered && (
            <Step
              href={to(step(run, turn, 1, (each) => matches.set.has(each)))}
              name="Next match"
              sign="match ›"
              hint="n"
              testId="next-match"
            />
          )}
          <button
            type="button"
            className="button quiet-button"
            onClick={() => void copy("Link", window.location.href)}
            data-testid="copy-link"
          >
            Copy link
          </button>
          <button
            type="button"
            className="button quiet-button"
            onClick={() => void turnAsJson(run, source, turn).then((text) => copy("Turn", text))}
            data-testid="copy-json"
          >
            Copy JSON
          </button>
        </span>
      </div>
      <p className="turn-facts" data-testid="turn-facts">
        <RateWords turn={turn} />
        <span>{run.statusWords(run.status(turn))}</span>
        <span className="quiet">{run.turnId(turn)}</span>
        <button
          type="button"
          className="link jump"
          onClick={() => document.getElementById("decision")?.scrollIntoView()}
          data-testid="jump"
        >
          To the actions ↓
        </button>
      </p>
      <SourceRates turn={turn} />
    </header>
  );
}

/** The pass rate under every source that sampled the turn, in a comparison under every policy; a click shows its samples. */
function SourceRates({ turn }: { turn: number }) {
  const { run, source, params } = useApp();
  const sampled = run.head.sources
    .map((each, number) => ({ ...each, number }))
    .filter(({ number, draw }) => run.row(number, turn) >= 0 && draw === run.head.sources[source]?.draw);
  if (sampled.length < 2) return null;
  return (
    <ul className="source-rates" aria-label="Pass rate by source">
      {sampled.map(({ name, title, policy, number }) => (
        <li key={name}>
          <a
            href={format({ ...params, source: name, sample: "" })}
            aria-current={number === source ? "true" : undefined}
            data-testid={`rate-${name}`}
          >
            {policy ?? title} <Rate rate={run.rate(number, turn)} />
          </a>
        </li>
      ))}
    </ul>
  );
}

function RateWords({ turn }: { turn: number }) {
  const { run, source } = useApp();
  const [passed, failed, unknown] = [
    run.count(source, turn, "passed"),
    run.count(source, turn, "failed"),
    run.count(source, turn, "unknown"),
  ];
  const judged = passed + failed;
  if (run.row(source, turn) < 0) return <span>Not sampled by “{run.sourceTitle(source)}”</span>;
  if (judged === 0) return <span>No verdict on any of {unknown} samples</span>;
  const [low, high] = wilson(passed, judged);
  return (
    <span>
      Pass rate <Rate rate={run.rate(source, turn)} /> · {passed} of {judged} pass
      <span className="quiet" title="Wilson score interval of the pass rate">
        {" "}
        (95 % interval {shortRate(low)} to {shortRate(high)})
      </span>
      {unknown > 0 && ` · ${unknown} without verdict`}
    </span>
  );
}

function Step({
  href,
  name,
  sign,
  hint,
  testId,
}: {
  href: string | undefined;
  name: string;
  sign: string;
  hint: string;
  testId: string;
}) {
  const shared = {
    className: "button quiet-button",
    "aria-label": name,
    title: `${name} (${hint})`,
    "data-testid": testId,
  };
  return href ? (
    <a href={href} {...shared}>
      {sign}
    </a>
  ) : (
    <span {...shared} role="link" aria-disabled="true">
      {sign}
    </span>
  );
}
