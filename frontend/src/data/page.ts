import { Chunks } from "./chunks";
import { Run } from "./run";
import type { Head, Index } from "./schema";

/** Reads the head and the index. Everything else stays compressed until a view or the search needs it. */
export async function readPage(document: Document): Promise<Run> {
  const tag = document.getElementById("head");
  if (!tag) throw new Error("This is the empty template. `pivotrl view RUN` writes a page with data.");
  const head = JSON.parse(tag.textContent ?? "") as Head;
  if (head.format !== 1) throw new Error(`The data has format ${String(head.format)}; this page reads format 1.`);
  const chunks = new Chunks(document);
  const index = (await chunks.get(0)) as unknown as Index;
  return new Run(head, index, chunks);
}
