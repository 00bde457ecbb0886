import { useState } from "react";
import { remember, remembered } from "../../ui/theme";
import { useApp } from "../../context";
import { format, inView } from "../../route/route";

const KEY = "pivotrl-welcome";

/** The first lines explain the page to a newcomer, until they are dismissed. */
export function Welcome() {
  const { run, params } = useApp();
  const [shown, setShown] = useState(() => remembered(KEY) !== "seen");
  if (!shown) return null;
  const dismiss = () => {
    remember(KEY, "seen");
    setShown(false);
  };
  return (
    <section className="welcome" aria-label="How to read this page" data-testid="welcome">
      {run.head.comparison ? (
        <p>
          This page compares training methods. A <b>policy</b> is a method at one learning rate after so many updates.
          Below are the held-out <b>trajectories</b>, one row each; a cell is a <b>turn</b>, a place where the agent
          acts. Its colour is the <b>pass rate</b>: the share of actions sampled there that the verifier accepts.
        </p>
      ) : (
        <p>
          Each row below is a <b>trajectory</b>, each cell a <b>turn</b>: a place where the agent acts. Its colour is
          the <b>pass rate</b>: the share of actions sampled there that the verifier accepts. A bar below a cell marks a{" "}
          <b>pivot</b>, a turn chosen for training because some samples pass and some fail.
        </p>
      )}
      <p>
        Click a cell to see what the model saw, what it did, and why that passed or failed.
        {run.head.pairs.length > 0 && (
          <>
            {" "}
            <a href={format(inView(params, "compare"))}>Compare</a> shows which turns gained and lost most.
          </>
        )}{" "}
        Press <kbd>?</kbd> for the keys.
      </p>
      <button type="button" className="button quiet-button" onClick={dismiss} data-testid="welcome-close">
        Got it
      </button>
    </section>
  );
}
