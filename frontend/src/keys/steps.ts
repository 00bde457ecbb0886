import type { Run } from "../data/run";

/** The turn to go to from `turn`, or undefined at the end of the run. */
export function step(run: Run, turn: number, by: 1 | -1, stops: (turn: number) => boolean): number | undefined {
  for (let next = turn + by; next >= 0 && next < run.numTurns; next += by) if (stops(next)) return next;
  return undefined;
}

export function inTrajectory(run: Run, turn: number, by: 1 | -1): number | undefined {
  const next = turn + by;
  return next >= 0 && next < run.numTurns && run.trajectoryOf(next) === run.trajectoryOf(turn) ? next : undefined;
}

/** First turn of the next or previous trajectory that has turns. */
export function otherTrajectory(run: Run, turn: number, by: 1 | -1): number | undefined {
  const other = step(run, turn, by, (each) => run.trajectoryOf(each) !== run.trajectoryOf(turn));
  return other === undefined ? undefined : run.turnsOf(run.trajectoryOf(other))[0];
}
