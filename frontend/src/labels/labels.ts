import { actText } from "../actions/actText";
import type { Act } from "../data/schema";

/** What a reader says about a turn. `pivotrl select --labels` reads it. */
export interface Label {
  drop: boolean;
  accept: Act[];
  note: string;
}

export type Labels = ReadonlyMap<string, Label>;

const EMPTY: Label = { drop: false, accept: [], note: "" };

/** A turn about which the reader and a file say different things. What the reader says holds until they choose. */
export interface Conflict {
  turnId: string;
  mine: Label;
  /** What the page came with, or what an imported file says. */
  offered: Label;
}

/** The labels of one run: kept in the browser where it allows that, else only in memory. */
export class LabelStore {
  private labels: Labels;
  private readonly listeners = new Set<() => void>();
  private exported: Labels;
  /** Labels of files, as they were when they were last taken or turned down. Without a change since, a file says nothing new. */
  private readonly seen = new Map<string, Label>();
  private readonly offered = new Map<string, Label>();
  private open: Conflict[] = [];
  /** False: the browser denies storage to this page, so labels last only until it is closed. */
  readonly kept: boolean;

  constructor(
    private readonly key: string,
    /** Those the page came with. */
    given: Labels = new Map(),
    private readonly storage: Pick<Storage, "getItem" | "setItem"> | undefined = browserStorage(),
  ) {
    this.labels = new Map();
    this.kept = storage !== undefined;
    try {
      this.labels = fromStorage(storage?.getItem(key));
      this.seen = fromStorage(storage?.getItem(`${key}:seen`));
    } catch {
      this.kept = false;
    }
    this.take(given);
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

  conflicts = (): readonly Conflict[] => this.open;

  update(turnId: string, patch: Partial<Label>): void {
    const next = new Map(this.labels);
    put(next, turnId, { ...labelOf(this.labels, turnId), ...patch });
    this.replace(next);
  }

  /** Takes the labels of a file where the reader has said nothing else; where they have, it is a conflict. */
  offer(labels: Labels): void {
    this.take(labels);
    this.tell();
  }

  /** Ends conflicts: with what the reader said, or with what was offered. */
  resolve(turnIds: string[], choice: "mine" | "offered"): void {
    const next = new Map(this.labels);
    for (const turnId of turnIds) {
      const offered = this.offered.get(turnId);
      if (!offered) continue;
      if (choice === "offered") put(next, turnId, offered);
      this.seen.set(turnId, offered);
      this.offered.delete(turnId);
    }
    this.replace(next);
  }

  private take(labels: Labels): void {
    const next = new Map(this.labels);
    for (const [turnId, label] of labels) {
      const [mine, seen] = [labelOf(this.labels, turnId), labelOf(this.seen, turnId)];
      const isNews = !same(label, seen) && !same(label, mine);
      if (isNews && !same(mine, seen)) this.offered.set(turnId, label);
      else {
        if (isNews) put(next, turnId, label);
        this.seen.set(turnId, label);
      }
    }
    this.keep(next);
  }

  private replace(labels: Labels): void {
    this.keep(labels);
    this.tell();
  }

  private keep(labels: Labels): void {
    this.labels = labels;
    this.open = [...this.offered]
      .map(([turnId, offered]) => ({ turnId, mine: labelOf(labels, turnId), offered }))
      .filter(({ mine, offered }) => !same(mine, offered));
    try {
      this.storage?.setItem(this.key, JSON.stringify([...labels]));
      this.storage?.setItem(`${this.key}:seen`, JSON.stringify([...this.seen]));
    } catch {
      // Full or denied: the labels stay in memory, and leaving the page without an export asks first.
    }
  }

  private tell(): void {
    for (const listener of this.listeners) listener();
  }
}

export function labelOf(labels: Labels, turnId: string): Label {
  return labels.get(turnId) ?? EMPTY;
}

/** A label that says nothing is no label. */
function put(labels: Map<string, Label>, turnId: string, label: Label): void {
  if (same(label, EMPTY)) labels.delete(turnId);
  else labels.set(turnId, label);
}

function same(a: Label, b: Label): boolean {
  const key = ({ drop, note, accept }: Label) => JSON.stringify([drop, note, accept.map(actText).sort()]);
  return key(a) === key(b);
}

function fromStorage(saved: string | null | undefined): Map<string, Label> {
  return new Map(saved ? (JSON.parse(saved) as [string, Label][]) : []);
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
