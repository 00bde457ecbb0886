import type { Comparison, Policy } from "../data/schema";

export type Axis = "harm" | "rollout_turns" | "seconds" | "step";

export type Value = Policy["values"][string];
export const UNKNOWN: Value = [null, null, null, null];

/** A measure in words: shares in percent, changes of them in points, nats with three digits. */
export function amount(unit: "share" | "nats", value: number | null | undefined, sign = false): string {
  if (value === null || value === undefined) return "–";
  const text = unit === "share" ? Math.abs(100 * value).toFixed(1) : Math.abs(value).toFixed(3);
  const isZero = Number(text) === 0;
  return `${isZero ? "" : value < 0 ? "−" : sign ? "+" : ""}${text}`;
}

/** "+3.1 [−0.2, +6.4]". */
export function changeWords(unit: "share" | "nats", [, change, low, high]: Value): string {
  if (change === null) return "";
  return `${amount(unit, change, true)} [${amount(unit, low, true)}, ${amount(unit, high, true)}]`;
}

/** Where a policy lies on the axis; null where that was not measured. Forgetting is a change. */
export function placeOn(comparison: Comparison, policy: Policy, axis: Axis): number | null {
  if (axis !== "harm") return policy[axis];
  if (comparison.harm === null) return null;
  return policy.method < 0 ? 0 : (policy.values[comparison.harm]?.[1] ?? null);
}

export function scoreOf(comparison: Comparison, policy: Policy): number | null {
  return policy.values[comparison.score]?.[0] ?? null;
}

/** The lines of a method: over costs one for each rate, by updates; over forgetting the points that no other beats with less. */
export function linesOf(comparison: Comparison, method: number, axis: Axis): Policy[][] {
  const own = comparison.policies.filter((policy) => policy.method === method);
  const known = own.filter((policy) => placeOn(comparison, policy, axis) !== null);
  if (axis !== "harm") {
    const rates = [...new Set(known.map(({ rate }) => rate))];
    return rates.map((rate) => known.filter((policy) => policy.rate === rate).sort((a, b) => a.step - b.step));
  }
  const sorted = [...known].sort((a, b) => (placeOn(comparison, a, axis) ?? 0) - (placeOn(comparison, b, axis) ?? 0));
  let best = -Infinity;
  return [
    sorted.filter((policy) => {
      const score = scoreOf(comparison, policy) ?? -Infinity;
      if (score <= best) return false;
      best = score;
      return true;
    }),
  ];
}

/** Before training, and of each method the policy that validation chose. */
export function mainPolicies(comparison: Comparison): Policy[] {
  return comparison.policies.filter(({ method, best }) => method < 0 || best);
}
