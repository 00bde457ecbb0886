import { memo } from "react";
import type { Msg } from "../../data/schema";
import { Code } from "../../ui/Code";
import { Folded } from "../../ui/Folded";
import { LogText } from "../../ui/LogText";
import { CallView } from "./CallView";

const SHORT_THOUGHT = 400;
const NAMES = { system: "System", user: "User", assistant: "Agent", tool: "Result" };

/** One message: who says it, thoughts folded, calls and JSON results laid out. */
export const Message = memo(function Message({
  message,
  number,
  tool,
}: {
  message: Msg;
  number: number;
  tool?: string | undefined;
}) {
  const content = message.content ?? "";
  return (
    <article
      className={`message ${message.role}`}
      aria-label={`Message ${number}, ${NAMES[message.role]}`}
      data-testid={`message-${number}`}
    >
      <p className="message-head">
        {NAMES[message.role]}
        {tool && <code>{tool}</code>}
        <span className="message-number">{number}</span>
      </p>
      {message.excluded && <p className="excluded">Not part of the context: {message.excluded}</p>}
      {message.reasoning && (
        <details className="thought" open={message.reasoning.length <= SHORT_THOUGHT}>
          <summary>Thought, {message.reasoning.length.toLocaleString("en")} characters</summary>
          <p className="prose">
            <LogText text={message.reasoning} />
          </p>
        </details>
      )}
      {message.role === "system" ? (
        <System text={content} />
      ) : message.role === "tool" ? (
        <Code text={content} label="Result" />
      ) : (
        <Prose text={content} />
      )}
      {message.calls.map((call, i) => (
        <CallView key={i} call={call} />
      ))}
    </article>
  );
});

export function Prose({ text }: { text: string }) {
  if (!text) return null;
  return (
    <Folded text={text}>
      {(shown) => (
        <p className="prose">
          <LogText text={shown} />
        </p>
      )}
    </Folded>
  );
}

function System({ text }: { text: string }) {
  const start = text.trim().slice(0, 90);
  return (
    <details className="system-text">
      <summary>
        {start}
        {start.length < text.trim().length && "…"}{" "}
        <span className="quiet">{text.length.toLocaleString("en")} characters</span>
      </summary>
      <p className="prose">
        <LogText text={text} />
      </p>
    </details>
  );
}
