import { beforeAll, expect, test } from "vitest";
import { type Scope, SearchIndex } from "../src/search/searchIndex";
import { places, terms } from "../src/search/terms";
import { type Made, made } from "./runs";

let run: Made;
let search: SearchIndex;
const PROFILE = 0;

beforeAll(() => {
  run = made();
  search = new SearchIndex(run.index);
  run.chunks.forEach((chunk, i) => search.add(i + 1, chunk));
});

const find = (query: string, scope: Scope = "here", source = PROFILE) =>
  search.find(query, source, scope).map(({ turn }) => turn);

/** An independent answer: every text of a turn, looked through in the plainest way. */
function turnsWith(word: string | RegExp): number[] {
  const isIn = (text: string) =>
    typeof word === "string" ? text.toLowerCase().includes(word) : word.test(text.toLowerCase());
  const { turns, trajectories, results } = run.index;
  const hits = new Set<number>();
  turns.trajectory.forEach((t, turn) => {
    const messages =
      run.chunks[(trajectories.chunk[t] ?? 0) - 1]?.trajectories?.[trajectories.slot[t] ?? 0]?.messages ?? [];
    const isLast = turns.trajectory[turn + 1] !== t;
    const from = turns.trajectory[turn - 1] === t ? (turns.message[turn - 1] ?? 0) + 1 : 0;
    const fresh = messages.slice(from, isLast ? undefined : (turns.message[turn] ?? 0) + 1);
    if (
      fresh.some(({ content, reasoning, calls }) =>
        isIn(`${content} ${reasoning} ${calls.map((call) => `${call.name}(${call.arguments}`).join()}`),
      )
    )
      hits.add(turn);
  });
  results[PROFILE]?.turn.forEach((turn, row) => {
    const samples = run.chunks[(results[PROFILE]?.chunk[row] ?? 0) - 1]?.samples?.[results[PROFILE]?.slot[row] ?? 0];
    const text = samples?.actions
      .map((action) =>
        [
          action.text,
          action.detail,
          run.index.codes[action.reason],
          ...action.samples.map((sample) => sample.text),
        ].join(),
      )
      .join();
    if (text && isIn(text)) hits.add(turn);
  });
  return [...hits].sort((a, b) => a - b);
}

test.each(["voucher", "kettle", "ordered by mistake", "order_id: expected"])(
  "finds %s where it is, and nowhere else",
  (word) => {
    expect(turnsWith(word).length).toBeGreaterThan(0);
    expect(find(`"${word}"`)).toEqual(turnsWith(word));
  },
);

test.each([
  ["tell", /(?<![a-z0-9])tell/, /tell/],
  ["ord", /(?<![a-z0-9])ord/, /ord/],
])("the last word %s is the beginning of a word, and quotes find it inside words too", (word, whole, anywhere) => {
  expect(find(word)).toEqual(turnsWith(whole));
  expect(find(`"${word}"`)).toEqual(turnsWith(anywhere));
});

test("all words must occur at the turn, and all but the last as whole words", () => {
  const both = turnsWith(/(?<![a-z0-9])voucher(?![a-z0-9])/).filter((turn) =>
    turnsWith(/(?<![a-z0-9])ket/).includes(turn),
  );
  expect(both.length).toBeGreaterThan(0);
  expect(find("VOUCHER ket")).toEqual(both);
  expect(find("ket voucher")).toEqual([]);
});

test.each([
  ["cut", "execute the cut, uncut", ["cut"]],
  ['"cut"', "execute the cut, uncut", ["cut", "cut", "cut"]],
  ["cut t", "cut the cutter", ["cut", "t"]],
  ['cut "t', "cutter cut it", ["tt", "cut", "t"]],
  ["order", "get_order(order_id) reorder", ["order", "order"]],
  ["order_id:", "order_id: 7, reorder_id: 8", ["order_id:"]],
  ["é", "été, zéro", ["é"]],
  ["订单", "我的订单在哪里", ["订单"]],
  ["2024-05", "on 2024-05-01, not 12024-05", ["2024-05"]],
])("%s in “%s” marks %j", (query, text, marked) => {
  expect(places(terms(query), text).map(([from, to]) => text.slice(from, to))).toEqual(marked);
});

test("the whole context finds later turns of the trajectory, not earlier ones", () => {
  const { trajectory, message } = run.index.turns;
  const first =
    run.chunks
      .flatMap((chunk) => chunk.trajectories ?? [])
      .at(0)
      ?.messages[1]?.content?.split(" ")
      .slice(0, 6)
      .join(" ") ?? "";
  const turns = find(`"${first}"`, "context");
  const own = trajectory.flatMap((t, turn) => (t === trajectory[turns[0] ?? 0] ? [turn] : []));
  expect(turns).toEqual(own);
  expect(message[turns[0] ?? 0]).toBe(2);
});

test("samples of another source are not searched", () => {
  const onlyAfter = run.index.results[2]?.turn[0] ?? 0;
  const place = run.index.results[2];
  const text =
    run.chunks[(place?.chunk[0] ?? 0) - 1]?.samples?.[place?.slot[0] ?? 0]?.actions[0]?.text.slice(7, 60) ?? "";
  expect(find(`"${text}"`, "actions", 2)).toEqual([onlyAfter]);
  expect(find(`"${text}"`, "actions", 0)).toEqual([]);
});

test("a snippet shows the match in its own letters", () => {
  const hit = search.find("voucher", PROFILE, "here")[0];
  expect(hit?.snippet().match).toBe("voucher");
});

test("letters whose lower case is longer do not shift the places of others", () => {
  expect(find("gnp.exe").length).toBeGreaterThan(0);
  const snippet = search.find("gnp.exe", PROFILE, "here")[0]?.snippet();
  expect(snippet?.match).toBe("gnp.exe");
});

test("a query of blanks or a lone quote finds nothing and does not fail", () => {
  expect(terms('  " ')).toEqual([]);
  expect(find('"')).toEqual([]);
});
