import { callOnFewLines } from "../../actions/actText";
import type { Act, Call } from "../../data/schema";
import { Folded } from "../../ui/Folded";
import { LogText } from "../../ui/LogText";
import { Prose } from "./Message";

export function CallView({ call }: { call: Call }) {
  return (
    <Folded text={callOnFewLines(call)}>
      {(shown) => (
        <pre className="code call">
          <LogText text={shown} />
        </pre>
      )}
    </Folded>
  );
}

export function ActView({ act }: { act: Act }) {
  if (!act.content?.trim() && act.calls.length === 0)
    return <p className="quiet">No action: empty text and no call.</p>;
  return (
    <>
      <Prose text={act.content?.trim() ?? ""} />
      {act.calls.map((call, i) => (
        <CallView key={i} call={call} />
      ))}
    </>
  );
}
