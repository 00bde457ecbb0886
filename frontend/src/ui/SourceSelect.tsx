import type { Run } from "../data/run";
import type { Source } from "../data/schema";
import { Select } from "./Select";

/** Which samples are shown. In a comparison there are many sources, so one chooses the policy, then how it was sampled. */
export function SourceSelect({
  run,
  source,
  onChange,
}: {
  run: Run;
  source: number;
  onChange: (name: string) => void;
}) {
  const { sources } = run.head;
  const chosen = sources[source];
  if (!chosen?.policy) {
    return (
      <Select
        label="Source"
        value={chosen?.name ?? ""}
        options={sources.map(({ name, title }) => [name, title])}
        onChange={onChange}
        testId="source"
      />
    );
  }
  return (
    <>
      <PolicySelect
        label="Policy"
        run={run}
        policy={chosen.policy}
        onChange={(policy) => onChange(sourceOf(sources, policy, chosen.draw)?.name ?? "")}
        testId="policy"
      />
      <DrawSelect
        run={run}
        policies={[chosen.policy]}
        draw={chosen.draw ?? ""}
        onChange={(draw) => onChange(sourceOf(sources, chosen.policy, draw)?.name ?? "")}
      />
    </>
  );
}

export function PolicySelect(props: {
  label: string;
  run: Run;
  policy: string;
  onChange: (policy: string) => void;
  testId: string;
  wide?: boolean;
}) {
  const { run, policy, label, onChange, testId, wide } = props;
  const policies = [...new Set(run.head.sources.map((source) => source.policy ?? ""))];
  const best = new Set(run.head.comparison?.policies.filter((each) => each.best).map((each) => each.policy));
  return (
    <Select
      label={label}
      value={policy}
      options={policies.map((each) => [each, best.has(each) ? `${each} ★` : each])}
      onChange={onChange}
      testId={testId}
      wide={wide ? "half" : false}
    />
  );
}

/** Greedy or sampled, all seeds or one: what all of the policies have. */
export function DrawSelect(props: { run: Run; policies: string[]; draw: string; onChange: (draw: string) => void }) {
  const { run, policies, draw, onChange } = props;
  const { sources } = run.head;
  const draws = [...new Set(sources.map((source) => source.draw ?? ""))].filter((each) =>
    policies.every((policy) => sources.some((source) => source.policy === policy && source.draw === each)),
  );
  return (
    <Select
      label="Samples"
      value={draw}
      options={draws.map((each) => [each, each])}
      onChange={onChange}
      testId="draw"
    />
  );
}

/** The source of a policy with this draw; failing that, its first. */
export function sourceOf(sources: Source[], policy: string | undefined, draw: string | undefined): Source | undefined {
  const own = sources.filter((source) => source.policy === policy);
  return own.find((source) => source.draw === draw) ?? own[0];
}
