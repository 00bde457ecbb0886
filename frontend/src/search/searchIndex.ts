import type { Chunk, Index, TurnSamples } from "../data/schema";
import { actText } from "../actions/actText";
import { fits, type Term, terms } from "./terms";

/** Where to look: what is new at a turn, its whole context, sampled and expected actions, or verdicts. */
export type Scope = "here" | "context" | "actions" | "reasons";
export const SCOPES: Scope[] = ["here", "context", "actions", "reasons"];

const MESSAGE = 0;
const ACTION = 1;
const REASON = 2;

interface Block {
  text: string;
  lower: string;
  /** Start of each document in the text, with the end of the last. */
  starts: number[];
  kind: number[];
  turn: number[];
  /** -1: belongs to every source. */
  source: number[];
}

export interface Hit {
  turn: number;
  snippet: () => Snippet;
}

export interface Snippet {
  before: string;
  match: string;
  after: string;
}

/** Full text of all messages, actions and reasons: a plain search over large strings, whose hits are checked for whole words. */
export class SearchIndex {
  private readonly blocks: Block[] = [];
  private readonly trajectoryAt = new Map<string, number>();
  private readonly samplesAt = new Map<string, [source: number, turn: number]>();

  constructor(private readonly index: Index) {
    const { chunk, slot } = index.trajectories;
    chunk.forEach((number, trajectory) => this.trajectoryAt.set(`${number}/${slot[trajectory]}`, trajectory));
    index.results.forEach((results, source) =>
      results.turn.forEach((turn, row) =>
        this.samplesAt.set(`${results.chunk[row]}/${results.slot[row]}`, [source, turn]),
      ),
    );
  }

  add(number: number, chunk: Chunk): void {
    const block = new BlockBuilder();
    chunk.trajectories?.forEach((text, slot) => {
      const trajectory = this.trajectoryAt.get(`${number}/${slot}`);
      if (trajectory === undefined) return;
      const first = this.index.trajectories.first_turn[trajectory] ?? 0;
      const last = first + (this.index.trajectories.num_turns[trajectory] ?? 0) - 1;
      let turn = first;
      text.messages.forEach((message, at) => {
        while (turn < last && (this.index.turns.message[turn] ?? 0) < at) turn++;
        const kind = this.index.turns.message[turn] === at ? ACTION : MESSAGE;
        const parts = [message.reasoning, actText({ content: message.content, calls: message.calls })];
        if (last >= first) block.add(parts.filter(Boolean).join("\n"), kind, turn, -1);
      });
    });
    chunk.samples?.forEach((samples, slot) => {
      const place = this.samplesAt.get(`${number}/${slot}`);
      if (place) this.addSamples(block, samples, ...place);
    });
    if (block.size > 0) this.blocks.push(block.build());
  }

  private addSamples(block: BlockBuilder, samples: TurnSamples, source: number, turn: number): void {
    for (const action of samples.actions) {
      const texts = [action.text, ...action.samples.map((sample) => sample.text)].filter(Boolean);
      block.add(texts.join("\n"), ACTION, turn, source);
      const reason = [this.index.codes[action.reason], action.detail].filter(Boolean).join(" ");
      if (reason) block.add(reason, REASON, turn, source);
    }
  }

  /** Turns that contain every term of the query (terms.ts), in the order of the run. */
  find(query: string, source: number, scope: Scope): Hit[] {
    let hits: Map<number, () => Snippet> | undefined;
    for (const term of terms(query)) {
      const found = this.findTerm(term, source, scope);
      if (hits) for (const turn of hits.keys()) found.has(turn) || hits.delete(turn);
      else hits = found;
    }
    return [...(hits ?? [])].sort(([a], [b]) => a - b).map(([turn, snippet]) => ({ turn, snippet }));
  }

  private findTerm(term: Term, source: number, scope: Scope): Map<number, () => Snippet> {
    const found = new Map<number, () => Snippet>();
    const { text, wholeStart, wholeEnd } = term;
    const isWord = wholeStart || wholeEnd;
    const note = (turn: number, block: Block, at: number) => {
      if (!found.has(turn)) found.set(turn, () => snippet(block.text, at, text.length));
    };
    for (const block of this.blocks) {
      let doc = 0;
      for (let at = block.lower.indexOf(text); at >= 0;) {
        if (isWord && !fits(term, block.lower, at)) {
          at = block.lower.indexOf(text, at + 1);
          continue;
        }
        doc = docAt(block.starts, at, doc);
        const end = block.starts[doc + 1] ?? block.lower.length;
        const owner = block.source[doc] ?? -1;
        const kind = block.kind[doc] ?? 0;
        if (at + text.length < end && (owner < 0 || owner === source) && inScope(kind, owner, scope)) {
          const [turn, place] = [block.turn[doc] ?? 0, at];
          if (scope === "context") this.later(turn, kind === ACTION, (each) => note(each, block, place));
          else note(turn, block, place);
        }
        at = block.lower.indexOf(text, Math.max(end, at + 1));
      }
    }
    return found;
  }

  /** The turns that have a message in their context. The demonstrated action of a turn is context only after it. */
  private later(turn: number, isAction: boolean, visit: (turn: number) => void): void {
    const { trajectory } = this.index.turns;
    for (
      let each = isAction ? turn + 1 : turn;
      trajectory[each] === trajectory[turn] && each < trajectory.length;
      each++
    )
      visit(each);
  }
}

class BlockBuilder {
  size = 0;
  private readonly texts: string[] = [];
  private readonly lowers: string[] = [];
  private readonly starts: number[] = [];
  private readonly kind: number[] = [];
  private readonly turn: number[] = [];
  private readonly source: number[] = [];

  add(text: string, kind: number, turn: number, source: number): void {
    if (!text) return;
    // A few letters change their length in lower case (İ). Their documents are shown in lower case, so that places agree.
    const lower = text.toLowerCase();
    this.lowers.push(lower, "\n");
    this.texts.push(lower.length === text.length ? text : lower, "\n");
    this.starts.push(this.size);
    this.kind.push(kind);
    this.turn.push(turn);
    this.source.push(source);
    this.size += lower.length + 1;
  }

  build(): Block {
    const starts = [...this.starts, this.size];
    const { kind, turn, source } = this;
    return { text: this.texts.join(""), lower: this.lowers.join(""), starts, kind, turn, source };
  }
}

function inScope(kind: number, owner: number, scope: Scope): boolean {
  if (scope === "here") return true;
  return scope === "context" ? owner < 0 : kind === (scope === "actions" ? ACTION : REASON);
}

/** Last document that begins at or before `at`, looked for from document `low` on. */
function docAt(starts: number[], at: number, low: number): number {
  let high = starts.length - 2;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((starts[middle] ?? 0) <= at) low = middle;
    else high = middle - 1;
  }
  return low;
}

function snippet(text: string, at: number, length: number): Snippet {
  const start = Math.max(0, text.lastIndexOf("\n", at - 1) + 1, at - 40);
  return {
    before: (start > 0 ? "…" : "") + text.slice(start, at),
    match: text.slice(at, at + length),
    after: text.slice(at + length, at + length + 100).split("\n")[0] ?? "",
  };
}
