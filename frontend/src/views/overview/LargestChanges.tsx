import { useMemo } from "react";
import { compare, mainPair, sortChanges } from "../../compare/changes";
import { useApp } from "../../context";
import { signed } from "../../data/rates";
import { format, inView } from "../../route/route";
import { Rate } from "../../ui/Rate";

/** The largest loss and the largest gain of each pair, the pair that Compare opens with first. */
export function LargestChanges() {
  const { run, params } = useApp();
  const rows = useMemo(() => {
    const main = mainPair(run);
    const all = run.head.pairs.map(([before, after, title], pair) => {
      const { changes } = compare(run, before, after);
      return { pair, title, loss: sortChanges(changes, "loss")[0], gain: sortChanges(changes, "gain")[0] };
    });
    return all.sort((a, b) => Number(b.pair === main) - Number(a.pair === main));
  }, [run]);
  if (rows.length === 0) return null;
  return (
    <section aria-labelledby="changes-title" className="largest">
      <h2 id="changes-title">Largest changes</h2>
      {rows.map(({ pair, title, loss, gain }) => (
        <div key={pair}>
          <h3>{title}</h3>
          {(loss?.change ?? 0) >= 0 && (gain?.change ?? 0) <= 0 && <p className="quiet">No turn changed.</p>}
          <ul>
            {(["loss", "gain"] as const).map((kind) => {
              const found = kind === "loss" ? loss : gain;
              if (!found || (kind === "loss" ? found.change >= 0 : found.change <= 0)) return null;
              return (
                <li key={kind}>
                  Largest {kind}:{" "}
                  <a
                    href={format(
                      inView(params, "compare", { pair: String(pair), order: kind, turn: run.turnId(found.turn) }),
                    )}
                    data-testid={`largest-${kind}-${pair}`}
                  >
                    {run.turnId(found.turn)}
                  </a>{" "}
                  <Rate rate={found.before} /> → <Rate rate={found.after} /> <b>{signed(found.change)}</b>
                </li>
              );
            })}
          </ul>
        </div>
      ))}
    </section>
  );
}
