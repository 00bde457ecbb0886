import { createContext, useContext, useSyncExternalStore } from "react";
import type { Run } from "./data/run";
import type { Conflict, Labels, LabelStore } from "./labels/labels";
import type { Params } from "./route/route";
import type { Progress, Search } from "./search/client";

export interface Matches {
  /** Turns that satisfy filters and query, in the order of the run. */
  turns: number[];
  set: ReadonlySet<number>;
  filtered: boolean;
  query: string;
  searching: boolean;
  milliseconds: number | null;
}

export interface AppState {
  run: Run;
  search: Search;
  labels: LabelStore;
  params: Params;
  source: number;
  matches: Matches;
  /** Says something in the status line, for a few seconds. */
  say: (text: string) => void;
}

export const AppContext = createContext<AppState | null>(null);

export function useApp(): AppState {
  const state = useContext(AppContext);
  if (!state) throw new Error("used outside the app");
  return state;
}

export function useLabels(): Labels {
  const { labels } = useApp();
  return useSyncExternalStore(labels.subscribe, labels.snapshot);
}

/** Labels about which the reader and a file disagree. */
export function useConflicts(): readonly Conflict[] {
  const { labels } = useApp();
  return useSyncExternalStore(labels.subscribe, labels.conflicts);
}

export function useProgress(search: Search): Progress {
  return useSyncExternalStore(search.subscribe, search.snapshot);
}
