import { useEffect, useState } from "react";
import { useApp, useProgress } from "../../context";
import { FILTER_KEYS, withoutFilters } from "../../route/route";
import { change, currentParams } from "../../route/useRoute";
import type { Scope } from "../../search/searchIndex";
import { Select } from "../../ui/Select";
import { chips } from "./chips";
import { FilterFields } from "./FilterFields";

const SCOPE_NAMES: [Scope, string][] = [
  ["here", "anything at the turn"],
  ["context", "whole context"],
  ["actions", "actions"],
  ["reasons", "reasons"],
];
const TYPING_MILLISECONDS = 60;

/** The search field, the filters behind a button, and the active filters as chips that take themselves away. */
export function FilterBar() {
  const { run, params } = useApp();
  const [open, setOpen] = useState(false);
  const active = chips(run, params);
  return (
    <div className="filters">
      <div className="filter-row">
        <SearchField />
        <Select
          label="in"
          value={params.in ?? "here"}
          options={SCOPE_NAMES}
          onChange={(scope) => change({ ...params, in: scope === "here" ? "" : scope })}
          testId="search-in"
        />
        <button
          type="button"
          className="button"
          aria-expanded={open}
          onClick={() => setOpen(!open)}
          data-testid="filters"
        >
          Filters{active.length > 0 && <span className="count">{active.length}</span>}
        </button>
        <ResultCount />
      </div>
      {open && <FilterFields />}
      {active.length > 0 && (
        <ul className="chips" aria-label="Active filters">
          {active.map(({ key, text, without }) => (
            <li key={key + text}>
              <button type="button" className="chip" onClick={() => change(without)} data-testid={`chip-${key}`}>
                {text} <span aria-hidden="true">×</span>
                <span className="hidden">, remove this filter</span>
              </button>
            </li>
          ))}
          <li>
            <button
              type="button"
              className="link"
              onClick={() => change(withoutFilters(params))}
              data-testid="clear-filters"
            >
              Clear all
            </button>
          </li>
        </ul>
      )}
    </div>
  );
}

function SearchField() {
  const { params } = useApp();
  const [text, setText] = useState(params.q ?? "");
  useEffect(() => setText(params.q ?? ""), [params.q]);
  const apply = () => {
    if (text !== (currentParams().q ?? "")) change({ ...currentParams(), q: text });
  };
  useEffect(() => {
    const timer = setTimeout(apply, TYPING_MILLISECONDS);
    return () => clearTimeout(timer);
    // `apply` is made anew with each text.
  }, [text]);
  return (
    <input
      id="search"
      type="search"
      placeholder="Search messages, actions, reasons   ( / )"
      aria-label="Search messages, actions and reasons"
      autoComplete="off"
      spellCheck={false}
      value={text}
      onChange={(event) => setText(event.target.value)}
      onBlur={apply}
      data-testid="search"
    />
  );
}

function ResultCount() {
  const { run, search, matches, params } = useApp();
  const progress = useProgress(search);
  const indexing = progress.done < progress.total && !progress.error;
  const filtered = FILTER_KEYS.some((key) => params[key]);
  return (
    <span
      className="result-count"
      role="status"
      data-testid="result-count"
      data-milliseconds={matches.milliseconds ?? undefined}
      data-indexed={!indexing}
    >
      {matches.searching
        ? "Searching…"
        : filtered
          ? `${count(matches.turns.length)} of ${count(run.numTurns)} turns`
          : `${count(run.numTurns)} turns`}
      {indexing && (
        <>
          {" · "}
          <progress value={progress.done} max={progress.total} aria-label="Reading the texts for the search" /> reading
          texts
        </>
      )}
      {progress.error && ` · The search is incomplete: ${progress.error}`}
    </span>
  );
}

function count(number: number): string {
  return number.toLocaleString("en");
}
