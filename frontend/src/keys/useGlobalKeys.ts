import { useEffect } from "react";
import type { AppState } from "../context";
import { labelOf } from "../labels/labels";
import { inView, type Params, viewOf } from "../route/route";
import { change, go } from "../route/useRoute";
import { isTyping } from "./keys";
import { inTrajectory, otherTrajectory, step } from "./steps";

/** Keys that work everywhere. Lists add their own j, k and Enter (useListKeys). */
export function useGlobalKeys(state: AppState, openPanel: (panel: "help" | "labels") => void): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "Escape" && leaveField(event)) return;
      if (isTyping(event.target)) return;
      if (event.key === "?") openPanel("help");
      else if (event.key === "/") focusSearch(state.params);
      else if (event.key === "[" || event.key === "]") otherSource(state, event.key === "]" ? 1 : -1);
      else if (event.key === "c") openCompare(state);
      else if (viewOf(state.params) !== "turn" || !turnKey(state, event.key)) return;
      event.preventDefault();
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, [state, openPanel]);
}

function turnKey(state: AppState, key: string): boolean {
  const { run, params, matches, labels, say } = state;
  const turn = run.findTurn(params.turn ?? "");
  if (turn === undefined) return false;
  const by = key === key.toLowerCase() ? 1 : -1;
  const show = (next: number | undefined, none: string) => {
    if (next === undefined) say(none);
    else change(inView(params, "turn", { turn: run.turnId(next), ...kept(params) }));
  };
  const keys: Record<string, () => void> = {
    j: () => show(inTrajectory(run, turn, 1), "This is the last turn of the trajectory. J goes to the next one."),
    k: () => show(inTrajectory(run, turn, -1), "This is the first turn of the trajectory. K goes to the one before."),
    J: () => show(otherTrajectory(run, turn, 1), "This is the last trajectory."),
    K: () => show(otherTrajectory(run, turn, -1), "This is the first trajectory."),
    p: () =>
      show(
        step(run, turn, 1, (each) => run.isPivot(each)),
        "There is no pivot after this turn.",
      ),
    P: () =>
      show(
        step(run, turn, -1, (each) => run.isPivot(each)),
        "There is no pivot before this turn.",
      ),
    n: () =>
      show(
        step(run, turn, by, (each) => matches.set.has(each)),
        "No further turn matches the filters.",
      ),
    N: () =>
      show(
        step(run, turn, -1, (each) => matches.set.has(each)),
        "No earlier turn matches the filters.",
      ),
    l: () => {
      if (!run.isToTrainOn(turn)) return say("Only turns to train on can be dropped.");
      const { drop } = labelOf(labels.snapshot(), run.turnId(turn));
      labels.update(run.turnId(turn), { drop: !drop });
      say(drop ? "The turn is kept." : "The turn is marked to be dropped.");
    },
    Escape: () => go(inView(params, params.q || matches.filtered ? "turns" : "overview")),
  };
  keys[key]?.();
  return key in keys;
}

/** What stays as one steps from turn to turn. */
export function kept(params: Params): Params {
  return { ...(params.show ? { show: params.show } : {}), ...(params.channel ? { channel: params.channel } : {}) };
}

function leaveField(event: KeyboardEvent): boolean {
  const { target } = event;
  if (!isTyping(target) || !(target instanceof HTMLElement)) return false;
  if (target.closest("[role=dialog]")) return true;
  event.preventDefault(); // Browsers would also empty a search field.
  target.blur();
  return true;
}

function focusSearch(params: Params): void {
  const focus = () => document.querySelector<HTMLInputElement>("#search")?.focus();
  if (document.querySelector("#search")) return focus();
  go(inView(params, "turns"));
  setTimeout(focus, 50);
}

function otherSource({ run, params, source, say }: AppState, by: 1 | -1): void {
  const sources = run.head.sources;
  const next = sources[(source + by + sources.length) % sources.length];
  if (!next) return;
  change({ ...params, source: next.name });
  say(`Source: ${next.title}`);
}

function openCompare({ run, params, say }: AppState): void {
  if (run.head.pairs.length === 0) return say("This run has no two sources to compare.");
  const turn = viewOf(params) === "turn" ? run.findTurn(params.turn ?? "") : undefined;
  const pair =
    turn === undefined
      ? -1
      : run.head.pairs.findIndex(([a, b]) => run.rate(a, turn) !== null && run.rate(b, turn) !== null);
  go(inView(params, "compare", pair >= 0 && params.turn ? { pair: String(pair), turn: params.turn } : {}));
}
