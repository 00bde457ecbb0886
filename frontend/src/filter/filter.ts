import type { Run, TurnState } from "../data/run";
import type { Params } from "../route/route";

export type Only = "pivot" | "truncated" | "malformed" | "label";

/** What turns must satisfy to be shown. The full text (`q`) is matched elsewhere, because it takes time. */
export interface Filter {
  tool?: string;
  reason?: string;
  status?: string;
  outcome?: TurnState;
  split?: string;
  rate?: [low: number, high: number];
  depth?: [low: number, high: number];
  cluster?: number;
  only: Set<Only>;
}

export function filterOf(params: Params): Filter {
  const filter: Filter = { only: new Set((params.only ?? "").split(",").filter(Boolean) as Only[]) };
  if (params.tool) filter.tool = params.tool;
  if (params.reason) filter.reason = params.reason;
  if (params.status) filter.status = params.status;
  if (params.outcome) filter.outcome = params.outcome as TurnState;
  if (params.split) filter.split = params.split;
  const rate = range(params.rate, 0, 1);
  if (rate) filter.rate = rate;
  const depth = range(params.depth, 1, Infinity);
  if (depth) filter.depth = depth;
  if (params.cluster && /^\d+$/.test(params.cluster)) filter.cluster = Number(params.cluster);
  return filter;
}

/** "0.2..0.8", "..3" or "4.."; undefined if it is none of these. */
export function range(text: string | undefined, least: number, most: number): [number, number] | undefined {
  const parts = text?.match(/^([\d.]*?)\.\.([\d.]*)$/);
  if (!parts) return undefined;
  const low = parts[1] ? Number(parts[1]) : least;
  const high = parts[2] ? Number(parts[2]) : most;
  return Number.isNaN(low) || Number.isNaN(high) ? undefined : [low, high];
}

export function formatRange(low: string, high: string): string {
  return low || high ? `${low}..${high}` : "";
}

/** Turns that satisfy the filter, in the order of the run. */
export function matching(run: Run, source: number, filter: Filter, labelled: (turnId: string) => boolean): number[] {
  const test = compile(run, source, filter, labelled);
  const turns: number[] = [];
  for (let turn = 0; turn < run.numTurns; turn++) if (test(turn)) turns.push(turn);
  return turns;
}

function compile(
  run: Run,
  source: number,
  filter: Filter,
  labelled: (turnId: string) => boolean,
): (turn: number) => boolean {
  const { turns, trajectories, clusters } = run.index;
  const tests: ((turn: number) => boolean)[] = [];
  const { tool, reason, status, outcome, split, rate, depth, cluster, only } = filter;
  if (tool !== undefined) tests.push((turn) => run.tool(turn) === tool);
  if (reason !== undefined) tests.push((turn) => run.code(run.reason(source, turn)) === reason);
  if (status !== undefined) tests.push((turn) => run.code(run.status(turn)) === status);
  if (outcome !== undefined) tests.push((turn) => run.state(source, turn) === outcome);
  if (split !== undefined) tests.push((turn) => trajectories.split[run.trajectoryOf(turn)] === split);
  if (rate !== undefined) tests.push((turn) => within(run.rate(source, turn), rate));
  if (depth !== undefined) tests.push((turn) => within(turns.depth[turn] ?? null, depth));
  if (cluster !== undefined) {
    const members = new Set(clusters[cluster]?.turns);
    tests.push((turn) => members.has(turn));
  }
  if (only.has("pivot")) tests.push((turn) => run.isPivot(turn));
  if (only.has("truncated")) tests.push((turn) => run.count(source, turn, "cut_off") > 0);
  if (only.has("malformed")) tests.push((turn) => run.count(source, turn, "malformed") > 0);
  if (only.has("label")) tests.push((turn) => labelled(run.turnId(turn)));
  return (turn) => tests.every((test) => test(turn));
}

function within(value: number | null, [low, high]: [number, number]): boolean {
  return value !== null && value >= low - 1e-9 && value <= high + 1e-9;
}
