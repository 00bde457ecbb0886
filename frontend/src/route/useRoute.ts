import { useSyncExternalStore } from "react";
import { format, parse, type Params } from "./route";

const listeners = new Set<() => void>();
let hash = "";
let params: Params = {};

function current(): Params {
  if (window.location.hash !== hash) {
    hash = window.location.hash;
    params = parse(hash);
  }
  return params;
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  window.addEventListener("hashchange", listener);
  return () => {
    listeners.delete(listener);
    window.removeEventListener("hashchange", listener);
  };
}

export function useParams(): Params {
  return useSyncExternalStore(subscribe, current);
}

export function currentParams(): Params {
  return current();
}

/** A new place in the browser's history. */
export function go(next: Params): void {
  window.location.hash = format(next);
}

/** The same place, seen differently (a filter being typed): Back does not return to each letter. */
export function change(next: Params): void {
  window.history.replaceState(null, "", format(next));
  for (const listener of listeners) listener();
}
