import { Fragment, memo, type ReactNode } from "react";
import { useApp } from "../context";
import { terms } from "../search/searchIndex";
import { visible } from "../text/visible";

/** Text from a log. Control characters are shown as symbols, and words of the search are marked. */
export const LogText = memo(function LogText({ text }: { text: string }) {
  const { matches } = useApp();
  return visible(text).map((piece, i) =>
    piece.control ? (
      <span key={i} className="control" title="A control character of the log, shown as a symbol">
        {piece.text}
      </span>
    ) : (
      <Fragment key={i}>{marked(piece.text, matches.query)}</Fragment>
    ),
  );
});

function marked(text: string, query: string): ReactNode {
  const words = terms(query).filter((word) => word.length > 1);
  if (words.length === 0) return text;
  const pattern = new RegExp(`(${words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "gi");
  return text.split(pattern).map((part, i) => (i % 2 ? <mark key={i}>{part}</mark> : part));
}
