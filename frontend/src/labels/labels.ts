import type { Act } from "../data/schema";

/** What a reader says about a turn. `pivotrl select --labels` reads it. */
export interface Label {
  drop: boolean;
  accept: Act[];
  note: string;
}

export type Labels = ReadonlyMap<string, Label>;

const EMPTY: Label = { drop: false, accept: [], note: "" };

/** The labels of one run: kept in the browser where it allows that, else only in memory. */
export class LabelStore {
  private labels: Labels;
  private readonly listeners = new Set<() => void>();
  private exported: Labels;
  /** False: the browser denies storage to this page, so labels last only until it is closed. */
  readonly kept: boolean;

  constructor(
    private readonly key: string,
    /** Those the page came with, for a reader who has none of their own. */
    given: Labels = new Map(),
    private readonly storage: Pick<Storage, "getItem" | "setItem"> | undefined = browserStorage(),
  ) {
    this.labels = given;
    this.kept = storage !== undefined;
    try {
      const saved = storage?.getItem(key);
      if (saved) this.labels = new Map(JSON.parse(saved) as [string, Label][]);
    } catch {
      this.kept = false;
    }
    this.exported = this.labels;
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  snapshot = (): Labels => this.labels;

  get unsaved(): boolean {
    return this.labels !== this.exported;
  }

  markExported(): void {
    this.exported = this.labels;
    this.tell();
  }

  update(turnId: string, patch: Partial<Label>): void {
    const label = { ...(this.labels.get(turnId) ?? EMPTY), ...patch };
    const next = new Map(this.labels);
    if (label.drop || label.accept.length > 0 || label.note) next.set(turnId, label);
    else next.delete(turnId);
    this.replace(next);
  }

  /** Imported labels win over those of the same turn. */
  merge(labels: Labels): void {
    this.replace(new Map([...this.labels, ...labels]));
  }

  private replace(labels: Labels): void {
    this.labels = labels;
    try {
      this.storage?.setItem(this.key, JSON.stringify([...labels]));
    } catch {
      // Full or denied: the labels stay in memory, and leaving the page without an export asks first.
    }
    this.tell();
  }

  private tell(): void {
    for (const listener of this.listeners) listener();
  }
}

export function labelOf(labels: Labels, turnId: string): Label {
  return labels.get(turnId) ?? EMPTY;
}

function browserStorage(): Storage | undefined {
  try {
    const storage = window.localStorage;
    storage.setItem("pivotrl-probe", "1");
    storage.removeItem("pivotrl-probe");
    return storage;
  } catch {
    return undefined;
  }
}
