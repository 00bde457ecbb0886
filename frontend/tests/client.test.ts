// @vitest-environment node
import { expect, test } from "vitest";
import { Search } from "../src/search/client";
import { SearchIndex } from "../src/search/searchIndex";
import { made, madeRun } from "./runs";

test("where workers are not allowed, the page searches by itself", async () => {
  const run = madeRun({ trajectories: 12 });
  const search = new Search(run);
  const seen: number[] = [];
  search.subscribe(() => seen.push(search.progress.done));
  await search.load();
  expect(search.progress.error).toBeUndefined();
  expect(seen).toEqual(Array.from({ length: search.progress.total }, (_, i) => i + 1));

  const { turns } = await search.find("kettle", 0, "here");
  const { index, chunks } = made({ trajectories: 12 });
  const plain = new SearchIndex(index);
  chunks.forEach((chunk, i) => plain.add(i + 1, chunk));
  expect(turns.length).toBeGreaterThan(0);
  expect(turns).toEqual(plain.find("kettle", 0, "here").map(({ turn }) => turn));
  const [snippet] = await search.snippets(turns.slice(0, 1));
  expect(snippet?.match).toBe("kettle");
});

test("a chunk that cannot be read is reported, not swallowed", async () => {
  const run = madeRun({ trajectories: 2 });
  run.chunks.encoded = () => "no gzip";
  const search = new Search(run);
  await search.load();
  expect(search.progress.error).toBeDefined();
});
