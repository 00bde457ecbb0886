import { Code } from "../../ui/Code";
import { LogText } from "../../ui/LogText";

type Slot = string | number | null | { label?: string; item?: string; count?: number; quantity?: number };

interface Grid {
  title?: string;
  rows: Slot[][];
}

/** Tables of slots, such as an inventory. `rows`, or several `grids` that each have a title and rows. */
export function GridView({ grid }: { grid: Record<string, unknown> }) {
  const list = (Array.isArray(grid.grids) ? grid.grids : [grid]) as Partial<Grid>[];
  if (!list.every(({ rows }) => Array.isArray(rows) && rows.every(Array.isArray))) return <Code text={JSON.stringify(grid)} label="State of the environment" />;
  return list.map(({ title, rows }, i) => (
    <table key={i} className="slots">
      {title && <caption>{String(title)}</caption>}
      <tbody>
        {rows?.map((row, r) => (
          <tr key={r}>
            {row.map((slot, c) => (
              <td key={c}>
                <LogText text={slotText(slot)} />
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  ));
}

function slotText(slot: Slot): string {
  if (slot === null) return "";
  if (typeof slot !== "object") return String(slot);
  const count = slot.count ?? slot.quantity;
  return `${slot.label ?? slot.item ?? ""}${count === undefined || count === 1 ? "" : ` × ${count}`}`;
}
