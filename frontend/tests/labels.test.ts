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

const label = (note: string, drop = false) => ({ drop, note, accept: [] });

test("a file never overrules the reader silently, nor the reader the file", () => {
  const storage = memory();
  const reader = new LabelStore("k", new Map(), storage);
  reader.update("both#1", { note: "mine" });
  reader.update("same#1", { drop: true });
  const given = new Map([
    ["both#1", label("theirs")],
    ["same#1", label("", true)],
    ["new#1", label("only there")],
  ]);
  const store = new LabelStore("k", given, storage);
  expect(Object.fromEntries([...store.snapshot()].map(([id, { note }]) => [id, note]))).toEqual({
    "both#1": "mine",
    "same#1": "",
    "new#1": "only there",
  });
  expect(store.conflicts()).toEqual([{ turnId: "both#1", mine: label("mine"), offered: label("theirs") }]);
  expect(new LabelStore("k", given, storage).conflicts()).toHaveLength(1); // It stays open until the reader chooses.

  store.resolve(["both#1"], "offered");
  expect([store.snapshot().get("both#1")?.note, store.conflicts().length]).toEqual(["theirs", 0]);
  expect(new LabelStore("k", given, storage).conflicts()).toHaveLength(0);
});

test("a reader who kept theirs is not asked again until the file says something new", () => {
  const storage = memory();
  new LabelStore("k", new Map(), storage).update("t#1", { note: "mine" });
  const open = (note: string) => new LabelStore("k", new Map([["t#1", label(note)]]), storage);
  open("a").resolve(["t#1"], "mine");
  expect(open("a").conflicts()).toHaveLength(0);
  expect(open("a").snapshot().get("t#1")?.note).toBe("mine");
  expect(open("b").conflicts()).toHaveLength(1);
});

test("a newer file replaces what an older one said, where the reader said nothing", () => {
  const storage = memory();
  const first = new LabelStore("k", new Map([["t#1", label("old")]]), storage);
  first.update("other#1", { drop: true });
  const second = new LabelStore("k", new Map([["t#1", label("new")]]), storage);
  expect([second.snapshot().get("t#1")?.note, second.conflicts().length]).toEqual(["new", 0]);
  expect(new LabelStore("k", new Map(), storage).snapshot().size).toBe(2); // A page without labels takes none away.
});

test("an imported file is treated alike, and editing towards it ends the conflict", () => {
  const store = new LabelStore("k", new Map(), memory());
  store.update("t#1", { note: "mine" });
  store.offer(new Map([["t#1", label("theirs")]]));
  expect([store.snapshot().get("t#1")?.note, store.conflicts().length]).toEqual(["mine", 1]);
  store.update("t#1", { note: "theirs" });
  expect(store.conflicts()).toHaveLength(0);
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
