import { Fragment, memo, type ReactNode } from "react";
import { useApp } from "../context";
import { places, terms } from "../search/terms";
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
  const words = terms(query).filter((word) => word.text.length > 1);
  if (words.length === 0) return text;
  const parts: ReactNode[] = [];
  let end = 0;
  for (const [from, to] of places(words, text)) {
    parts.push(text.slice(end, from), <mark key={from}>{text.slice(from, to)}</mark>);
    end = to;
  }
  return [...parts, text.slice(end)];
}
