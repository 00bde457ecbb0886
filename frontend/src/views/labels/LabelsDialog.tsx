import { useRef, useState } from "react";
import { useApp, useLabels } from "../../context";
import { fromFile, toFile } from "../../labels/file";
import { download } from "../../text/copy";
import { Panel } from "../../ui/Panel";
import { Conflicts } from "./Conflicts";
import { LabelLine } from "./LabelLine";

export function LabelsDialog({ open, close }: { open: boolean; close: () => void }) {
  const { run, labels } = useApp();
  const all = useLabels();
  const [message, setMessage] = useState("");
  const input = useRef<HTMLInputElement>(null);
  const { run: name, trajectories_sha256: sha } = run.head;

  const save = () => {
    download("labels.json", JSON.stringify(toFile(all, name, sha), null, 2) + "\n");
    labels.markExported();
    setMessage(`Exported ${all.size} labels as labels.json.`);
  };
  const read = async (file: File | undefined) => {
    if (!file) return;
    try {
      const {
        labels: imported,
        unknown,
        otherData,
      } = fromFile(await file.text(), sha, (id) => run.findTurn(id) !== undefined);
      labels.offer(imported);
      const parts = [`Imported ${imported.size} labels.`];
      const differ = labels.conflicts().length;
      if (differ) parts.push(`${differ} differ from yours: choose above.`);
      if (unknown.length)
        parts.push(`${unknown.length} are of turns that this page does not have: ${unknown.slice(0, 3).join(", ")}.`);
      if (otherData) parts.push("They were made on other trajectories, so check that they fit.");
      setMessage(parts.join(" "));
    } catch (error) {
      setMessage(error instanceof Error ? error.message : String(error));
    }
  };
  return (
    <Panel open={open} close={close} title="Labels" testId="labels-dialog">
      <p>
        Labels say which turns to drop and which actions to accept too. Export them, then run{" "}
        <code>pivotrl select DIRECTORY --labels labels.json --name labelled</code> with the directory of {name}.
      </p>
      {!labels.kept && (
        <p className="notice">
          The browser does not let this page keep anything. Export your labels before you close it.
        </p>
      )}
      <Conflicts close={close} />
      <p className="buttons">
        <button
          type="button"
          className="button main-button"
          onClick={save}
          disabled={all.size === 0}
          data-testid="labels-export"
        >
          Export {all.size} {all.size === 1 ? "label" : "labels"}
        </button>
        <button type="button" className="button" onClick={() => input.current?.click()} data-testid="labels-import">
          Import…
        </button>
        <input
          ref={input}
          type="file"
          accept=".json,application/json"
          className="hidden"
          aria-label="Labels file"
          tabIndex={-1}
          onChange={(event) => {
            void read(event.target.files?.[0]);
            event.target.value = "";
          }}
          data-testid="labels-file"
        />
      </p>
      <p role="status" data-testid="labels-message">
        {message}
      </p>
      <ul className="label-list">
        {[...all].map(([id, label]) => (
          <li key={id}>
            <LabelLine id={id} label={label} close={close} />
          </li>
        ))}
      </ul>
    </Panel>
  );
}
