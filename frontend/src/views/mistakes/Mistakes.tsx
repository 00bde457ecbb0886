import { useMemo } from "react";
import { useApp } from "../../context";
import { format, inView, withoutFilters } from "../../route/route";
import { LogText } from "../../ui/LogText";

/** Equal wrong actions over all turns, commonest first. One click shows their turns. */
export function Mistakes() {
  const { run, source, params } = useApp();
  const list = useMemo(
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
        <p className="quiet">
          Wrong actions of “{run.sourceTitle(source)}” that are equal, commonest first. Click one to see its turns.
        </p>
      </div>
      {list.length === 0 && <p className="nothing">This source has no wrong actions that were counted.</p>}
      <ol className="clusters" data-testid="clusters">
        {list.map((cluster) => (
          <li key={cluster.number}>
            <a
              href={format(inView(withoutFilters(params), "turns", { cluster: String(cluster.number) }))}
              data-testid={`cluster-${cluster.number}`}
            >
              <span className="cluster-count">
                <b>{cluster.count}</b> ×{" "}
                <span className="quiet">
                  in {cluster.turns.length} {cluster.turns.length === 1 ? "turn" : "turns"}
                </span>
                <span className="action-bar" aria-hidden="true">
                  <span style={{ width: `${(100 * cluster.count) / most}%` }} />
                </span>
              </span>
              <span className="cluster-text">
                <span>
                  {cluster.reason >= 0 && run.reasonWords(cluster.reason)}{" "}
                  <span className="quiet">· expert: {run.index.tools[cluster.tool] || "a message"}</span>
                </span>
                <code>
                  <LogText
                    text={
                      cluster.action.length > 300 ? `${cluster.action.slice(0, 300)}…` : cluster.action || "(empty)"
                    }
                  />
                </code>
              </span>
            </a>
          </li>
        ))}
      </ol>
    </>
  );
}
