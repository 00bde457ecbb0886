import { memo } from "react";
import { shortRate } from "../data/rates";
import type { Run } from "../data/run";
import { rateColour } from "./colour";

interface Props {
  run: Run;
  source: number;
  turn: number;
  href: string;
  current: boolean;
  dimmed: boolean;
  tabbable: boolean;
  labelled: boolean;
}

/** One turn in a strip: colour is the pass rate, hatching no verdict, an outline not sampled, a bar below it a pivot. */
export const Cell = memo(function Cell({ run, source, turn, href, current, dimmed, tabbable, labelled }: Props) {
  const state = run.state(source, turn);
  const rate = run.rate(source, turn);
  const classes = [
    "cell",
    state,
    run.isPivot(turn) && "pivot",
    current && "current",
    dimmed && "dimmed",
    labelled && "labelled",
  ];
  return (
    <a
      href={href}
      className={classes.filter(Boolean).join(" ")}
      style={rate === null ? {} : { backgroundColor: rateColour(rate) }}
      aria-label={cellWords(run, source, turn)}
      aria-current={current ? "true" : undefined}
      tabIndex={tabbable ? 0 : -1}
      data-turn={turn}
      data-testid={`cell-${run.turnId(turn)}`}
    />
  );
});

export function cellWords(run: Run, source: number, turn: number): string {
  const state = run.state(source, turn);
  const rate = run.rate(source, turn);
  const result = state === "none" ? "not sampled" : rate === null ? "no verdict" : `pass rate ${shortRate(rate)}`;
  return `Turn ${run.index.turns.depth[turn]}, ${run.tool(turn)}: ${result}${run.isPivot(turn) ? ", pivot" : ""}`;
}
