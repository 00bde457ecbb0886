import { useApp } from "../../context";
import { change } from "../../route/useRoute";
import { Select } from "../../ui/Select";
import { DrawSelect, PolicySelect, sourceOf } from "../../ui/SourceSelect";

/** Which two sources are compared: in a run one of its pairs, in a comparison any two policies. */
export function PairSelect({ pair: [before, after] }: { pair: [before: number, after: number] }) {
  const { run, params } = useApp();
  const { pairs, sources } = run.head;
  const [old, fresh] = [sources[before], sources[after]];
  if (!old?.policy || !fresh?.policy) {
    return (
      <Select
        label="Pair"
        value={String(pairs.findIndex(([a, b]) => a === before && b === after))}
        options={pairs.map(([, , title], i) => [String(i), title])}
        onChange={(value) => change({ view: "compare", pair: value, order: params.order ?? "" })}
        testId="pair"
        wide
      />
    );
  }
  const show = (from: string | undefined, to: string | undefined, draw: string | undefined) =>
    change({
      ...params,
      pair: "",
      turn: "",
      before: sourceOf(sources, from, draw)?.name ?? "",
      after: sourceOf(sources, to, draw)?.name ?? "",
    });
  return (
    <>
      <PolicySelect
        label="From"
        run={run}
        policy={old.policy}
        onChange={(policy) => show(policy, fresh.policy, old.draw)}
        testId="before"
        wide
      />
      <button
        type="button"
        className="button square"
        aria-label="Swap the two policies"
        onClick={() => change({ ...params, pair: "", before: fresh.name, after: old.name })}
        data-testid="swap"
      >
        ⇄
      </button>
      <PolicySelect
        label="to"
        run={run}
        policy={fresh.policy}
        onChange={(policy) => show(old.policy, policy, old.draw)}
        testId="after"
        wide
      />
      <DrawSelect
        run={run}
        policies={[old.policy, fresh.policy]}
        draw={old.draw ?? ""}
        onChange={(draw) => show(old.policy, fresh.policy, draw)}
      />
    </>
  );
}
