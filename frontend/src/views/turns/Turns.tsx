import { useMemo } from "react";
import { useApp } from "../../context";
import { change } from "../../route/useRoute";
import { copyText } from "../../text/copy";
import { tabSeparated } from "../../text/table";
import { type Column, columns, sortTurns } from "./columns";
import { TurnRows } from "./TurnRows";

/** Turns that match, as a table. */
export function Turns() {
  const { run, source, params, matches, say } = useApp();
  const list = useMemo(() => columns(run, source), [run, source]);
  const order = params.rows ?? "id";
  const turns = useMemo(() => sortTurns(matches.turns, list, order), [matches, list, order]);
  const copy = async () => {
    const rows = [list.map(({ title }) => title), ...turns.map((turn) => list.map(({ text }) => text(turn)))];
    say(
      (await copyText(tabSeparated(rows)))
        ? `Copied ${turns.length} rows for a spreadsheet.`
        : "The browser did not allow copying.",
    );
  };
  return (
    <>
      <div className="table-title">
        <h1>Turns</h1>
        <button type="button" className="button quiet-button" onClick={() => void copy()} data-testid="copy-table">
          Copy table
        </button>
      </div>
      <div className="table" role="table" aria-label="Turns" aria-rowcount={turns.length + 1}>
        <div role="rowgroup" className="table-head">
          <div role="row" className="table-row" aria-rowindex={1}>
            {list.map((column) => (
              <Heading key={column.key} column={column} order={order} />
            ))}
          </div>
        </div>
        {turns.length > 0 && <TurnRows turns={turns} columns={list} />}
      </div>
      {turns.length === 0 && (
        <p className="nothing">
          {matches.searching ? "Searching…" : "No turn matches. Take a filter away to see more."}
        </p>
      )}
    </>
  );
}

/** Numbers are first sorted downwards, words upwards. */
function Heading({ column, order }: { column: Column; order: string }) {
  const { params } = useApp();
  const direction = order === column.key ? "ascending" : order === `-${column.key}` ? "descending" : "none";
  const next =
    direction === "none"
      ? column.numeric && column.key !== "depth"
        ? `-${column.key}`
        : column.key
      : direction === "ascending"
        ? `-${column.key}`
        : column.key;
  return (
    <span role="columnheader" aria-sort={direction} className={`col-${column.key}`}>
      <button
        type="button"
        title={column.hint}
        onClick={() => change({ ...params, rows: next })}
        data-testid={`column-${column.key}`}
      >
        {column.title}
        <span aria-hidden="true">{direction === "ascending" ? " ↑" : direction === "descending" ? " ↓" : ""}</span>
      </button>
    </span>
  );
}
