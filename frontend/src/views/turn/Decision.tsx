import { useApp } from "../../context";
import type { Msg, TurnSamples } from "../../data/schema";
import { change } from "../../route/useRoute";
import { Choice } from "../../ui/Choice";
import { ActionCard } from "./ActionCard";
import { ActView } from "./CallView";
import { CHANNELS, HeatLegend } from "./Heat";

/** The demonstrated action, accepted alternatives, and what the policy did instead, grouped by equal action. */
export function Decision({
  turn,
  message,
  samples,
}: {
  turn: number;
  message: Msg | undefined;
  samples: TurnSamples | null;
}) {
  const { run, source, params } = useApp();
  const expected = samples?.expected ?? (message ? { content: message.content, calls: message.calls } : null);
  const demonstrated = expected && (expected.calls.length > 0 || expected.content !== null);
  const channels = run.head.heat;
  const channel = channels.find((each) => each === params.channel);
  const hasHeat = samples?.actions.some((action) => action.samples.some((sample) => sample.heat)) ?? false;
  return (
    <>
      {demonstrated && (
        <section className="expected" data-testid="expected">
          <h2>Expert action</h2>
          <ActView act={expected} />
        </section>
      )}
      {samples?.accepted.map((act, i) => (
        <section key={i} className="expected" data-testid={`accepted-${i}`}>
          <h2>Also accepted ({i + 1})</h2>
          <ActView act={act} />
        </section>
      ))}
      <section className="samples" aria-labelledby="samples-title">
        <div className="section-head">
          <h2 id="samples-title">
            {samples
              ? `${count(samples)} samples, ${samples.actions.length} different ${samples.actions.length === 1 ? "action" : "actions"}`
              : "No samples"}
          </h2>
          {hasHeat && (
            <Choice
              label="Token heat"
              value={channel ?? "off"}
              options={[["off", "no heat"], ...channels.map((each): [string, string] => [each, CHANNELS[each].name])]}
              onChange={(value) => change({ ...params, channel: value === "off" ? "" : value })}
              testId="heat"
            />
          )}
        </div>
        {hasHeat && channel && <HeatLegend channel={channel} />}
        {!samples && (
          <p className="quiet">
            “{run.sourceTitle(source)}” did not sample this turn. Another source may have; the keys [ and ] change it.
          </p>
        )}
        {samples?.actions.map((action, i) => (
          <ActionCard key={i} turn={turn} action={action} samples={samples} number={i} />
        ))}
      </section>
    </>
  );
}

function count(samples: TurnSamples): number {
  return samples.actions.reduce((sum, action) => sum + action.count, 0);
}
