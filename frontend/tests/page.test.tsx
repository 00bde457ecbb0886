import { cleanup, render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Run } from "../src/data/run";
import { App } from "../src/App";
import { madeRun } from "./runs";

const run = madeRun();

beforeEach(() => {
  window.localStorage.clear();
  window.location.hash = "";
});
afterEach(cleanup);

async function openTurn(id: string, more = ""): Promise<void> {
  window.location.hash = `#view=turn&turn=${encodeURIComponent(id)}${more}`;
  render(<App run={run} />);
  await waitFor(() => expect(screen.getByTestId("turn-title")).toBeDefined());
}

const pivots = Array.from({ length: run.numTurns }, (_, turn) => turn).filter((turn) => run.isPivot(turn));
const pivot = run.turnId(pivots[0] ?? -1);

test("a deep link opens its turn and its sample", async () => {
  await openTurn(pivot, "&source=profile&sample=0");
  await waitFor(() => expect(screen.getByTestId("sample-0").className).toBe("linked"));
});

test("a link to a turn of another run says so", async () => {
  window.location.hash = "#view=turn&turn=nothing%231";
  render(<App run={run} />);
  expect(screen.getByText(/may be from another run/)).toBeDefined();
});

test("equal samples are one card with their number, and a wrong argument is marked in it", async () => {
  const wrong = run.index.codes.indexOf("wrong_argument");
  const turn = run.index.results[0]?.turn.find((each) => run.reason(0, each) === wrong) ?? -1;
  const samples = await run.samples(0, turn);
  await openTurn(run.turnId(turn));
  await waitFor(() =>
    expect(screen.getByTestId("action-0").textContent).toContain(`${samples?.actions[0]?.count} of 8`),
  );
  expect(screen.getAllByTestId(/^action-/)).toHaveLength(samples?.actions.length ?? -1);
  const marks = document.querySelectorAll("[data-testid=difference] pre ins, [data-testid=difference] pre del");
  expect(marks.length).toBeGreaterThan(0);
});

test("text from the log stays text", async () => {
  const turn = run.turnId(run.turnsOf(1)[1] ?? 0); // Trajectory 1 has markup in its user message.
  await openTurn(turn);
  await waitFor(() => expect(screen.getByTestId("chat").textContent).toContain("<script>"));
  expect(document.querySelectorAll("#main script, #main img, #main iframe")).toHaveLength(0);
});

test("keys go to the next pivot, to the next trajectory, and label", async () => {
  const user = userEvent.setup();
  await openTurn(pivot);
  await user.keyboard("p");
  await waitFor(() =>
    expect(decodeURIComponent(window.location.hash)).toMatch(new RegExp(`turn=${run.turnId(pivots[1] ?? -1)}$`)),
  );
  await user.keyboard("l");
  await waitFor(() => expect(screen.getByTestId("labels").textContent).toContain("1"));
  await user.keyboard("J");
  await waitFor(() => expect(screen.getByTestId("crumb-trajectory").textContent).toBe("t1"));
  await user.keyboard("?");
  await waitFor(() => expect(screen.getByTestId("help-dialog")).toBeDefined());
});

test("letters typed into a note are not keys", async () => {
  const user = userEvent.setup();
  await openTurn(pivot);
  await user.type(screen.getByTestId("label-note"), "jp?");
  expect((screen.getByTestId("label-note") as HTMLTextAreaElement).value).toBe("jp?");
  expect(decodeURIComponent(window.location.hash)).toContain(`turn=${pivot}`);
});

test("an action can be accepted too, and the note and the action are in the label", async () => {
  const user = userEvent.setup();
  await openTurn(pivot);
  await waitFor(() => expect(screen.queryAllByText("Accept this too").length).toBeGreaterThan(0));
  await user.click(screen.getAllByText("Accept this too")[0] as HTMLElement);
  await waitFor(() => expect(screen.getByTestId("labels").textContent).toContain("1"));
  expect(screen.getByText(/Accept too:/)).toBeDefined();
});

test("a held-out turn takes a note only, and a turn of an episode no label: pivotrl select would not read it", async () => {
  const user = userEvent.setup();
  const of = (split: string) =>
    run.turnId(run.index.trajectories.first_turn[run.index.trajectories.split.indexOf(split)] ?? -1);
  await openTurn(of("heldout"));
  await user.keyboard("l");
  expect(screen.queryByTestId("label-drop")).toBeNull();
  expect(screen.queryAllByText("Accept this too")).toHaveLength(0);
  await user.type(screen.getByTestId("label-note"), "odd");
  await waitFor(() => expect(screen.getByTestId("labels").textContent).toContain("1"));
  cleanup();
  await openTurn(of("episode"));
  await user.keyboard("l");
  expect(screen.queryByTestId("label-note")).toBeNull();
  expect(screen.getByTestId("labels").textContent).toContain("1");
});

test("compare opens at the largest loss", async () => {
  window.location.hash = "#view=compare";
  render(<App run={run} />);
  await waitFor(() => expect(screen.getByTestId("side-after")).toBeDefined());
  const changes = run.index.results[1]?.turn.flatMap((turn) => {
    const [before, after] = [run.rate(1, turn), run.rate(2, turn)];
    return before === null || after === null ? [] : [{ turn, change: after - before }];
  });
  const worst = changes?.reduce((least, each) => (each.change < least.change ? each : least));
  expect(screen.getByTestId("sides").textContent).toContain(run.turnId(worst?.turn ?? 0));
});

test("a run that has no samples yet opens", async () => {
  const { head, index, chunks } = run;
  const empty = new Run({ ...head, sources: [], pairs: [] }, { ...index, results: [], clusters: [] }, chunks);
  render(<App run={empty} />);
  expect(screen.getByTestId("trajectory-count").textContent).toBe(String(run.numTrajectories));
  cleanup();
  window.location.hash = `#view=turn&turn=${encodeURIComponent(pivot)}`;
  render(<App run={empty} />);
  await waitFor(() => expect(screen.getByTestId("expected")).toBeDefined());
  expect(document.body.textContent).not.toContain("undefined");
});
