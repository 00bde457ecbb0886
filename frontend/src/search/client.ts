import type { Run } from "../data/run";
import SearchWorker from "./entry.worker?worker&inline";
import type { Scope, Snippet } from "./searchIndex";
import { type Reply, type Request, Searcher } from "./searcher";

type Ask = (request: Request) => Promise<Reply>;

export interface Progress {
  done: number;
  total: number;
  error?: string;
}

/** Full-text search over a run. Chunks are indexed one after the other in the background; queries are answered meanwhile. */
export class Search {
  progress: Progress;
  private readonly ask: Ask;
  private readonly chunks: number[];
  private readonly listeners = new Set<() => void>();

  constructor(
    private readonly run: Run,
    ask?: Ask,
  ) {
    this.chunks = searched(run);
    this.progress = { done: 0, total: this.chunks.length };
    this.ask = ask ?? inWorker() ?? inPage();
  }

  async load(): Promise<void> {
    try {
      await this.ask({ kind: "index", index: this.run.index });
      for (const number of this.chunks) {
        await this.ask({ kind: "chunk", number, encoded: this.run.chunks.encoded(number) });
        this.report({ ...this.progress, done: this.progress.done + 1 });
      }
    } catch (error) {
      this.report({ ...this.progress, error: String(error) });
    }
  }

  async find(query: string, source: number, scope: Scope): Promise<{ turns: number[]; milliseconds: number }> {
    const reply = await this.ask({ kind: "find", query, source, scope });
    if (reply.kind !== "found") throw new Error("unexpected reply");
    return reply;
  }

  async snippets(turns: number[]): Promise<Snippet[]> {
    const reply = await this.ask({ kind: "snippets", turns });
    return reply.kind === "snippets" ? reply.snippets : [];
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  snapshot = (): Progress => this.progress;

  private report(progress: Progress): void {
    this.progress = progress;
    for (const listener of this.listeners) listener();
  }
}

/** Chunks with messages or samples. Rendered prompts repeat the messages and are not searched. */
function searched({ index }: Run): number[] {
  return [...new Set([index.trajectories.chunk, ...index.results.map(({ chunk }) => chunk)].flat())].sort(
    (a, b) => a - b,
  );
}

function inWorker(): Ask | undefined {
  let worker: Worker;
  try {
    worker = new SearchWorker();
  } catch {
    return undefined;
  }
  const waiting = new Map<number, { resolve: (reply: Reply) => void; reject: (error: Error) => void }>();
  worker.onmessage = ({ data }: MessageEvent<{ id: number; reply?: Reply; error?: string }>) => {
    const promise = waiting.get(data.id);
    waiting.delete(data.id);
    if (data.reply) promise?.resolve(data.reply);
    else promise?.reject(new Error(data.error));
  };
  worker.onerror = (event) => {
    for (const { reject } of waiting.values()) reject(new Error(event.message || "the search worker did not start"));
    waiting.clear();
  };
  let id = 0;
  return (request) =>
    new Promise((resolve, reject) => {
      waiting.set(++id, { resolve, reject });
      worker.postMessage({ id, request });
    });
}

/** Without a worker: the same work in slices, so that the page still answers in between. */
function inPage(): Ask {
  const searcher = new Searcher();
  return async (request) => {
    await new Promise((resolve) => setTimeout(resolve));
    return searcher.answer(request);
  };
}
