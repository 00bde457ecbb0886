import { expect, test } from "vitest";
import { actText, callOnFewLines, callText } from "../src/actions/actText";
import { difference, type Piece } from "../src/actions/difference";

const text = (pieces: Piece[] | null, ...kinds: Piece["kind"][]) =>
  (pieces ?? [])
    .filter(({ kind }) => kinds.includes(kind))
    .map((piece) => piece.text)
    .join("");

test("equal arguments in another order and with other blanks give equal text", () => {
  expect(callText({ name: "f", arguments: '{"b": [1, {"d":2,"c":3}], "a": "x"}' })).toBe(
    callText({ name: "f", arguments: '{"a":"x","b":[1,{"c":3,"d":2}]}' }),
  );
});

test("arguments that are no JSON object are shown as they are", () => {
  expect(callText({ name: "f", arguments: '{"a": ' })).toBe('f({"a": )');
  expect(callText({ name: "f", arguments: "[1]" })).toBe("f([1])");
});

test("a short call takes one line, a long one a line for each argument", () => {
  expect(callOnFewLines({ name: "f", arguments: '{"a": 1, "b": "x"}' })).toBe('f(a: 1, b: "x")');
  expect(
    callOnFewLines({ name: "f", arguments: JSON.stringify({ a: "x".repeat(90), b: 1 }) }).split("\n"),
  ).toHaveLength(4);
});

test("the difference gives both texts back, and marks the argument that differs", () => {
  const accepted = actText({
    content: null,
    calls: [{ name: "get", arguments: '{"day": "2024-05-01", "city": "Oslo"}' }],
  });
  const sampled = actText({
    content: null,
    calls: [{ name: "get", arguments: '{"city": "Oslo", "day": "2024-05-02"}' }],
  });
  const pieces = difference(accepted, sampled);
  expect(text(pieces, "same", "missing")).toBe(accepted);
  expect(text(pieces, "same", "extra")).toBe(sampled);
  expect(text(pieces, "missing")).toBe("1");
  expect(text(pieces, "extra")).toBe("2");
});

test("texts with nothing in common are not mixed", () => {
  expect(difference('cancel(\n  order: "W1"\n)', "I will look into this for you.")).toBeNull();
});

test("a long text is compared in bounded time", () => {
  const long = Array.from({ length: 40_000 }, (_, i) => `word${(i * 7919) % 1000}`).join(" ");
  const start = performance.now();
  difference(long, long.split(" ").reverse().join(" "));
  expect(performance.now() - start).toBeLessThan(3000);
});
