import { cleanup, render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, test } from "vitest";
import { App } from "../src/App";
import { amount, changeWords, linesOf } from "../src/compare/policies";
import { Run } from "../src/data/run";
import type { Comparison, Policy, Source } from "../src/data/schema";
import { madeRun } from "./runs";

function policy(name: string, method: number, step: number, score: number, harm: number, best = false): Policy {
  return {
    policy: name,
    method,
    rate: 1e-4,
    step,
    seeds: 2,
    rollout_turns: 100 * step,
    seconds: step,
    values: {
      "turns/greedy": [score, method < 0 ? null : score - 0.5, method < 0 ? null : score - 0.6, 0.9],
      nll: [2 + harm, method < 0 ? null : harm, harm - 0.1, harm + 0.1],
    },
    best,
  };
}

const comparison: Comparison = {
  score: "turns/greedy",
  harm: "nll",
  advice: "Use PivotRL: it scores higher.",
  measures: [
    { name: "turns/greedy", label: "turns, greedy", unit: "share" },
    { name: "nll", label: "NLL", unit: "nats" },
  ],
  methods: ["imitation", "PivotRL"],
  policies: [
    policy("before training", -1, 0, 0.5, 0),
    policy("imitation, 10", 0, 10, 0.6, 0.2),
    policy("imitation, 20", 0, 20, 0.7, 0.1, true),
    policy("PivotRL, 10", 1, 10, 0.8, 0.01, true),
  ],
};

/** The three sources of a run, told as policies of a comparison. */
function madeComparison(): Run {
  const { head, index, chunks } = madeRun();
  const names = ["before training", "imitation, 20", "PivotRL, 10"];
  const sources: Source[] = head.sources.map((source, i) => ({
    ...source,
    kind: "evaluation",
    policy: names[i] ?? "",
    draw: "greedy, all seeds",
  }));
  return new Run({ ...head, sources, comparison }, index, chunks);
}

const run = madeComparison();

beforeEach(() => {
  window.localStorage.clear();
  window.location.hash = "";
});
afterEach(cleanup);

test("numbers have the form of the comparison's own page", () => {
  expect(amount("share", 0.5)).toBe("50.0");
  expect(amount("share", -0.00001, true)).toBe("0.0");
  expect(changeWords("share", [0.8, 0.3, -0.02, 0.4])).toBe("+30.0 [−2.0, +40.0]");
  expect(changeWords("nats", [2, 0.1, 0, 0.2])).toBe("+0.100 [0.000, +0.200]");
});

test("a point that another of its method beats with less forgetting is on no line, but over cost it is", () => {
  expect(
    linesOf(comparison, 0, "harm")
      .flat()
      .map((each) => each.policy),
  ).toEqual(["imitation, 20"]);
  expect(
    linesOf(comparison, 0, "step")
      .flat()
      .map((each) => each.policy),
  ).toEqual(["imitation, 10", "imitation, 20"]);
});

test("the overview tells the advice and the chosen policies, and a name opens its turns beside those before training", async () => {
  render(<App run={run} />);
  expect(screen.getByTestId("comparison").textContent).toContain("Use PivotRL");
  const rows = screen.getByTestId("policies").querySelectorAll("tbody tr");
  expect([...rows].map((row) => row.querySelector("th")?.textContent?.replace(" ★", ""))).toEqual([
    "before training",
    "imitation, 20",
    "PivotRL, 10",
  ]);
  await userEvent.setup().click(screen.getByTestId("policies").querySelectorAll("a")[1] as HTMLElement);
  await waitFor(() => expect(screen.getByTestId("compare-summary")).toBeDefined());
  expect((screen.getByTestId("before") as HTMLSelectElement).value).toBe("before training");
  expect((screen.getByTestId("after") as HTMLSelectElement).value).toBe("PivotRL, 10");
});

test("any two policies can be compared and swapped", async () => {
  const user = userEvent.setup();
  window.location.hash = "#view=compare";
  render(<App run={run} />);
  await user.selectOptions(screen.getByTestId("after"), "before training");
  await user.selectOptions(screen.getByTestId("before"), "imitation, 20");
  const summary = () => screen.getByTestId("compare-summary").textContent ?? "";
  const [better, worse] = [/(\d+) better/, /(\d+) worse/].map((pattern) => Number(summary().match(pattern)?.[1]));
  await user.click(screen.getByTestId("swap"));
  expect(summary()).toContain(`${worse} better`);
  expect(summary()).toContain(`${better} worse`);
});
