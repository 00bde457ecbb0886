import { useApp } from "../../context";
import type { Run } from "../../data/run";
import { CellCard } from "../../ui/CellCard";
import { Loading } from "../../ui/Loading";
import { Strip } from "../../ui/Strip";
import { useLoaded } from "../../ui/useLoaded";
import { Context } from "./Context";
import { Decision } from "./Decision";
import { History } from "./History";
import { LabelEditor } from "./LabelEditor";
import { TurnHead } from "./TurnHead";

/** One turn: on the left what the model saw, on the right what it did there and what became of it. */
export function TurnPage() {
  const { run, params } = useApp();
  const turn = run.findTurn(params.turn ?? "");
  if (turn === undefined) {
    return (
      <p className="nothing">
        The run has no turn <code>{params.turn}</code>. The link may be from another run.
      </p>
    );
  }
  return <Turn run={run} turn={turn} />;
}

function Turn({ run, turn }: { run: Run; turn: number }) {
  const { source } = useApp();
  const trajectory = run.trajectoryOf(turn);
  const text = useLoaded(() => run.trajectoryText(trajectory), [run, trajectory]);
  const samples = useLoaded(async () => ({ turn, samples: await run.samples(source, turn) }), [run, source, turn]);
  return (
    <article className="turn">
      <TurnHead turn={turn} />
      <CellCard>
        <Strip trajectory={trajectory} current={turn} dim={false} />
      </CellCard>
      <div className="turn-columns">
        <section className="turn-context" aria-labelledby="context-title">
          <Loading of={text}>{(value) => <Context key={turn} text={value} turn={turn} />}</Loading>
        </section>
        <section id="decision" className="turn-decision" aria-label="Decision">
          <Loading of={text}>
            {(value) => (
              <Loading of={samples}>
                {(loaded) =>
                  loaded.turn === turn && (
                    <Decision
                      turn={turn}
                      message={value.messages[run.index.turns.message[turn] ?? -1]}
                      samples={loaded.samples}
                    />
                  )
                }
              </Loading>
            )}
          </Loading>
          <History turn={turn} />
          <LabelEditor turn={turn} />
        </section>
      </div>
    </article>
  );
}
