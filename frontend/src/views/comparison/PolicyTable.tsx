import { amount, changeWords, UNKNOWN } from "../../compare/policies";
import { useApp } from "../../context";
import type { Comparison, Policy } from "../../data/schema";
import { compareHref } from "./compareHref";

export function PolicyTable(props: {
  comparison: Comparison;
  policies: Policy[];
  measures: (string | null)[];
  testId: string;
}) {
  const { comparison, policies, testId } = props;
  const { run, params } = useApp();
  const measures = comparison.measures.filter(({ name }) => props.measures.includes(name));
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label="Policies">
      <table className="policies" data-testid={testId}>
        <thead>
          <tr>
            <th scope="col">policy</th>
            {measures.map(({ name, label }) => (
              <th key={name} scope="col">
                {label}
              </th>
            ))}
            <th scope="col">rollout turns</th>
            <th scope="col">seconds</th>
            <th scope="col">seeds</th>
          </tr>
        </thead>
        <tbody>
          {policies.map((policy) => {
            const href = compareHref(run, params, policy);
            return (
              <tr key={policy.policy}>
                <th scope="row">
                  {policy.method >= 0 && <span className={`method-mark method-${policy.method % 8}`} />}
                  {href ? <a href={href}>{policy.policy}</a> : policy.policy}
                  {policy.best && (
                    <span title="Chosen on the validation tasks" aria-label=", chosen on the validation tasks">
                      {" "}
                      ★
                    </span>
                  )}
                </th>
                {measures.map(({ name, unit }) => {
                  const value = policy.values[name] ?? UNKNOWN;
                  return (
                    <td key={name}>
                      {amount(unit, value[0])}
                      <span className="quiet change-words">{changeWords(unit, value)}</span>
                    </td>
                  );
                })}
                <td>{Math.round(policy.rollout_turns).toLocaleString("en")}</td>
                <td>{Math.round(policy.seconds).toLocaleString("en")}</td>
                <td>{policy.seeds}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
