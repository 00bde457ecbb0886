import { type KeyboardEvent, memo } from "react";
import { useApp, useLabels } from "../context";
import { format, inView } from "../route/route";
import { kept } from "../keys/useGlobalKeys";
import { Cell } from "./Cell";

interface Props {
  trajectory: number;
  current?: number;
  /** Turns that do not match the filters are pale. */
  dim: boolean;
  /** The source to show, where that is not the chosen one. */
  of?: number;
}

/** The turns of a trajectory, in order. One of its cells is in the tab order; arrow keys move between them. */
export const Strip = memo(function Strip({ trajectory, current, dim, of }: Props) {
  const { run, source: chosen, params, matches } = useApp();
  const source = of ?? chosen;
  const name = of === undefined ? {} : { source: run.head.sources[of]?.name ?? "" };
  const labels = useLabels();
  const turns = run.turnsOf(trajectory);
  const tabbable = current ?? turns[0];
  return (
    <div className="strip" role="group" aria-label={`Turns of ${run.trajectoryId(trajectory)}`} onKeyDown={moveFocus}>
      {turns.map((turn) => (
        <Cell
          key={turn}
          run={run}
          source={source}
          turn={turn}
          href={format(inView(params, "turn", { turn: run.turnId(turn), ...name, ...kept(params) }))}
          current={turn === current}
          dimmed={dim && !matches.set.has(turn)}
          tabbable={turn === tabbable}
          labelled={labels.has(run.turnId(turn))}
        />
      ))}
    </div>
  );
});

function moveFocus(event: KeyboardEvent): void {
  if (!(event.target instanceof HTMLElement) || !event.target.classList.contains("cell")) return;
  const next =
    event.key === "ArrowRight"
      ? event.target.nextElementSibling
      : event.key === "ArrowLeft"
        ? event.target.previousElementSibling
        : null;
  if (!(next instanceof HTMLElement)) return;
  event.preventDefault();
  next.focus();
}
