import type { Msg } from "../data/schema";

/** Playback shows a trajectory in frames: an action of the agent and what answered it. The first frame is what came before. */
export interface Frame {
  start: number;
  end: number;
}

export function frames(messages: Msg[]): Frame[] {
  const starts = messages.flatMap((message, at) => (message.role === "assistant" ? [at] : []));
  const bounds = starts[0] === 0 ? starts : [0, ...starts];
  return bounds
    .map((start, i) => ({ start, end: bounds[i + 1] ?? messages.length }))
    .filter(({ start, end }) => end > start);
}
