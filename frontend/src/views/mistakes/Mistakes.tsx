import { useMemo } from "react";
import { useApp } from "../../context";
import type { Cluster } from "../../data/schema";
import { format, inView, withoutFilters } from "../../route/route";
import { Code } from "../../ui/Code";
import { FoldedAt } from "../../ui/Folded";
import { Id } from "../../ui/Id";
import { ActView } from "../turn/CallView";

const TURNS_SHOWN = 4;
const FOLDED_AT = 400;

type Numbered = Cluster & { number: number };

/** Equal wrong actions over all turns, commonest first, each with the turns where it occurs. */
export function Mistakes() {
  const { run, source } = useApp();
  const list = useMemo<Numbered[]>(
    () =>
      run.index.clusters
        .map((cluster, number) => ({ ...cluster, number }))
        .filter((cluster) => cluster.source === source),
    [run, source],
  );
  const most = list[0]?.count ?? 1;
  return (
    <>
      <div className="table-title">
        <h1>Mistakes</h1>
        <p className="quiet">Wrong actions of “{run.sourceTitle(source)}” that are equal, commonest first.</p>
      </div>
      {list.length === 0 && <p className="nothing">This source has no wrong actions that were counted.</p>}
      <FoldedAt value={FOLDED_AT}>
        <ol className="clusters" data-testid="clusters">
          {list.map((cluster) => (
            <Mistake key={cluster.number} cluster={cluster} most={most} />
          ))}
        </ol>
      </FoldedAt>
    </>
  );
}

function Mistake({ cluster, most }: { cluster: Numbered; most: number }) {
  const { run, params } = useApp();
  const { number, count, act, text, reason, tool, turns } = cluster;
  const isRead = act.calls.length > 0 || Boolean(act.content?.trim());
  return (
    <li data-testid={`cluster-${number}`}>
      <p className="cluster-count">
        <b>{count}</b> ×
        <span className="action-bar" aria-hidden="true">
          <span style={{ width: `${(100 * count) / most}%` }} />
        </span>
      </p>
      <div className="cluster-text">
        <p>
          {reason >= 0 && run.reasonWords(reason)}
          <span className="quiet"> · the expert {tool ? `calls ${run.index.tools[tool]}` : "writes a message"}</span>
        </p>
        {isRead ? <ActView act={act} /> : text.trim() ? <Code text={text} /> : <p className="quiet">(empty)</p>}
        <p className="cluster-turns">
          {turns.slice(0, TURNS_SHOWN).map((turn) => (
            <a
              key={turn}
              href={format(inView(params, "turn", { turn: run.turnId(turn) }))}
              data-testid={`cluster-turn-${run.turnId(turn)}`}
            >
              <Id id={run.turnId(turn)} />
            </a>
          ))}
          {turns.length > TURNS_SHOWN && (
            <a
              href={format(inView(withoutFilters(params), "turns", { cluster: String(number) }))}
              data-testid={`cluster-all-${number}`}
            >
              all {turns.length} turns
            </a>
          )}
        </p>
      </div>
    </li>
  );
}
