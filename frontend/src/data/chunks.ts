import { inflate } from "./inflate";
import type { Chunk } from "./schema";

const KEPT = 32;

/** The page's data tags, decompressed when first asked for. Keeps the chunks used last. */
export class Chunks {
  private readonly kept = new Map<number, Promise<Chunk>>();

  constructor(private readonly document: Document) {}

  encoded(number: number): string {
    const tag = this.document.getElementById(`c${number}`);
    if (!tag) throw new Error(`The page has no chunk ${number}. It may have been cut off when it was copied.`);
    return tag.textContent ?? "";
  }

  get(number: number): Promise<Chunk> {
    const chunk = this.kept.get(number) ?? Promise.resolve().then(() => inflate<Chunk>(this.encoded(number)));
    this.kept.delete(number);
    this.kept.set(number, chunk);
    const oldest = this.kept.keys().next().value;
    if (this.kept.size > KEPT && oldest !== undefined) this.kept.delete(oldest);
    return chunk;
  }
}
