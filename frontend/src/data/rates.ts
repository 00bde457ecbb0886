/** Variance of a 0/1 reward with this mean: largest at 0.5, and 0 where a turn teaches nothing. */
export function variance(rate: number): number {
  return rate * (1 - rate);
}

/** Wilson score interval of a proportion at 95 %. */
export function wilson(successes: number, total: number): [low: number, high: number] {
  const z = 1.959964;
  const share = successes / total;
  const scale = 1 + (z * z) / total;
  const centre = (share + (z * z) / (2 * total)) / scale;
  const half = (z / scale) * Math.sqrt((share * (1 - share)) / total + (z * z) / (4 * total * total));
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

export function mean(numbers: number[]): number | null {
  return numbers.length === 0 ? null : numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
}

/** "0.25", "1", "–" for unknown. */
export function shortRate(rate: number | null | undefined): string {
  return rate === null || rate === undefined ? "–" : rate === 0 || rate === 1 ? String(rate) : rate.toFixed(2);
}

export function signed(change: number | null): string {
  if (change === null) return "–";
  if (change === 0) return "0";
  return Math.abs(change) < 0.005 ? "0.00" : `${change > 0 ? "+" : "−"}${Math.abs(change).toFixed(2)}`;
}
