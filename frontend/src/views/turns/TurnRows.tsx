import { useEffect, useState } from "react";
import { useApp, useLabels } from "../../context";
import { useListKeys } from "../../keys/useListKeys";
import { format, inView } from "../../route/route";
import type { Snippet } from "../../search/searchIndex";
import { LogText } from "../../ui/LogText";
import { Rate } from "../../ui/Rate";
import { useWindowRows } from "../../ui/useWindowRows";
import type { Column } from "./columns";

export function TurnRows({ turns, columns }: { turns: number[]; columns: Column[] }) {
  const { run, source, params, matches } = useApp();
  const labels = useLabels();
  const { list, virtual, rows, box } = useWindowRows(turns.length, matches.query ? 62 : 34);
  const snippets = useSnippets(rows.map(({ index }) => turns[index] ?? -1));
  const cursor = useListKeys(turns.length, virtual, list);
  return (
    <div ref={list} role="rowgroup" className="virtual" style={box} data-testid="turn-rows">
      {rows.map(({ index, style }) => {
        const turn = turns[index];
        if (turn === undefined) return null;
        const id = run.turnId(turn);
        const snippet = snippets.get(turn);
        return (
          <div
            key={turn}
            ref={virtual.measureElement}
            data-index={index}
            role="row"
            aria-rowindex={index + 2}
            className={index === cursor ? "table-row at-cursor" : "table-row"}
            style={style}
            data-testid={`row-${id}`}
          >
            {columns.map((column, i) => (
              <span key={column.key} role="cell" className={`col-${column.key}`} data-title={column.title}>
                {i === 0 ? (
                  <a href={format(inView(params, "turn", { turn: id }))} className="row-link">
                    {id}
                  </a>
                ) : column.key === "rate" ? (
                  <Rate rate={column.value(turn) as number | null} sampled={run.state(source, turn) !== "none"} />
                ) : (
                  column.text(turn)
                )}
                {i === 0 && run.isPivot(turn) && <span className="tag pivot-tag">pivot</span>}
                {i === 0 && labels.has(id) && <span className="tag">label</span>}
              </span>
            ))}
            {snippet?.match && <SnippetLine snippet={snippet} />}
          </div>
        );
      })}
    </div>
  );
}

function SnippetLine({ snippet }: { snippet: Snippet }) {
  return (
    <span role="cell" className="snippet">
      <LogText text={snippet.before + snippet.match + snippet.after} />
    </span>
  );
}

/** Where the query was found, asked for the rows on the screen only. */
function useSnippets(turns: number[]): Map<number, Snippet> {
  const { search, matches } = useApp();
  const [snippets, setSnippets] = useState(new Map<number, Snippet>());
  const key = turns.join();
  useEffect(() => {
    if (!matches.query || matches.searching) return setSnippets((old) => (old.size ? new Map() : old));
    let current = true;
    void search
      .snippets(turns)
      .then(
        (list) =>
          current &&
          setSnippets(new Map(turns.map((turn, i) => [turn, list[i] ?? { before: "", match: "", after: "" }]))),
      );
    return () => {
      current = false;
    };
    // `key` stands for `turns`.
  }, [search, matches, key]);
  return snippets;
}
