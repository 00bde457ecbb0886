import { layOut, parseJson } from "../actions/actText";
import { Folded } from "./Folded";
import { LogText } from "./LogText";

/** Text in a fixed pitch. JSON objects and lists are laid out; anything else is shown as it is. */
export function Code({ text, label }: { text: string; label?: string }) {
  const parsed = parseJson(text);
  const laidOut = typeof parsed === "object" && parsed !== null ? layOut(parsed) : text;
  return (
    <Folded text={laidOut}>
      {(shown) => (
        <pre className="code" aria-label={label}>
          <LogText text={shown} />
        </pre>
      )}
    </Folded>
  );
}
