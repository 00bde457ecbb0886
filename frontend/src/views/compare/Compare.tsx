import { useEffect, useMemo } from "react";
import { type ChangeOrder, compare, pairOf, sortChanges } from "../../compare/changes";
import { useApp } from "../../context";
import { signed } from "../../data/rates";
import { change } from "../../route/useRoute";
import { stepOf } from "../../keys/keys";
import { Choice } from "../../ui/Choice";
import { ChangeList } from "./ChangeList";
import { PairSelect } from "./PairSelect";
import { SideBySide } from "./SideBySide";

const ORDERS: [ChangeOrder, string][] = [
  ["loss", "Largest loss first"],
  ["gain", "Largest gain first"],
  ["run", "In order"],
];

/** The same turns under two policies or two runs. */
export function Compare() {
  const { run, params } = useApp();
  const { sources } = run.head;
  // `params` changes with every turn; the pair does not.
  const pair = useMemo(() => pairOf(run, params), [run, params.pair, params.before, params.after]);
  const order = ORDERS.find(([name]) => name === params.order)?.[0] ?? "loss";
  const comparison = useMemo(() => (pair ? compare(run, pair[0], pair[1]) : null), [run, pair]);
  const sorted = useMemo(() => sortChanges(comparison?.changes ?? [], order), [comparison, order]);
  const named = run.findTurn(params.turn ?? "");
  const current = named !== undefined && sorted.some(({ turn }) => turn === named) ? named : sorted[0]?.turn;
  useSteps(
    sorted.map(({ turn }) => turn),
    current,
    (turn) => change({ ...params, view: "compare", turn: run.turnId(turn) }),
  );

  if (!pair || !comparison) {
    return (
      <p className="nothing">
        This run has no two sources with the same turns. An evaluation before and after training, or a second run given
        to pivotrl view, makes them.
      </p>
    );
  }
  const { better, worse, same, mean, unpaired } = comparison;
  return (
    <>
      <div className="table-title">
        <h1>Compare</h1>
        <PairSelect pair={pair} />
        <Choice
          label="Order"
          value={order}
          options={ORDERS}
          onChange={(value) => change({ ...params, order: value, turn: "" })}
          testId="order"
        />
      </div>
      <p className="compare-summary" data-testid="compare-summary">
        <b>{comparison.changes.length.toLocaleString("en")}</b> turns in both: <b className="gain">{better} better</b>,{" "}
        <b className="loss">{worse} worse</b>, {same} the same. Mean change <b>{signed(mean)}</b>
        {unpaired > 0 && <span className="quiet"> · {unpaired} judged in only one of them and left out</span>}
        <span className="quiet">
          {" "}
          · {sources[pair[0]]?.title} → {sources[pair[1]]?.title}
        </span>
      </p>
      <div className="compare-columns">
        <ChangeList changes={sorted} current={current} />
        {current !== undefined && <SideBySide key={current} turn={current} before={pair[0]} after={pair[1]} />}
      </div>
    </>
  );
}

/** j and k step through the list. */
function useSteps(turns: number[], current: number | undefined, show: (turn: number) => void): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const step = stepOf(event);
      if (step === 0) return;
      const next = turns[turns.indexOf(current ?? -1) + step];
      if (next !== undefined) show(next);
      event.preventDefault();
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  });
}
