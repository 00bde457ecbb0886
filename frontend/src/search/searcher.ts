import { inflate } from "../data/inflate";
import type { Chunk, Index } from "../data/schema";
import { type Hit, type Scope, SearchIndex, type Snippet } from "./searchIndex";

export type Request =
  | { kind: "index"; index: Index }
  | { kind: "chunk"; number: number; encoded: string }
  | { kind: "find"; query: string; source: number; scope: Scope }
  | { kind: "snippets"; turns: number[] };

export type Reply =
  | { kind: "added" }
  | { kind: "found"; turns: number[]; milliseconds: number }
  | { kind: "snippets"; snippets: Snippet[] };

/** Holds the index and the hits of the last query. Runs in a worker, or in the page where workers are not allowed. */
export class Searcher {
  private search: SearchIndex | undefined;
  private hits = new Map<number, Hit>();

  async answer(request: Request): Promise<Reply> {
    if (request.kind === "index") {
      this.search = new SearchIndex(request.index);
      return { kind: "added" };
    }
    if (request.kind === "chunk") {
      this.search?.add(request.number, await inflate<Chunk>(request.encoded));
      return { kind: "added" };
    }
    if (request.kind === "find") {
      const start = performance.now();
      const hits = this.search?.find(request.query, request.source, request.scope) ?? [];
      this.hits = new Map(hits.map((hit) => [hit.turn, hit]));
      return { kind: "found", turns: hits.map((hit) => hit.turn), milliseconds: performance.now() - start };
    }
    const snippets = request.turns.map(
      (turn) => this.hits.get(turn)?.snippet() ?? { before: "", match: "", after: "" },
    );
    return { kind: "snippets", snippets };
  }
}
