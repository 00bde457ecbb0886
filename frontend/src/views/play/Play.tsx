import { useMemo } from "react";
import { useApp } from "../../context";
import type { TrajectoryText } from "../../data/schema";
import { format, inView } from "../../route/route";
import { change } from "../../route/useRoute";
import { frames } from "../../turn/frames";
import { CellCard } from "../../ui/CellCard";
import { Loading } from "../../ui/Loading";
import { Strip } from "../../ui/Strip";
import { useLoaded } from "../../ui/useLoaded";
import { EnvironmentView } from "../turn/EnvironmentView";
import { toolOf } from "../turn/Context";
import { Message } from "../turn/Message";
import { Controls } from "./Controls";

/** A trajectory or an episode, played back turn by turn. */
export function Play() {
  const { run, params } = useApp();
  const trajectory = run.findTrajectory(params.trajectory ?? "");
  const text = useLoaded(
    () =>
      trajectory < 0 ? Promise.reject(new Error("The run has no such trajectory.")) : run.trajectoryText(trajectory),
    [run, trajectory],
  );
  return (
    <article className="play">
      <nav aria-label="Breadcrumbs" className="crumbs">
        <a href={format(inView(params, "overview"))}>Overview</a>
        <span aria-hidden="true">›</span>
        <span aria-current="page">{params.trajectory}</span>
      </nav>
      <Loading of={text}>{(value) => <Player key={trajectory} trajectory={trajectory} text={value} />}</Loading>
    </article>
  );
}

function Player({ trajectory, text }: { trajectory: number; text: TrajectoryText }) {
  const { run, params } = useApp();
  const list = useMemo(() => frames(text.messages), [text]);
  const asked = Number(params.at ?? 0);
  const at = Math.max(
    0,
    list.findLastIndex(({ start }) => start <= asked),
  );
  const frame = list[at];
  const turn = frame && run.findTurn(`${run.trajectoryId(trajectory)}#${frame.start}`);
  const { task, split, note, reward, source } = run.index.trajectories;
  const own = source[trajectory] ?? null;
  const ownName = own === null ? {} : { source: run.head.sources[own]?.name ?? "" };
  const show = (next: number) => change({ ...params, at: String(list[next]?.start ?? 0) });
  const view = latestView(text, frame?.end ?? 0);
  return (
    <>
      <h1>{run.trajectoryId(trajectory)}</h1>
      <p className="turn-facts">
        <span className="tag">{split[trajectory]}</span>
        {task[trajectory] && <span>{task[trajectory]}</span>}
        {own !== null && <span>{run.sourceTitle(own)}</span>}
        {note[trajectory] && <b>{note[trajectory]}</b>}
        {reward[trajectory] != null && <span>reward {reward[trajectory]}</span>}
      </p>
      <CellCard>
        <Strip
          trajectory={trajectory}
          dim={false}
          {...(turn === undefined ? {} : { current: turn })}
          {...(own === null ? {} : { of: own })}
        />
      </CellCard>
      <Controls at={at} count={list.length} show={show} />
      <div className={view ? "play-columns" : ""}>
        <div className="chat" data-testid="frame" aria-live="polite">
          {frame &&
            text.messages
              .slice(frame.start, frame.end)
              .map((message, i) => (
                <Message
                  key={frame.start + i}
                  message={message}
                  number={frame.start + i}
                  tool={toolOf(text.messages, message)}
                />
              ))}
          {turn !== undefined && (
            <a
              className="button quiet-button"
              href={format(inView(params, "turn", { turn: run.turnId(turn), ...ownName }))}
              data-testid="open-turn"
            >
              Open this turn
            </a>
          )}
        </div>
        <EnvironmentView view={view} />
      </div>
    </>
  );
}

function latestView(text: TrajectoryText, end: number): unknown {
  for (let at = end - 1; at >= 0; at--) if (text.view?.[at]) return text.view[at];
  return undefined;
}
