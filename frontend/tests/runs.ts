import { Chunks } from "../src/data/chunks";
import { Run } from "../src/data/run";
import type { Chunk, Head, Index } from "../src/data/schema";
import { synthetic } from "../testing/synthetic.mjs";

/** Chunks that were never compressed. */
class PlainChunks extends Chunks {
  constructor(private readonly list: Chunk[]) {
    super(document);
  }

  override encoded(number: number): string {
    return Buffer.from(JSON.stringify(this.list[number - 1])).toString("base64");
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
