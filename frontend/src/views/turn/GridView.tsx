import { Code } from "../../ui/Code";
import { LogText } from "../../ui/LogText";

type Slot = { item: string; count?: number } | string | null;

interface Part {
  name: string;
  rows: Slot[][];
}

/** Tables of slots, such as an inventory: a title, and parts that each have a name and rows. */
export function GridView({ grid }: { grid: Record<string, unknown> }) {
  const list = (Array.isArray(grid.parts) ? grid.parts : [grid]) as Partial<Part>[];
  if (!list.every(({ rows }) => Array.isArray(rows) && rows.every(Array.isArray)))
    return <Code text={JSON.stringify(grid)} label="State of the environment" />;
  return (
    <>
      {typeof grid.title === "string" && (
        <p>
          <LogText text={grid.title} />
        </p>
      )}
      {list.map((part, i) => (
        <PartTable key={i} name={String(part.name ?? "")} rows={part.rows ?? []} />
      ))}
    </>
  );
}

function PartTable({ name, rows }: Part) {
  return (
    <table className="slots">
      <caption>
        <LogText text={name} />
      </caption>
      <tbody>
        {rows.map((row, r) => (
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
  );
}

function slotText(slot: Slot): string {
  if (slot === null || typeof slot !== "object") return String(slot ?? "");
  return slot.count === undefined || slot.count === 1 ? slot.item : `${slot.item} × ${slot.count}`;
}
