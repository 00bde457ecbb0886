import { mean, variance } from "./rates";
import type { Run } from "./run";

/** What a trajectory's strip is sorted by. */
export interface Summary {
  trajectory: number;
  id: string;
  /** Whether the source has samples at one of its turns. */
  sampled: boolean;
  mean: number | null;
  /** Mean over its turns of the variance of the reward. */
  variance: number | null;
  pivots: number;
  length: number;
  reward: number | null;
}

export type SummaryOrder = "id" | "mean" | "variance" | "pivots" | "length" | "reward";

export function summaries(run: Run, source: number): Summary[] {
  return run.index.trajectories.id.map((id, trajectory) => {
    const turns = run.turnsOf(trajectory);
    const rates = turns.map((turn) => run.rate(source, turn)).filter((rate) => rate !== null);
    return {
      trajectory,
      id,
      sampled: turns.some((turn) => run.row(source, turn) >= 0),
      mean: mean(rates),
      variance: mean(rates.map(variance)),
      pivots: turns.filter((turn) => run.isPivot(turn)).length,
      length: turns.length,
      reward: run.index.trajectories.reward[trajectory] ?? null,
    };
  });
}

const names = new Intl.Collator("en", { numeric: true });

/** Numbers come largest first, ids in natural order; "-mean" turns the order around. Unknown and, by id, what was not
 * sampled is always last. */
export function sortSummaries(list: Summary[], order: string): Summary[] {
  const backwards = order.startsWith("-");
  const key = (backwards ? order.slice(1) : order) as SummaryOrder;
  const sign = backwards ? -1 : 1;
  return [...list].sort((a, b) => {
    if (key === "id") return Number(b.sampled) - Number(a.sampled) || sign * names.compare(a.id, b.id);
    const [x, y] = [a[key], b[key]];
    if (x === null || y === null) return Number(x === null) - Number(y === null) || names.compare(a.id, b.id);
    return sign * (y - x) || names.compare(a.id, b.id);
  });
}
