import type { TurnState } from "../../data/run";
import type { Only } from "../../filter/filter";

export const OUTCOMES: [TurnState, string][] = [
  ["mixed", "some pass, some fail"],
  ["pass", "all pass"],
  ["fail", "all fail"],
  ["unknown", "no verdict"],
  ["none", "not sampled"],
];

export const ONLY: [Only, string][] = [
  ["pivot", "pivots"],
  ["truncated", "with a sample cut off"],
  ["malformed", "with a malformed sample"],
  ["label", "with my label"],
];
