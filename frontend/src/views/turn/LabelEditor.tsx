import { useId } from "react";
import { actTitle } from "../../actions/actText";
import { useApp, useLabels } from "../../context";
import { labelOf } from "../../labels/labels";

/** What the reader says about the turn; the header's Labels button exports it. */
export function LabelEditor({ turn }: { turn: number }) {
  const { run, labels } = useApp();
  const id = run.turnId(turn);
  const label = labelOf(useLabels(), id);
  const note = useId();
  if (run.splitOf(turn) === "episode") return null; // no log has this turn
  return (
    <section className="label-editor" aria-label="My label">
      <h2>My label</h2>
      {run.isToTrainOn(turn) ? (
        <label className="check">
          <input
            type="checkbox"
            checked={label.drop}
            onChange={(event) => labels.update(id, { drop: event.target.checked })}
            data-testid="label-drop"
          />{" "}
          Drop this turn <kbd>l</kbd>
        </label>
      ) : (
        <p className="quiet">Held out: what counts as right here must not change, so only a note is kept.</p>
      )}
      {label.accept.map((act, i) => (
        <p key={i} className="accepted-too">
          Accept too: <code>{actTitle(act)}</code>
          <button
            type="button"
            className="link"
            onClick={() => labels.update(id, { accept: label.accept.filter((_, j) => j !== i) })}
            data-testid={`label-unaccept-${i}`}
          >
            remove
          </button>
        </p>
      ))}
      <label htmlFor={note}>Note</label>
      <textarea
        id={note}
        rows={2}
        value={label.note}
        onChange={(event) => labels.update(id, { note: event.target.value })}
        placeholder="Why? It is exported with the label."
        data-testid="label-note"
      />
    </section>
  );
}
