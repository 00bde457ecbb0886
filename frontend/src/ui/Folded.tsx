import { createContext, type ReactNode, useContext, useState } from "react";

const MOST_LETTERS = 1400;
const MOST_LINES = 18;

/** Where several texts stand on one screen, each shows less. */
export const FoldedAt = createContext(MOST_LETTERS);

/** Long text shows its beginning and its length, with a button for the rest. */
export function Folded({
  text,
  children,
  most,
}: {
  text: string;
  children: (shown: string) => ReactNode;
  most?: number;
}) {
  const usual = useContext(FoldedAt);
  const [open, setOpen] = useState(false);
  const short = beginning(text, most ?? usual);
  if (short.length === text.length) return <>{children(text)}</>;
  return (
    <>
      {children(open ? text : short)}
      <button type="button" className="fold" aria-expanded={open} data-testid="fold" onClick={() => setOpen(!open)}>
        {open ? "Show less" : `… show all ${text.length.toLocaleString("en")} characters`}
      </button>
    </>
  );
}

function beginning(text: string, most: number): string {
  const lines = Math.round((MOST_LINES * most) / MOST_LETTERS);
  if (text.length <= most * 1.2 && text.split("\n").length <= lines + 4) return text;
  return text.split("\n").slice(0, lines).join("\n").slice(0, most);
}
