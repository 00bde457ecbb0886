import { expect, test } from "vitest";
import { fromEntries, fromFile, toFile } from "../src/labels/file";
import { LabelStore } from "../src/labels/labels";

const SHA = "ab".repeat(32);
const act = { content: null, calls: [{ name: "f", arguments: "{}" }] };

function memory() {
  const kept = new Map<string, string>();
  return {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
  };
}

test("the exported file has the agreed form, and reading it gives the labels back", () => {
  const store = new LabelStore("k", new Map(), memory());
  store.update("t1#4", { drop: true, note: "wrong log", accept: [act] });
  store.update("t1#6", { drop: true });
  const file = toFile(store.snapshot(), "runs/x", SHA);
  expect(file).toEqual({
    format: "pivotrl-labels-1",
    run: "runs/x",
    trajectories_sha256: SHA,
    labels: [
      {
        turn_id: "t1#4",
        drop: true,
        note: "wrong log",
        accept: [{ content: null, tool_calls: [{ name: "f", arguments: "{}" }] }],
      },
      { turn_id: "t1#6", drop: true },
    ],
  });
  const read = fromFile(JSON.stringify(file), SHA, () => true);
  expect([...read.labels]).toEqual([...store.snapshot()]);
  expect(read.otherData).toBe(false);
});

test("labels survive a reload and disappear when they say nothing any more", () => {
  const storage = memory();
  new LabelStore("k", new Map(), storage).update("t1#4", { note: "x" });
  const store = new LabelStore("k", new Map(), storage);
  expect(store.snapshot().get("t1#4")?.note).toBe("x");
  store.update("t1#4", { note: "" });
  expect(store.snapshot().size).toBe(0);
});

test("a page's own labels are there until the reader has some", () => {
  const given = fromEntries([{ turn_id: "t1#4", drop: true }]);
  const storage = memory();
  const store = new LabelStore("k", given, storage);
  expect([store.snapshot().get("t1#4")?.drop, store.unsaved]).toEqual([true, false]);
  store.update("t1#4", { drop: false });
  expect(new LabelStore("k", given, storage).snapshot().size).toBe(0);
});

test("labels stay in memory where storage is denied, and count as unsaved until they are exported", () => {
  const denied = {
    getItem: () => {
      throw new Error("denied");
    },
    setItem: () => {
      throw new Error("denied");
    },
  };
  const store = new LabelStore("k", new Map(), denied);
  store.update("t1#4", { drop: true });
  expect([store.kept, store.snapshot().size, store.unsaved]).toEqual([false, 1, true]);
  store.markExported();
  expect(store.unsaved).toBe(false);
});

test.each([
  ["not json", "not JSON"],
  ['{"format": "other", "labels": []}', "pivotrl-labels-1"],
  ['{"format": "pivotrl-labels-1", "labels": [{}]}', "turn_id"],
  ['{"format": "pivotrl-labels-1", "labels": [{"turn_id": "a#1", "accept": 3}]}', "a#1"],
])("a file that is not of this form is refused: %s", (text, words) => {
  expect(() => fromFile(text, SHA, () => true)).toThrow(words);
});

test("labels of unknown turns and of other data are reported", () => {
  const file = {
    format: "pivotrl-labels-1",
    run: "x",
    trajectories_sha256: "00",
    labels: [{ turn_id: "gone#1", drop: true }],
  };
  const read = fromFile(JSON.stringify(file), SHA, () => false);
  expect([read.labels.size, read.unknown, read.otherData]).toEqual([0, ["gone#1"], true]);
});
