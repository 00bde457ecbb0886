import { useMemo } from "react";
import { useApp } from "../../context";
import { formatRange } from "../../filter/filter";
import type { Key } from "../../route/route";
import { change } from "../../route/useRoute";
import { Select } from "../../ui/Select";
import { ONLY, OUTCOMES } from "./words";

const ANY: [string, string] = ["", "any"];

export function FilterFields() {
  const { run, source, params } = useApp();
  const set = (key: Key, value: string) => change({ ...params, [key]: value });
  const options = useMemo(() => present(run, source), [run, source]);
  const only = new Set((params.only ?? "").split(",").filter(Boolean));
  const toggle = (flag: string) => {
    if (!only.delete(flag)) only.add(flag);
    set("only", [...only].join(","));
  };
  return (
    <div className="filter-fields" data-testid="filter-fields">
      <Select
        label="Samples"
        value={params.outcome ?? ""}
        options={[ANY, ...OUTCOMES]}
        onChange={(value) => set("outcome", value)}
        testId="filter-outcome"
      />
      <Select
        label="Tool"
        value={params.tool ?? ""}
        options={[ANY, ...options.tools]}
        onChange={(value) => set("tool", value)}
        testId="filter-tool"
      />
      <Select
        label="Reason"
        value={params.reason ?? ""}
        options={[ANY, ...options.reasons]}
        onChange={(value) => set("reason", value)}
        testId="filter-reason"
      />
      <Select
        label="Chosen or dropped"
        value={params.status ?? ""}
        options={[ANY, ...options.statuses]}
        onChange={(value) => set("status", value)}
        testId="filter-status"
      />
      <Select
        label="Split"
        value={params.split ?? ""}
        options={[ANY, ...options.splits]}
        onChange={(value) => set("split", value)}
        testId="filter-split"
      />
      <Range
        label="Pass rate"
        value={params.rate}
        least={0}
        most={1}
        step={0.05}
        onChange={(value) => set("rate", value)}
        testId="filter-rate"
      />
      <Range
        label="Turn number"
        value={params.depth}
        least={1}
        most={9999}
        step={1}
        onChange={(value) => set("depth", value)}
        testId="filter-depth"
      />
      <fieldset className="only">
        <legend>Only turns</legend>
        {ONLY.map(([flag, text]) => (
          <label key={flag}>
            <input
              type="checkbox"
              checked={only.has(flag)}
              onChange={() => toggle(flag)}
              data-testid={`filter-${flag}`}
            />{" "}
            {text}
          </label>
        ))}
      </fieldset>
    </div>
  );
}

interface RangeProps {
  label: string;
  value: string | undefined;
  least: number;
  most: number;
  step: number;
  onChange: (value: string) => void;
  testId: string;
}

function Range({ label, value, least, most, step, onChange, testId }: RangeProps) {
  const [low = "", high = ""] = (value ?? "").split("..");
  const limits = { type: "number", min: least, max: most, step, inputMode: "decimal" } as const;
  return (
    <fieldset className="range">
      <legend>{label}</legend>
      <input
        {...limits}
        aria-label={`${label} from`}
        placeholder={String(least)}
        value={low}
        onChange={(event) => onChange(formatRange(event.target.value, high))}
        data-testid={`${testId}-low`}
      />
      to
      <input
        {...limits}
        aria-label={`${label} to`}
        placeholder={most < 9999 ? String(most) : "∞"}
        value={high}
        onChange={(event) => onChange(formatRange(low, event.target.value))}
        data-testid={`${testId}-high`}
      />
    </fieldset>
  );
}

/** What occurs among the turns of this source, commonest first, with counts. */
function present(run: ReturnType<typeof useApp>["run"], source: number) {
  const [tools, reasons, statuses, splits] = [
    new Map<string, number>(),
    new Map<string, number>(),
    new Map<string, number>(),
    new Map<string, number>(),
  ];
  const count = (map: Map<string, number>, key: string) => map.set(key, (map.get(key) ?? 0) + 1);
  for (let turn = 0; turn < run.numTurns; turn++) {
    count(tools, run.tool(turn));
    count(statuses, run.code(run.status(turn)));
    count(splits, run.splitOf(turn));
    const reason = run.reason(source, turn);
    if (reason >= 0) count(reasons, run.code(reason));
  }
  const list = (map: Map<string, number>, words: Record<string, string> = {}): [string, string][] =>
    [...map]
      .sort(([, a], [, b]) => b - a)
      .map(([key, number]) => [key, `${words[key] ?? key} (${number.toLocaleString("en")})`]);
  return {
    tools: list(tools),
    reasons: list(reasons, run.head.explain.reasons),
    statuses: list(statuses, run.head.explain.statuses),
    splits: list(splits),
  };
}
