import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useRef } from "react";
import type { Change } from "../../compare/changes";
import { useApp } from "../../context";
import { signed } from "../../data/rates";
import { format } from "../../route/route";
import { Id } from "../../ui/Id";
import { Rate } from "../../ui/Rate";

const ROW = 48;

interface Props {
  changes: Change[];
  current: number | undefined;
}

/** Turns with the pass rate before and after. It scrolls by itself, so that the two sides stay in view. */
export function ChangeList({ changes, current }: Props) {
  const { run, params } = useApp();
  const box = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: changes.length,
    getScrollElement: () => box.current,
    estimateSize: () => ROW,
    overscan: 6,
  });
  const at = changes.findIndex(({ turn }) => turn === current);
  useEffect(() => {
    if (at >= 0) virtual.scrollToIndex(at);
  }, [at, virtual]);
  return (
    <div ref={box} className="changes" role="group" aria-label="Turns by change" tabIndex={0} data-testid="changes">
      <div className="virtual" style={{ height: virtual.getTotalSize() }}>
        {virtual.getVirtualItems().map((item) => {
          const row = changes[item.index];
          if (!row) return null;
          const id = run.turnId(row.turn);
          return (
            <a
              key={row.turn}
              href={format({ ...params, view: "compare", turn: id })}
              className="change"
              aria-current={row.turn === current ? "true" : undefined}
              style={{ transform: `translateY(${item.start}px)`, height: ROW }}
              data-testid={`change-${id}`}
            >
              <span className="change-line">
                <Id id={id} />
                <b className={row.change > 0 ? "gain" : row.change < 0 ? "loss" : "quiet"}>{signed(row.change)}</b>
              </span>
              <span className="change-line">
                <span className="quiet change-tool">{run.tool(row.turn)}</span>
                <span>
                  <Rate rate={row.before} /> → <Rate rate={row.after} />
                </span>
              </span>
            </a>
          );
        })}
      </div>
    </div>
  );
}
