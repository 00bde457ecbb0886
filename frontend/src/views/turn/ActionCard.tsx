import { useEffect, useRef, useState } from "react";
import { actText } from "../../actions/actText";
import { useApp, useLabels } from "../../context";
import { shortRate } from "../../data/rates";
import type { Act, Outcome, SampledAction, TurnSamples } from "../../data/schema";
import { labelOf } from "../../labels/labels";
import { Code } from "../../ui/Code";
import { LogText } from "../../ui/LogText";
import { ActView } from "./CallView";
import { Difference } from "./Difference";
import { SampleList } from "./SampleList";

export const OUTCOME_WORDS: Record<Outcome, [sign: string, words: string]> = {
  pass: ["✓", "passes"],
  fail: ["✕", "fails"],
  no_verdict: ["?", "no verdict"],
  partial: ["◐", "partly passes"],
};

interface Props {
  turn: number;
  action: SampledAction;
  samples: TurnSamples;
  number: number;
  compact?: boolean;
}

/** Equal samples: how many, what became of them and why, and how they differ from what is accepted. */
export function ActionCard({ turn, action, samples, number, compact = false }: Props) {
  const { run, params } = useApp();
  const total = samples.actions.reduce((sum, each) => sum + each.count, 0);
  const [sign, words] = OUTCOME_WORDS[action.outcome];
  const linked = !compact && action.samples.some((sample) => String(sample.number) === params.sample);
  const place = useRef<HTMLElement>(null);
  const [open, setOpen] = useState(linked);
  useEffect(() => {
    if (!linked) return;
    setOpen(true);
    place.current?.scrollIntoView({ block: "center" });
  }, [linked]);
  const heat = !compact && params.channel !== undefined && action.samples.some((sample) => sample.heat);
  return (
    <article
      ref={place}
      className={`action ${action.outcome}`}
      aria-label={`${action.count} of ${total}: ${words}`}
      data-testid={`action-${number}`}
    >
      <header>
        <span className="action-count">
          <b>{action.count}</b> of {total}
        </span>
        <span className="action-bar" aria-hidden="true">
          <span style={{ width: `${(100 * action.count) / total}%` }} />
        </span>
        <span className="outcome">
          <span aria-hidden="true">{sign}</span> {words}
        </span>
        {action.reward !== null && <span className="quiet">reward {shortRate(action.reward)}</span>}
        {!compact && <AcceptButton turn={turn} action={action} number={number} />}
      </header>
      {(action.reason >= 0 || action.detail) && !(action.outcome === "pass" && isReference(action, samples)) && (
        <p className="why">
          {action.reason >= 0 && run.reasonWords(action.reason)}
          {action.reason >= 0 && action.detail && ": "}
          <LogText text={action.detail} />
        </p>
      )}
      <ActionBody action={action} samples={samples} />
      {!compact && (
        <details open={open || heat} onToggle={(event) => setOpen(event.currentTarget.open)} className="sample-list">
          <summary data-testid={`samples-of-${number}`}>
            {action.samples.length} {action.samples.length === 1 ? "sample" : "samples"} as drawn
          </summary>
          {(open || heat) && <SampleList action={action} turn={turn} />}
        </details>
      )}
    </article>
  );
}

function nearestOf(action: SampledAction, samples: TurnSamples): Act | undefined {
  return action.nearest === -1 ? samples.expected : samples.accepted[action.nearest];
}

/** The very action that is accepted: why it passes goes without saying. */
function isReference(action: SampledAction, samples: TurnSamples): boolean {
  const nearest = nearestOf(action, samples);
  return nearest !== undefined && actText(nearest) !== "" && actText(nearest) === actText(action.act);
}

function ActionBody({ action, samples }: { action: SampledAction; samples: TurnSamples }) {
  const nearest = nearestOf(action, samples);
  const name = action.nearest === -1 ? "the expert action" : `accepted action ${action.nearest + 1}`;
  const reference = nearest ? actText(nearest) : "";
  if (!actText(action.act)) return <Unread text={action.text} />;
  if (!reference) return <ActView act={action.act} />;
  if (isReference(action, samples)) return <p className="quiet">Equal to {name}.</p>;
  return (
    <Difference
      accepted={reference}
      sampled={actText(action.act)}
      name={name}
      otherwise={<ActView act={action.act} />}
    />
  );
}

function Unread({ text }: { text: string }) {
  if (!text.trim()) return <p className="quiet">The sample is empty.</p>;
  return (
    <>
      <p className="quiet small">No action could be read from this text:</p>
      <Code text={text} />
    </>
  );
}

function AcceptButton({ turn, action, number }: { turn: number; action: SampledAction; number: number }) {
  const { run, labels, say } = useApp();
  const id = run.turnId(turn);
  const { accept } = labelOf(useLabels(), id);
  const text = actText(action.act);
  const accepted = accept.some((act) => actText(act) === text);
  if (action.outcome === "pass" || !text || !run.isToTrainOn(turn)) return null;
  const toggle = () => {
    labels.update(id, { accept: accepted ? accept.filter((act) => actText(act) !== text) : [...accept, action.act] });
    say(accepted ? "No longer accepted." : "Accepted too, once the labels are used in pivotrl select.");
  };
  return (
    <button
      type="button"
      className="button quiet-button accept"
      aria-pressed={accepted}
      onClick={toggle}
      data-testid={`accept-${number}`}
    >
      {accepted ? "✓ accepted too" : "Accept this too"}
    </button>
  );
}
