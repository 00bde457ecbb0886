import { useApp, useConflicts } from "../../context";
import { LabelLine, LabelWords } from "./LabelLine";

/** Labels of the page, or of an imported file, that differ from those kept in this browser. The reader chooses. */
export function Conflicts({ close }: { close: () => void }) {
  const { labels } = useApp();
  const open = useConflicts();
  if (open.length === 0) return null;
  const all = open.map(({ turnId }) => turnId);
  return (
    <section className="notice conflicts" aria-label="Labels that differ" data-testid="conflicts">
      <p>
        {open.length === 1 ? "The label of one turn is" : `The labels of ${open.length} turns are`} different in this
        browser and in the file. Yours hold until you choose.
      </p>
      {open.length > 1 && (
        <p className="buttons">
          <button
            type="button"
            className="button"
            onClick={() => labels.resolve(all, "mine")}
            data-testid="conflicts-mine"
          >
            Keep all mine
          </button>
          <button
            type="button"
            className="button"
            onClick={() => labels.resolve(all, "offered")}
            data-testid="conflicts-offered"
          >
            Take all of the file
          </button>
        </p>
      )}
      <ul className="label-list">
        {open.map(({ turnId, mine, offered }) => (
          <li key={turnId} data-testid={`conflict-${turnId}`}>
            <LabelLine id={turnId} close={close} />
            <p>
              <span className="quiet">yours:</span> <LabelWords label={mine} />
              <button
                type="button"
                className="button"
                onClick={() => labels.resolve([turnId], "mine")}
                data-testid={`keep-mine-${turnId}`}
              >
                Keep mine
              </button>
            </p>
            <p>
              <span className="quiet">file:</span> <LabelWords label={offered} />
              <button
                type="button"
                className="button"
                onClick={() => labels.resolve([turnId], "offered")}
                data-testid={`take-offered-${turnId}`}
              >
                Take the file’s
              </button>
            </p>
          </li>
        ))}
      </ul>
    </section>
  );
}
