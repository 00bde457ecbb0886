import { useApp } from "../../context";
import { shortRate } from "../../data/rates";
import type { TurnSamples } from "../../data/schema";
import { format, inView } from "../../route/route";
import { FoldedAt } from "../../ui/Folded";
import { Loading } from "../../ui/Loading";
import { Rate } from "../../ui/Rate";
import { useLoaded } from "../../ui/useLoaded";
import { ActionCard } from "../turn/ActionCard";
import { ActView } from "../turn/CallView";
import { toolOf } from "../turn/Context";
import { Message } from "../turn/Message";

/** So that the two sides are on the screen without scrolling. */
const FOLDED_AT = 400;

/** One turn: the expert's action, and what the two policies did there. */
export function SideBySide({ turn, before, after }: { turn: number; before: number; after: number }) {
  const { run, params } = useApp();
  const id = run.turnId(turn);
  const loaded = useLoaded(
    async () => ({
      sides: await Promise.all([before, after].map((source) => run.samples(source, turn))),
      text: await run.trajectoryText(run.trajectoryOf(turn)),
    }),
    [run, turn, before, after],
  );
  return (
    <section className="sides" aria-label={`Turn ${id} before and after`} data-testid="sides">
      <header className="section-head">
        <h2>
          {id} · {run.tool(turn)}
        </h2>
        <a
          className="button quiet-button"
          href={format(inView(params, "turn", { turn: id, source: run.head.sources[after]?.name ?? "" }))}
          data-testid="open-turn"
        >
          Open the turn
        </a>
      </header>
      <Loading of={loaded}>
        {({ sides, text }) => {
          const expected = sides.find(Boolean)?.expected;
          const last = (run.index.turns.message[turn] ?? 0) - 1;
          const message = text.messages[last];
          return (
            <>
              <FoldedAt value={FOLDED_AT}>
                {message && <Message message={message} number={last} tool={toolOf(text.messages, message)} />}
                {expected && (expected.content !== null || expected.calls.length > 0) && (
                  <section className="expected">
                    <h3>Expert action</h3>
                    <ActView act={expected} />
                  </section>
                )}
              </FoldedAt>
              <div className="two-sides">
                <Side source={before} turn={turn} samples={sides[0] ?? null} testId="side-before" />
                <Side source={after} turn={turn} samples={sides[1] ?? null} testId="side-after" />
              </div>
            </>
          );
        }}
      </Loading>
    </section>
  );
}

function Side({
  source,
  turn,
  samples,
  testId,
}: {
  source: number;
  turn: number;
  samples: TurnSamples | null;
  testId: string;
}) {
  const { run } = useApp();
  const rate = run.rate(source, turn);
  return (
    <section
      className="side"
      data-testid={testId}
      aria-label={`${run.sourceTitle(source)}: pass rate ${shortRate(rate)}`}
    >
      <h3>
        {run.sourceTitle(source)} <Rate rate={rate} />
      </h3>
      {samples?.actions.map((action, i) => (
        <ActionCard key={i} turn={turn} action={action} samples={samples} number={i} compact />
      )) ?? <p className="quiet">No samples.</p>}
    </section>
  );
}
