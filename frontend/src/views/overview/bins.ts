import type { Run } from "../../data/run";

/** One bar of the histogram of pass rates. */
export interface Bin {
  label: string;
  rate: number | null;
  turns: number;
  pivots: number;
  /** What a click sets in the location. */
  filter: { rate: string; outcome: string };
}

/** Bars at 0, 1/n, ..., 1 for n samples a turn (at most 10 steps), and one for turns without a verdict. 0 and 1 are exact. */
export function bins(run: Run, source: number): Bin[] {
  const n = Math.max(2, Math.min(10, commonCount(run, source)));
  const list: Bin[] = Array.from({ length: n + 1 }, (_, k) => ({
    label: k === 0 ? "0" : k === n ? "1" : (k / n).toFixed(2).replace(/^0|0$/g, ""),
    rate: k / n,
    turns: 0,
    pivots: 0,
    filter:
      k === 0
        ? { rate: "", outcome: "fail" }
        : k === n
          ? { rate: "", outcome: "pass" }
          : { rate: between(k, n), outcome: "mixed" },
  }));
  const unknown: Bin = {
    label: "no verdict",
    rate: null,
    turns: 0,
    pivots: 0,
    filter: { rate: "", outcome: "unknown" },
  };
  for (let turn = 0; turn < run.numTurns; turn++) {
    const state = run.state(source, turn);
    if (state === "none") continue;
    const bin = state === "unknown" ? unknown : list[binOf(run.rate(source, turn) ?? 0, n)];
    if (!bin) continue;
    bin.turns++;
    if (run.isPivot(turn)) bin.pivots++;
  }
  return unknown.turns > 0 ? [...list, unknown] : list;
}

export function binOf(rate: number, n: number): number {
  if (rate <= 0) return 0;
  if (rate >= 1) return n;
  return Math.min(n - 1, Math.max(1, Math.round(rate * n)));
}

function between(k: number, n: number): string {
  const low = k === 1 ? 0 : (k - 0.5) / n;
  const high = k === n - 1 ? 1 : (k + 0.5) / n - 0.001;
  return `${low.toFixed(3)}..${high.toFixed(3)}`.replace(/\.?0+(?=\.\.|$)/g, "");
}

function commonCount(run: Run, source: number): number {
  const results = run.index.results[source];
  const counts = new Map<number, number>();
  results?.passed.forEach((passed, row) => {
    const judged = passed + (results.failed[row] ?? 0);
    counts.set(judged, (counts.get(judged) ?? 0) + 1);
  });
  return [...counts].sort(([, a], [, b]) => b - a)[0]?.[0] ?? 8;
}
