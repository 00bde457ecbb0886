import { useEffect, useMemo, useState } from "react";
import { useApp } from "../../context";
import { shortRate } from "../../data/rates";
import { sortSummaries, summaries, type Summary, type SummaryOrder } from "../../data/summaries";
import { useListKeys } from "../../keys/useListKeys";
import { format, inView } from "../../route/route";
import { change } from "../../route/useRoute";
import { CellCard } from "../../ui/CellCard";
import { Legend } from "../../ui/Legend";
import { Select } from "../../ui/Select";
import { Strip } from "../../ui/Strip";
import { useWindowRows } from "../../ui/useWindowRows";

const ORDERS: [SummaryOrder, string][] = [
  ["id", "id, sampled first"],
  ["mean", "mean pass rate"],
  ["variance", "mean variance"],
  ["pivots", "number of pivots"],
  ["length", "length"],
  ["reward", "reward of the log"],
];

/** Trajectories as rows of cells. With a filter on: those with a matching turn, their other turns pale. */
export function Strips() {
  const { run, source, params, matches } = useApp();
  const order = params.sort ?? "id";
  const all = useMemo(() => sortSummaries(summaries(run, source), order), [run, source, order]);
  const rows = useMemo(() => {
    if (!matches.filtered) return all;
    const kept = new Set(matches.turns.map((turn) => run.trajectoryOf(turn)));
    return all.filter(({ trajectory }) => kept.has(trajectory));
  }, [all, matches, run]);
  const key = order.replace("-", "");
  return (
    <section aria-labelledby="strips-title" className="strips">
      <div className="strips-head">
        <h2 id="strips-title">
          Trajectories{" "}
          <span className="quiet" data-testid="trajectory-count">
            {rows.length < all.length ? `${rows.length} of ${all.length}` : all.length}
          </span>
        </h2>
        <Legend />
        <span className="sorting">
          <Select
            label="Sort by"
            value={key}
            options={ORDERS}
            onChange={(sort) => change({ ...params, sort })}
            testId="sort"
          />
          <button
            type="button"
            className="button square"
            aria-label="Turn the order around"
            onClick={() => change({ ...params, sort: order.startsWith("-") ? key : `-${key}` })}
            data-testid="sort-around"
          >
            ⇅
          </button>
        </span>
      </div>
      {rows.length === 0 && !matches.searching && (
        <p className="nothing">No trajectory has a turn that matches. Take a filter away to see more.</p>
      )}
      <CellCard>
        <Rows rows={rows} />
      </CellCard>
    </section>
  );
}

function Rows({ rows }: { rows: Summary[] }) {
  const { matches } = useApp();
  const columns = useColumns(rows);
  const { list, virtual, rows: shown, box } = useWindowRows(Math.ceil(rows.length / columns), 46);
  useListKeys(Math.ceil(rows.length / columns), virtual, list);
  return (
    <div ref={list} className="virtual" role="list" style={box} data-testid="strips">
      {shown.map(({ index, style }) => (
        <div
          key={index}
          ref={virtual.measureElement}
          data-index={index}
          role="presentation"
          className={`strip-rows columns-${columns}`}
          style={style}
        >
          {rows.slice(index * columns, (index + 1) * columns).map((row) => (
            <div key={row.trajectory} role="listitem" className="strip-row">
              <StripHead summary={row} />
              <Strip trajectory={row.trajectory} dim={matches.filtered} />
            </div>
          ))}
        </div>
      ))}
    </div>
  );
}

const HEAD = 270;
const CELL = 25;

/** Short trajectories share a line, as many as have room. */
function useColumns(rows: Summary[]): number {
  const [width, setWidth] = useState(window.innerWidth);
  useEffect(() => {
    const measure = () => setWidth(window.innerWidth);
    window.addEventListener("resize", measure);
    return () => window.removeEventListener("resize", measure);
  }, []);
  const longest = useMemo(() => rows.reduce((most, { length }) => Math.max(most, length), 0), [rows]);
  return Math.max(1, Math.min(4, Math.floor((Math.min(width, 1680) - 40) / (HEAD + CELL * longest))));
}

function StripHead({ summary }: { summary: Summary }) {
  const { run, params } = useApp();
  const { split, note, task } = run.index.trajectories;
  const kind = split[summary.trajectory] ?? "";
  return (
    <div className="strip-head">
      <a
        href={format(inView(params, "play", { trajectory: summary.id }))}
        title={`Play ${summary.id}: ${task[summary.trajectory] ?? ""}`}
        data-testid={`play-${summary.id}`}
      >
        <span aria-hidden="true">▷ </span>
        {summary.id}
      </a>
      <span className="strip-facts">
        {kind !== "train" && <span className="tag">{kind}</span>}
        {note[summary.trajectory] && <span>{note[summary.trajectory]}</span>}
        {summary.reward !== null && (
          <span title="Reward of the logged trajectory">reward {shortRate(summary.reward)}</span>
        )}
        {summary.mean !== null && <span title="Mean pass rate over its turns">mean {shortRate(summary.mean)}</span>}
      </span>
    </div>
  );
}
