import type { Act, FileLabel } from "../data/schema";
import type { Label, Labels } from "./labels";

const FORMAT = "pivotrl-labels-1";

export interface LabelFile {
  format: typeof FORMAT;
  run: string;
  trajectories_sha256: string;
  labels: FileLabel[];
}

/** The file that `pivotrl select --labels FILE` reads. */
export function toFile(labels: Labels, run: string, trajectoriesSha256: string): LabelFile {
  return {
    format: FORMAT,
    run,
    trajectories_sha256: trajectoriesSha256,
    labels: [...labels].map(([turn_id, { drop, note, accept }]) => ({
      turn_id,
      ...(drop ? { drop } : {}),
      ...(note ? { note } : {}),
      ...(accept.length ? { accept: accept.map(({ content, calls }) => ({ content, tool_calls: calls })) } : {}),
    })),
  };
}

export interface Imported {
  labels: Labels;
  /** Turn ids that this page does not have. */
  unknown: string[];
  otherData: boolean;
}

/** Reads an exported file. Throws an Error with plain words if it is not one. */
export function fromFile(text: string, trajectoriesSha256: string, known: (turnId: string) => boolean): Imported {
  let file: Partial<LabelFile>;
  try {
    file = JSON.parse(text) as Partial<LabelFile>;
  } catch {
    throw new Error("The file is not JSON. Choose a file that this page exported.");
  }
  if (file?.format !== FORMAT || !Array.isArray(file.labels)) {
    throw new Error(`The file is not a labels file: its "format" must be "${FORMAT}".`);
  }
  const labels = fromEntries(file.labels);
  const unknown = [...labels.keys()].filter((turnId) => !known(turnId));
  for (const turnId of unknown) labels.delete(turnId);
  return { labels, unknown, otherData: file.trajectories_sha256 !== trajectoriesSha256 };
}

export function fromEntries(entries: FileLabel[]): Map<string, Label> {
  const labels = new Map<string, Label>();
  for (const entry of entries) {
    if (typeof entry?.turn_id !== "string") throw new Error('A label has no "turn_id".');
    labels.set(entry.turn_id, { drop: entry.drop === true, note: String(entry.note ?? ""), accept: acts(entry) });
  }
  return labels;
}

function acts(entry: FileLabel): Act[] {
  if (entry.accept === undefined) return [];
  if (!Array.isArray(entry.accept))
    throw new Error(`The label of ${entry.turn_id} has an "accept" that is not a list.`);
  return entry.accept.map(({ content, tool_calls }) => ({
    content: content ?? null,
    calls: (tool_calls ?? []).map(({ name, arguments: text }) => ({ name: String(name), arguments: String(text) })),
  }));
}
