import stringify from "json-stringify-pretty-compact";
import type { Act, Call } from "../data/schema";

const ONE_LINE = 76;

/** An action as text: what it says, then its calls with one argument a line. Equal actions give equal text. */
export function actText(act: Act): string {
  return [act.content?.trim() ?? "", ...act.calls.map(callText)].filter(Boolean).join("\n");
}

export function callText(call: Call): string {
  const parsed = parseJson(call.arguments);
  if (parsed === undefined || typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    return `${call.name}(${call.arguments})`;
  }
  const entries = Object.entries(parsed).sort(([a], [b]) => (a < b ? -1 : 1));
  if (entries.length === 0) return `${call.name}()`;
  return `${call.name}(\n${entries.map(([name, value]) => `  ${name}: ${valueText(value)}`).join("\n")}\n)`;
}

/** On one line where that is short enough to read: `get_order(order_id: "W1")`. */
export function callOnFewLines(call: Call): string {
  const text = callText(call);
  const line = oneLine(text);
  return line.length <= ONE_LINE && !text.includes('"""') ? line : text;
}

function oneLine(text: string): string {
  return text
    .replace(/\(\n\s+/g, "(")
    .replace(/\n\)/g, ")")
    .replace(/\n\s+/g, ", ");
}

/** JSON with sorted keys; a multi-line string as it reads, because that is what people compare. */
function valueText(value: unknown): string {
  if (typeof value === "string" && value.includes("\n")) return `"""\n${value}\n"""`;
  return layOut(sorted(value)).replace(/\n/g, "\n  ");
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, item]) => [key, sorted(item)]),
  );
}

/** JSON with short lists and objects on one line. */
export function layOut(value: unknown): string {
  return stringify(value, { maxLength: ONE_LINE, indent: 2 });
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** Short form for lists: `search(query: "x", limit: 3)` or the first words of the message. */
export function actTitle(act: Act): string {
  return oneLine(actText(act)).replace(/\n/g, " · ");
}
