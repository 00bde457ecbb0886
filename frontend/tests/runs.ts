import { gzipSync } from "node:zlib";
import { Chunks } from "../src/data/chunks";
import { Run } from "../src/data/run";
import type { Chunk, Head, Index } from "../src/data/schema";
import { synthetic } from "../testing/synthetic.mjs";

/** Chunks that lie ready, without a page around them. */
class PlainChunks extends Chunks {
  constructor(private readonly list: Chunk[]) {
    super(undefined as unknown as Document);
  }

  override encoded(number: number): string {
    return gzipSync(JSON.stringify(this.list[number - 1])).toString("base64");
  }

  override get(number: number): Promise<Chunk> {
    const chunk = this.list[number - 1];
    return chunk ? Promise.resolve(chunk) : Promise.reject(new Error(`no chunk ${number}`));
  }
}

export interface Made {
  head: Head;
  index: Index;
  chunks: Chunk[];
}

export function made(options: { trajectories?: number; turns?: number } = {}): Made {
  return synthetic(options) as unknown as Made;
}

export function madeRun(options: { trajectories?: number; turns?: number } = {}): Run {
  const { head, index, chunks } = made(options);
  return new Run(head, index, new PlainChunks(chunks));
}
