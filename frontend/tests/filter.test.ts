import { expect, test } from "vitest";
import { filterOf, matching, range } from "../src/filter/filter";
import type { Params } from "../src/route/route";
import { bins } from "../src/views/overview/bins";
import { madeRun } from "./runs";

const run = madeRun();
const PROFILE = 0;
const turns = (params: Params, labelled: string[] = []) =>
  matching(run, PROFILE, filterOf(params), (id) => labelled.includes(id));
const all = Array.from({ length: run.numTurns }, (_, turn) => turn);

test("no filter keeps every turn", () => expect(turns({})).toEqual(all));

test("no verdict is neither a failure nor a pass rate", () => {
  const unknown = turns({ outcome: "unknown" });
  expect(unknown.length).toBeGreaterThan(0);
  expect(unknown.every((turn) => run.rate(PROFILE, turn) === null)).toBe(true);
  const low = turns({ rate: "..0.5" });
  expect(low.filter((turn) => unknown.includes(turn))).toEqual([]);
});

test("the five outcomes cover every turn once", () => {
  const parts = ["mixed", "pass", "fail", "unknown", "none"].flatMap((outcome) => turns({ outcome }));
  expect(parts.sort((a, b) => a - b)).toEqual(all);
});

test("filters combine", () => {
  const found = turns({ tool: "get_order", only: "pivot,truncated", depth: "2..5" });
  expect(found.length).toBeGreaterThan(0);
  for (const turn of found) {
    expect([run.tool(turn), run.isPivot(turn)]).toEqual(["get_order", true]);
    expect(run.count(PROFILE, turn, "cut_off")).toBeGreaterThan(0);
  }
  expect(
    turns({ tool: "get_order", only: "pivot,malformed", split: "train" }).every(
      (turn) => run.count(PROFILE, turn, "malformed") > 0,
    ),
  ).toBe(true);
});

test("labels and clusters select turns", () => {
  expect(turns({ only: "label" }, [run.turnId(7)])).toEqual([7]);
  expect(turns({ cluster: "0" })).toEqual([...(run.index.clusters[0]?.turns ?? [])].sort((a, b) => a - b));
});

test("a range that cannot be read filters nothing", () => {
  expect([range("a..b", 0, 1), range("0.2", 0, 1), range("..0.4", 0, 1), range("3..", 1, 99)]).toEqual([
    undefined,
    undefined,
    [0, 0.4],
    [3, 99],
  ]);
});

test("a click on a bar of the histogram shows exactly the turns that the bar counts", () => {
  const list = bins(run, PROFILE);
  expect(list.reduce((sum, bin) => sum + bin.turns, 0)).toBe(run.index.results[PROFILE]?.turn.length);
  for (const bin of list) expect(turns(bin.filter)).toHaveLength(bin.turns);
});
