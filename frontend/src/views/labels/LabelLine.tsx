import { actTitle } from "../../actions/actText";
import { useApp } from "../../context";
import type { Label } from "../../labels/labels";
import { inView } from "../../route/route";
import { go } from "../../route/useRoute";

/** A turn, with what a label says about it. */
export function LabelLine({ id, label, close }: { id: string; label?: Label; close: () => void }) {
  const { params } = useApp();
  return (
    <>
      <button
        type="button"
        className="link"
        onClick={() => {
          close();
          go(inView(params, "turn", { turn: id }));
        }}
      >
        {id}
      </button>
      {label && <LabelWords label={label} />}
    </>
  );
}

export function LabelWords({ label }: { label: Label }) {
  const { drop, accept, note } = label;
  return (
    <>
      {drop && <span className="tag drop-tag">drop</span>}
      {accept.length > 0 && (
        <span className="tag" title={accept.map(actTitle).join("\n")}>
          accepts {accept.length} more
        </span>
      )}
      {note && <span className="label-note">{note}</span>}
      {!drop && accept.length === 0 && !note && <span className="quiet">no label</span>}
    </>
  );
}
