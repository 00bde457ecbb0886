import { useEffect, useMemo, useState } from "react";
import { type Matches, useProgress } from "../context";
import type { Run } from "../data/run";
import type { Labels } from "../labels/labels";
import { FILTER_KEYS, type Params } from "../route/route";
import type { Search } from "../search/client";
import { SCOPES } from "../search/searchIndex";
import { filterOf, matching } from "./filter";

interface Found {
  key: string;
  turns: number[];
  milliseconds: number;
}

/** Turns that satisfy the filters of the location and, once the search has answered, its query. */
export function useMatches(run: Run, search: Search, params: Params, source: number, labels: Labels): Matches {
  const query = (params.q ?? "").trim();
  const scope = SCOPES.find((each) => each === params.in) ?? "here";
  const { done, total } = useProgress(search);
  const [found, setFound] = useState<Found | null>(null);
  const key = query ? `${query}\n${scope}\n${source}` : "";
  // While chunks arrive, the query is asked again a few times, and once more at the end.
  const stage = total ? Math.floor((8 * done) / total) : 8;

  useEffect(() => {
    if (!query) return;
    let current = true;
    void search.find(query, source, scope).then(
      (reply) => current && setFound({ key, ...reply }),
      () => current && setFound({ key, turns: [], milliseconds: 0 }),
    );
    return () => {
      current = false;
    };
  }, [search, query, scope, source, key, stage]);

  const filterText = FILTER_KEYS.map((name) => params[name] ?? "").join("\n");
  const passing = useMemo(
    () => matching(run, source, filterOf(params), (turnId) => labels.has(turnId)),
    // `params` changes with every step; only the filters in it matter here.
    [run, source, filterText, labels],
  );
  return useMemo(() => {
    const fits = found?.key === key;
    const hits = query && fits ? new Set(found.turns) : undefined;
    const turns = query ? (hits ? passing.filter((turn) => hits.has(turn)) : []) : passing;
    return {
      turns,
      set: new Set(turns),
      filtered: turns.length < run.numTurns || filterText.trim() !== "",
      query,
      searching: query !== "" && !fits,
      milliseconds: query && fits ? found.milliseconds : null,
    };
  }, [passing, found, key, query, run, filterText]);
}
