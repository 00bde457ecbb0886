import { expect, test } from "vitest";
import { tabSeparated } from "../src/text/table";
import { visible } from "../src/text/visible";

test("escapes and control characters become symbols; plain text is untouched", () => {
  const text = visible("a\u001b[31mred\u001b[0m\ttab\r\nline\u0007 \u202Egnp")
    .map((piece) => piece.text)
    .join("");
  expect(text).toBe("a␛[31mred␛[0m\ttab\nline␇ ⟨U+202E⟩gnp");
  expect(visible("plain")).toEqual([{ text: "plain", control: false }]);
});

test("no cell of a copied table is a formula, and none breaks the table", () => {
  const rows = tabSeparated([["=1+1", "+x", "-y", "@z", " =a", "|cmd", "fine", -0.5, null, "a\tb\nc"]]);
  expect(rows).toBe("'=1+1\t'+x\t'-y\t'@z\t' =a\t'|cmd\tfine\t-0.5\t\ta b c\n");
});
