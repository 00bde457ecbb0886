import type { Run } from "../../data/run";
import type { Policy } from "../../data/schema";
import { format, inView, type Params } from "../../route/route";
import { sourceOf } from "../../ui/SourceSelect";

/** The compare view of a policy beside the one before training; undefined where the page does not have its samples. */
export function compareHref(run: Run, params: Params, policy: Policy): string | undefined {
  const { sources, comparison } = run.head;
  const before = sourceOf(sources, comparison?.policies[0]?.policy, undefined);
  const after = sourceOf(sources, policy.policy, before?.draw);
  if (!before || !after || policy.method < 0) return undefined;
  return format(inView(params, "compare", { before: before.name, after: after.name }));
}
