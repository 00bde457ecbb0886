import { memo, type ReactNode, useMemo } from "react";
import { difference } from "../../actions/difference";
import { LogText } from "../../ui/LogText";

interface Props {
  accepted: string;
  sampled: string;
  /** What the accepted text is called. */
  name: string;
  /** Shown instead where the two have nothing in common. */
  otherwise: ReactNode;
}

/** The sampled action against the accepted one nearest to it: struck out is missing, underlined is extra. */
export const Difference = memo(function Difference({ accepted, sampled, name, otherwise }: Props) {
  const pieces = useMemo(() => difference(accepted, sampled), [accepted, sampled]);
  if (!pieces) {
    return (
      <>
        <p className="quiet small">Nothing in common with {name}:</p>
        {otherwise}
      </>
    );
  }
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
