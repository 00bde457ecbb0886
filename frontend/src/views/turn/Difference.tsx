import { memo, useMemo } from "react";
import { difference } from "../../actions/difference";
import { LogText } from "../../ui/LogText";

/** The sampled action against the accepted one nearest to it: struck out is missing, underlined is extra. */
export const Difference = memo(function Difference({ accepted, sampled, name }: { accepted: string; sampled: string; name: string }) {
  const pieces = useMemo(() => difference(accepted, sampled), [accepted, sampled]);
  return (
    <figure className="difference" data-testid="difference">
      <figcaption>
        Against {name}: <del>only there</del> <ins>only here</ins>
      </figcaption>
      <pre className="code">
        {pieces.map(({ kind, text }, i) =>
          kind === "same" ? (
            <LogText key={i} text={text} />
          ) : kind === "missing" ? (
            <del key={i}>
              <LogText text={text} />
            </del>
          ) : (
            <ins key={i}>
              <LogText text={text} />
            </ins>
          ),
        )}
      </pre>
    </figure>
  );
});
