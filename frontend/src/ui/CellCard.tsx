import { type ReactNode, useEffect, useState } from "react";
import { useApp } from "../context";
import { shortRate } from "../data/rates";

interface Place {
  turn: number;
  left: number;
  top: number;
}

/** Shows what a cell of a strip says, in words, while the pointer or the focus is on it. Esc hides it. */
export function CellCard({ children }: { children: ReactNode }) {
  const [place, setPlace] = useState<Place | null>(null);
  const show = (target: EventTarget) => {
    const cell = target instanceof Element ? target.closest<HTMLElement>(".cell[data-turn]") : null;
    if (!cell) return setPlace(null);
    const box = cell.getBoundingClientRect();
    setPlace({
      turn: Number(cell.dataset.turn),
      left: Math.min(box.left, window.innerWidth - 270),
      top: box.bottom + 8,
    });
  };
  useEffect(() => {
    const hide = (event: Event) => {
      if (event.type === "scroll" || (event as KeyboardEvent).key === "Escape") setPlace(null);
    };
    window.addEventListener("keydown", hide);
    window.addEventListener("scroll", hide, { passive: true });
    return () => {
      window.removeEventListener("keydown", hide);
      window.removeEventListener("scroll", hide);
    };
  }, []);
  return (
    <div
      onPointerOver={(event) => show(event.target)}
      onPointerLeave={() => setPlace(null)}
      onFocus={(event) => show(event.target)}
      onBlur={() => setPlace(null)}
    >
      {children}
      {place && <Card {...place} />}
    </div>
  );
}

function Card({ turn, left, top }: Place) {
  const { run, source } = useApp();
  const state = run.state(source, turn);
  const count = (column: "passed" | "failed" | "unknown") => run.count(source, turn, column);
  const reason = run.reason(source, turn);
  return (
    <div className="card cell-card" role="tooltip" style={{ left: Math.max(8, left), top }}>
      <strong>{run.turnId(turn)}</strong>
      <span>
        Turn {run.index.turns.depth[turn]}, {run.tool(turn)}
      </span>
      {state === "none" ? (
        <span>Not sampled by this source</span>
      ) : (
        <span>
          Pass rate <b>{shortRate(run.rate(source, turn))}</b>: {count("passed")} passed, {count("failed")} failed
          {count("unknown") > 0 && `, ${count("unknown")} without verdict`}
        </span>
      )}
      {reason >= 0 && <span>Most often: {run.reasonWords(reason)}</span>}
      <span className="quiet">{run.statusWords(run.status(turn))}</span>
    </div>
  );
}
