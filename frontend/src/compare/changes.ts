import type { Run } from "../data/run";
import type { Params } from "../route/route";

/** One turn under two policies. */
export interface Change {
  turn: number;
  before: number;
  after: number;
  change: number;
}

export interface Comparison {
  changes: Change[];
  better: number;
  worse: number;
  same: number;
  mean: number | null;
  /** Turns that only one of the two could judge: they are left out. */
  unpaired: number;
}

/** The pair that a reader most likely means: where something changed, with the other run if there is one, and of two
 * evaluations before anything else. Two runs have mostly the same policy before training, so the last such pair counts. */
export function mainPair(run: Run): number {
  const { pairs, sources } = run.head;
  const evaluated = (source: number) => sources[source]?.kind === "evaluation";
  const isOther = (source: number) => sources[source]?.name.startsWith("run ") ?? false;
  const points = pairs.map(([before, after]) => {
    const { better, worse } = compare(run, before, after);
    const changed = 4 * Number(better + worse > 0);
    return changed + 2 * Number(isOther(after)) + Number(evaluated(before) && evaluated(after));
  });
  const most = Math.max(...points);
  const last = points.lastIndexOf(most);
  return Math.max(0, isOther(pairs[last]?.[1] ?? -1) ? last : points.indexOf(most));
}

/** The two sources that the location names, or else one of the pairs. */
export function pairOf(run: Run, params: Params): [before: number, after: number] | undefined {
  const numberOf = (name: string | undefined) => run.head.sources.findIndex((source) => source.name === name);
  const [before, after] = [numberOf(params.before), numberOf(params.after)];
  if (before >= 0 && after >= 0) return [before, after];
  const pair = run.head.pairs[Number(params.pair ?? NaN)] ?? run.head.pairs[mainPair(run)];
  return pair && [pair[0], pair[1]];
}

export type ChangeOrder = "loss" | "gain" | "run";

export function compare(run: Run, before: number, after: number): Comparison {
  const changes: Change[] = [];
  let unpaired = 0;
  for (let turn = 0; turn < run.numTurns; turn++) {
    const [from, to] = [run.rate(before, turn), run.rate(after, turn)];
    if (from !== null && to !== null) changes.push({ turn, before: from, after: to, change: to - from });
    else if (run.row(before, turn) >= 0 || run.row(after, turn) >= 0) unpaired++;
  }
  const better = changes.filter(({ change }) => change > 0).length;
  const worse = changes.filter(({ change }) => change < 0).length;
  const sum = changes.reduce((total, { change }) => total + change, 0);
  return {
    changes,
    better,
    worse,
    same: changes.length - better - worse,
    mean: changes.length ? sum / changes.length : null,
    unpaired,
  };
}

export function sortChanges(changes: Change[], order: ChangeOrder): Change[] {
  if (order === "run") return changes;
  const sign = order === "loss" ? 1 : -1;
  return [...changes].sort((a, b) => sign * (a.change - b.change) || a.turn - b.turn);
}
