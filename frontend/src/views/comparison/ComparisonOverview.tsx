import { useApp } from "../../context";
import type { Comparison } from "../../data/schema";
import { mainPolicies } from "../../compare/policies";
import { format, inView } from "../../route/route";
import { Frontier } from "./Frontier";
import { PolicyTable } from "./PolicyTable";

/** What `pivotrl compare` found; every policy in it opens beside the one before training. */
export function ComparisonOverview({ comparison }: { comparison: Comparison }) {
  const { params, run } = useApp();
  const label = (name: string | null) => comparison.measures.find((measure) => measure.name === name)?.label;
  const without = comparison.methods.filter(
    (_, method) => !comparison.policies.some((policy) => policy.method === method && policy.best),
  );
  return (
    <section className="comparison" aria-labelledby="comparison-title" data-testid="comparison">
      <div className="section-head">
        <h2 id="comparison-title">Methods compared</h2>
        {run.head.pairs.length > 0 && (
          <a className="button main-button" href={format(inView(params, "compare"))} data-testid="open-compare">
            What changed, turn by turn
          </a>
        )}
      </div>
      {comparison.advice && <p className="advice">{comparison.advice}</p>}
      <div className="comparison-columns">
        <Frontier comparison={comparison} />
        <div className="comparison-table">
          <PolicyTable
            comparison={comparison}
            policies={mainPolicies(comparison)}
            measures={[comparison.score, comparison.harm]}
            testId="policies"
          />
          {without.length > 0 && (
            <p className="quiet">
              {without.join(" and ")}: no rate and number of updates beat the policy before training on the validation
              tasks.
            </p>
          )}
          <p className="quiet small">
            Score: {label(comparison.score)}.{" "}
            {comparison.harm ? `Forgetting: ${label(comparison.harm)}.` : "Forgetting was not measured."} Shares are in
            percent, changes in points from before training, with 95 % intervals for new seeds and new tasks. ★ was
            chosen on the validation half of the held-out tasks; all numbers are those of the other half. A name opens
            the turns that changed.
          </p>
        </div>
      </div>
      <details className="numbers" data-testid="all-policies">
        <summary>All {comparison.policies.length} policies and their numbers</summary>
        <PolicyTable
          comparison={comparison}
          policies={comparison.policies}
          measures={comparison.measures.map(({ name }) => name)}
          testId="policy-numbers"
        />
      </details>
    </section>
  );
}
