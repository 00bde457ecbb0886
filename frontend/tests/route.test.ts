import { expect, test } from "vitest";
import { format, inView, parse, viewOf, withoutFilters } from "../src/route/route";

test("a location survives being written and read, whatever the ids contain", () => {
  const params = { view: "turn", source: "run B: profile", turn: "a/b&c=d #1#4", q: '"50 %" ü', rate: "0.1..0.9" };
  expect(parse(format(params))).toEqual(params);
});

test("unknown keys and views are left out", () => {
  expect(parse("#view=turns&x=1")).toEqual({ view: "turns" });
  expect(viewOf({ view: "nonsense" })).toBe("overview");
});

test("another view keeps source and filters, and forgets the place", () => {
  const params = { view: "turn", turn: "a#1", sample: "3", source: "profile", tool: "f" };
  expect(inView(params, "turns")).toEqual({ view: "turns", source: "profile", tool: "f" });
  expect(withoutFilters(inView(params, "turns"))).toEqual({ view: "turns", source: "profile" });
});
