/** What keys do, as the help dialog lists them. */
export const KEY_HELP: [keys: string[], meaning: string][] = [
  [["j", "k"], "Next or previous turn; in a list, next or previous row"],
  [["J", "K"], "Next or previous trajectory"],
  [["p", "P"], "Next or previous pivot"],
  [["n", "N"], "Next or previous turn that matches the filters"],
  [["Enter"], "Open the row"],
  [["/"], "Search"],
  [["["], "Previous source"],
  [["]"], "Next source"],
  [["c"], "Compare (the turn on the screen, if it was sampled twice)"],
  [["l"], "Mark the turn to be dropped, or take the mark away"],
  [["Esc"], "Back: from a turn to its list, out of a field or a dialog"],
  [["?"], "This help"],
];

/** 1 for j, -1 for k, 0 for any other key, and where letters are text. */
export function stepOf(event: KeyboardEvent): number {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return 0;
  return event.key === "j" ? 1 : event.key === "k" ? -1 : 0;
}

/** True where letters are text: in fields and open dialogs. */
export function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.closest("[role=dialog]")) return true;
  if (target instanceof HTMLInputElement) return !["checkbox", "radio", "range", "button"].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || target.isContentEditable;
}
