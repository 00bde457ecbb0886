import { shortRate, signed, variance } from "../../data/rates";
import type { Run } from "../../data/run";

export interface Column {
  key: string;
  title: string;
  /** What a reader may ask of the title. */
  hint?: string;
  /** What the column is sorted by; null comes last. */
  value: (turn: number) => number | string | null;
  /** What is shown and copied. */
  text: (turn: number) => string;
  numeric?: boolean;
}

export function columns(run: Run, source: number): Column[] {
  const rate = (turn: number) => run.rate(source, turn);
  const spread = (turn: number) => (rate(turn) === null ? null : variance(rate(turn) ?? 0));
  const reason = (turn: number) => (run.reason(source, turn) < 0 ? "" : run.reasonWords(run.reason(source, turn)));
  const depth = (turn: number) => run.index.turns.depth[turn] ?? 0;
  const list: Column[] = [
    { key: "id", title: "Trajectory", value: (turn) => turn, text: (turn) => run.turnId(turn) },
    { key: "depth", title: "Turn", value: depth, text: (turn) => String(depth(turn)), numeric: true },
    { key: "tool", title: "Tool", value: (turn) => run.tool(turn), text: (turn) => run.tool(turn) },
    { key: "rate", title: "Pass rate", value: rate, text: (turn) => shortRate(rate(turn)), numeric: true },
    { key: "variance", title: "Variance", value: spread, text: (turn) => shortRate(spread(turn)), numeric: true },
    { key: "reason", title: "Commonest reason", value: (turn) => reason(turn) || null, text: reason },
    {
      key: "status",
      title: "Chosen or dropped",
      value: (turn) => run.statusWords(run.status(turn)),
      text: (turn) => run.statusWords(run.status(turn)),
    },
  ];
  const pair = run.head.pairs.find(([before, after]) => before === source || after === source) ?? run.head.pairs[0];
  if (!pair) return list;
  const change = (turn: number) => {
    const [before, after] = [run.rate(pair[0], turn), run.rate(pair[1], turn)];
    return before === null || after === null ? null : after - before;
  };
  return [
    ...list,
    {
      key: "change",
      title: "Change",
      hint: pair[2],
      value: change,
      text: (turn) => signed(change(turn)),
      numeric: true,
    },
  ];
}

const names = new Intl.Collator("en", { numeric: true });

/** `order` is a column's key; "-rate" sorts downwards. */
export function sortTurns(turns: number[], list: Column[], order: string): number[] {
  const down = order.startsWith("-");
  const column = list.find(({ key }) => key === order.replace("-", ""));
  if (!column || (column.key === "id" && !down)) return turns;
  const sign = down ? -1 : 1;
  const keyed = turns.map((turn) => ({ turn, value: column.value(turn) }));
  keyed.sort((a, b) => {
    if (a.value === null || b.value === null)
      return Number(a.value === null) - Number(b.value === null) || a.turn - b.turn;
    const order =
      typeof a.value === "number" && typeof b.value === "number"
        ? a.value - b.value
        : names.compare(String(a.value), String(b.value));
    return sign * order || a.turn - b.turn;
  });
  return keyed.map(({ turn }) => turn);
}
