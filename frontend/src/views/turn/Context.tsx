import { useState } from "react";
import { useApp } from "../../context";
import type { Msg, TrajectoryText } from "../../data/schema";
import { change } from "../../route/useRoute";
import { Choice } from "../../ui/Choice";
import { EnvironmentView } from "./EnvironmentView";
import { Message } from "./Message";
import { Prompt } from "./Prompt";
import { Tools } from "./Tools";

const SHOWN = 6;

/** The messages before the turn, the latest in full view; or the prompt exactly as the model saw it. */
export function Context({ text, turn }: { text: TrajectoryText; turn: number }) {
  const { run, params } = useApp();
  const at = run.index.turns.message[turn] ?? 0;
  const show = params.show === "prompt" ? "prompt" : "chat";
  return (
    <>
      <div className="section-head">
        <h2 id="context-title">What the model saw</h2>
        <Choice
          label="Form of the context"
          value={show}
          options={[
            ["chat", "Readable"],
            ["prompt", "As the model saw it"],
          ]}
          onChange={(value) => change({ ...params, show: value === "chat" ? "" : value })}
          testId="show"
        />
      </div>
      {text.losses.length > 0 && <p className="notice">Lost in reading the log: {text.losses.join("; ")}.</p>}
      {show === "prompt" ? (
        <Prompt turn={turn} />
      ) : (
        <>
          <Tools tools={text.tools} />
          <Chat messages={text.messages} end={at} />
          <EnvironmentView view={latestView(text, at)} />
        </>
      )}
    </>
  );
}

function Chat({ messages, end }: { messages: Msg[]; end: number }) {
  const [all, setAll] = useState(false);
  const hasSystem = messages[0]?.role === "system" && end > 0;
  const from = all ? 0 : Math.max(0, end - SHOWN);
  const hidden = from - (hasSystem && from > 0 ? 1 : 0);
  const show = (number: number) => {
    const message = messages[number];
    return message && <Message key={number} message={message} number={number} tool={toolOf(messages, message)} />;
  };
  return (
    <div className="chat" data-testid="chat">
      {hasSystem && from > 0 && show(0)}
      {hidden > 0 && (
        <button type="button" className="fold" onClick={() => setAll(true)} data-testid="earlier">
          Show {hidden} earlier {hidden === 1 ? "message" : "messages"}
        </button>
      )}
      {Array.from({ length: end - from }, (_, i) => show(from + i))}
      {end === 0 && <p className="quiet">The trajectory begins with this turn.</p>}
    </div>
  );
}

/** Which tool a result comes from: the call with its id, among the messages before it. */
export function toolOf(messages: Msg[], message: Msg): string | undefined {
  if (message.call_id === null) return undefined;
  for (const other of messages) {
    const call = other.calls.find(({ id }) => id === message.call_id);
    if (call) return call.name;
  }
  return undefined;
}

function latestView(text: TrajectoryText, end: number): unknown {
  for (let at = end; at >= 0; at--) if (text.view?.[at]) return text.view[at];
  return undefined;
}
