/**
 * The location hash says what is on the screen, so that a link opens the same place again. Its keys are the contract that
 * README.md lists.
 */
export const FILTER_KEYS = [
  "q",
  "in",
  "tool",
  "reason",
  "status",
  "outcome",
  "split",
  "rate",
  "depth",
  "only",
  "cluster",
] as const;
const VIEW_KEYS = [
  "turn",
  "sample",
  "show",
  "channel",
  "trajectory",
  "at",
  "pair",
  "before",
  "after",
  "order",
] as const;
const KEYS = ["view", "source", ...VIEW_KEYS, "sort", "rows", ...FILTER_KEYS] as const;

export type Key = (typeof KEYS)[number];
export type Params = { [key in Key]?: string };

export const VIEWS = ["overview", "turns", "compare", "mistakes", "turn", "play"] as const;
export type View = (typeof VIEWS)[number];

export function parse(hash: string): Params {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const params: Params = {};
  for (const key of KEYS) {
    const value = given.get(key);
    if (value) params[key] = value;
  }
  return params;
}

export function format(params: Params): string {
  const given = new URLSearchParams();
  for (const key of KEYS) {
    const value = params[key];
    if (value) given.set(key, value);
  }
  return `#${given.toString()}`;
}

export function viewOf(params: Params): View {
  return VIEWS.find((view) => view === params.view) ?? "overview";
}

/** Another view with the same source, order and filters. */
export function inView(params: Params, view: View, patch: Params = {}): Params {
  const next: Params = { ...params };
  for (const key of VIEW_KEYS) delete next[key];
  return { ...next, view, ...patch };
}

export function withoutFilters(params: Params): Params {
  const next: Params = { ...params };
  for (const key of FILTER_KEYS) delete next[key];
  return next;
}
