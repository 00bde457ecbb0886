import { actTitle } from "../../actions/actText";
import type { Run } from "../../data/run";
import type { Cluster } from "../../data/schema";
import type { Key, Params } from "../../route/route";
import { ONLY, OUTCOMES } from "./words";

export interface Chip {
  key: Key;
  text: string;
  /** The location without this filter. */
  without: Params;
}

export function chips(run: Run, params: Params): Chip[] {
  const list: Chip[] = [];
  const add = (key: Key, text: string, without: Params = { ...params, [key]: "" }) => list.push({ key, text, without });
  if (params.q) add("q", `“${params.q}”`);
  if (params.tool) add("tool", `tool: ${params.tool}`);
  if (params.reason) add("reason", `reason: ${run.head.explain.reasons[params.reason] ?? params.reason}`);
  if (params.status) add("status", run.head.explain.statuses[params.status] ?? params.status);
  if (params.outcome) add("outcome", OUTCOMES.find(([value]) => value === params.outcome)?.[1] ?? params.outcome);
  if (params.split) add("split", `split: ${params.split}`);
  if (params.rate) add("rate", `pass rate ${params.rate.replace("..", " to ")}`);
  if (params.depth) add("depth", `turn number ${params.depth.replace("..", " to ")}`);
  if (params.cluster) add("cluster", `mistake: ${shorten(mistakeTitle(run.index.clusters[Number(params.cluster)]))}`);
  const only = (params.only ?? "").split(",").filter(Boolean);
  for (const flag of only) {
    const text = ONLY.find(([value]) => value === flag)?.[1] ?? flag;
    add("only", text, { ...params, only: only.filter((other) => other !== flag).join(",") });
  }
  return list;
}

function mistakeTitle(cluster: Cluster | undefined): string {
  return cluster ? actTitle(cluster.act) || cluster.text || "(empty)" : "?";
}

function shorten(text: string): string {
  return text.length > 60 ? `${text.slice(0, 58)}…` : text;
}
