import { expect, test } from "vitest";
import { compare, sortChanges } from "../src/compare/changes";
import { shortRate, wilson } from "../src/data/rates";
import { mainPair } from "../src/compare/changes";
import { Run } from "../src/data/run";
import { sortSummaries, summaries } from "../src/data/summaries";
import { inTrajectory, otherTrajectory, step } from "../src/keys/steps";
import { frames } from "../src/turn/frames";
import { byStep } from "../src/turn/history";
import { promptText } from "../src/turn/prompt";
import { columns, sortTurns } from "../src/views/turns/columns";
import { strength } from "../src/views/turn/Heat";
import { made, madeRun } from "./runs";

const run = madeRun();

test("prompts that share beginnings are put together again", () => {
  const prompt = (base: number, prefix: number, text: string) => ({ base, prefix, text, tokens: 1, cut: "" });
  const list = [prompt(-1, 0, "system user"), prompt(0, 7, "tool A"), prompt(1, 12, "B")];
  expect(promptText(list, 2)).toBe("system tool B");
  expect(() => promptText([prompt(0, 3, "x")], 0)).toThrow("not in the page");
});

test("the largest loss comes first, and turns judged once are left out", () => {
  const { changes, better, worse, same, unpaired } = compare(run, 1, 2);
  const losses = sortChanges(changes, "loss").map(({ change }) => change);
  expect(losses).toEqual([...losses].sort((a, b) => a - b));
  expect(sortChanges(changes, "gain")[0]?.change).toBe(Math.max(...losses));
  expect(better + worse + same).toBe(changes.length);
  expect(changes.length + unpaired).toBe(
    new Set([...(run.index.results[1]?.turn ?? []), ...(run.index.results[2]?.turn ?? [])]).size,
  );
});

test("rewards by training step leave out what has no verdict", async () => {
  const turn = run.index.results[3]?.turn[0] ?? 0;
  const samples = await run.samples(3, turn);
  const history = samples ? byStep(samples) : [];
  expect(history.map(({ step: number }) => number)).toEqual([1, 4, 7, 10]);
  expect(history.reduce((sum, { rewards, unknown }) => sum + rewards.length + unknown, 0)).toBe(8);
});

test("playback shows every message once", () => {
  const message = (role: "system" | "user" | "assistant" | "tool") => ({
    role,
    content: "",
    reasoning: null,
    calls: [],
    call_id: null,
  });
  const list = [
    message("system"),
    message("user"),
    message("assistant"),
    message("tool"),
    message("assistant"),
    message("user"),
  ];
  expect(frames(list)).toEqual([
    { start: 0, end: 2 },
    { start: 2, end: 4 },
    { start: 4, end: 6 },
  ]);
  expect(frames([message("assistant")])).toEqual([{ start: 0, end: 1 }]);
});

test("keys step through turns, trajectories and pivots", () => {
  const last = run.turnsOf(0).at(-1) ?? 0;
  expect(inTrajectory(run, last, 1)).toBeUndefined();
  expect(otherTrajectory(run, 2, 1)).toBe(last + 1);
  expect(otherTrajectory(run, last + 3, -1)).toBe(0);
  const pivot = step(run, 0, 1, (turn) => run.isPivot(turn)) ?? -1;
  expect(run.isPivot(pivot)).toBe(true);
});

test("unknown comes last, whichever way a list is sorted", () => {
  for (const order of ["reward", "-reward"]) {
    const rewards = sortSummaries(summaries(run, 0), order).map(({ reward }) => reward);
    expect(rewards.indexOf(null)).toBe(rewards.filter((reward) => reward !== null).length);
  }
  const all = Array.from({ length: run.numTurns }, (_, turn) => turn);
  for (const order of ["rate", "-rate"]) {
    const rates = sortTurns(all, columns(run, 0), order).map((turn) => run.rate(0, turn));
    expect(rates.slice(rates.indexOf(null)).every((rate) => rate === null)).toBe(true);
  }
});

test("ids sort as people count", () => {
  expect(
    sortSummaries(summaries(run, 0), "id")
      .slice(0, 3)
      .map(({ id }) => id),
  ).toEqual(["t0", "t1", "t2"]);
});

test("trajectories with samples come first, whichever way ids are sorted", () => {
  for (const order of ["id", "-id"]) {
    const sampled = sortSummaries(summaries(run, 0), order).map((summary) => summary.sampled);
    expect(sampled.indexOf(false)).toBeGreaterThan(0);
    expect(sampled.lastIndexOf(true)).toBeLessThan(sampled.indexOf(false));
  }
});

test("with another run, the last evaluations that differ are compared first", () => {
  const { head, index, chunks } = made();
  const [before, after] = [1, 2].map((source) => ({ source: head.sources[source], results: index.results[source] }));
  if (!before?.source || !after?.source || !before.results || !after.results) throw new Error("no evaluations");
  head.sources.push({ ...before.source, name: `run b: ${before.source.name}` });
  head.sources.push({ ...after.source, name: `run b: ${after.source.name}` });
  index.results.push(before.results, { ...after.results, mean: after.results.mean.map(() => 0) });
  const number = head.sources.length;
  const own = mainPair(new Run(head, index, chunks as never));
  head.pairs.push([1, number - 2, "before and b before"], [2, number - 1, "after and b after"]);
  expect(own).toBe(0);
  expect(mainPair(new Run(head, index, chunks as never))).toBe(head.pairs.length - 1);
});

test("the interval of a pass rate is Wilson's", () => {
  // R: binom::binom.wilson(3, 8)
  const [low, high] = wilson(3, 8);
  expect([low.toFixed(4), high.toFixed(4)]).toEqual(["0.1368", "0.6943"]);
  expect(shortRate(null)).toBe("–");
});

test("heat has its strongest colour at the end of the scale", () => {
  expect([
    strength("logprob", 0),
    strength("logprob", -9),
    strength("ratio", 1),
    strength("ratio", 0.5),
    strength("entropy", 1.5),
  ]).toEqual([0, 1, 0, -1, 0.5]);
});
