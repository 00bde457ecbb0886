import { useEffect, useState } from "react";
import { isTyping } from "../../keys/keys";

const MILLISECONDS = 1800;

/** Play and pause, one step either way, and a slider; j and k step too. */
export function Controls({ at, count, show }: { at: number; count: number; show: (frame: number) => void }) {
  const [playing, setPlaying] = useState(false);
  const atEnd = at >= count - 1;
  useEffect(() => {
    if (!playing) return;
    if (atEnd) return setPlaying(false);
    const timer = setTimeout(() => show(at + 1), MILLISECONDS);
    return () => clearTimeout(timer);
  });
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
      if (event.key === "j" && !atEnd) show(at + 1);
      else if (event.key === "k" && at > 0) show(at - 1);
      else return;
      event.preventDefault();
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  });
  const toggle = () => {
    if (!playing && atEnd) show(0);
    setPlaying(!playing);
  };
  return (
    <div className="controls" role="group" aria-label="Playback">
      <button
        type="button"
        className="button"
        disabled={at === 0}
        onClick={() => show(at - 1)}
        aria-label="Step back"
        data-testid="play-back"
      >
        ‹
      </button>
      <button type="button" className="button main-button" onClick={toggle} data-testid="play-toggle">
        {playing ? "Pause" : "Play"}
      </button>
      <button
        type="button"
        className="button"
        disabled={atEnd}
        onClick={() => show(at + 1)}
        aria-label="Step forward"
        data-testid="play-forward"
      >
        ›
      </button>
      <input
        type="range"
        min={0}
        max={Math.max(0, count - 1)}
        value={at}
        onChange={(event) => show(Number(event.target.value))}
        aria-label="Frame"
        aria-valuetext={`${at + 1} of ${count}`}
        data-testid="play-slider"
      />
      <span className="quiet" data-testid="play-position">
        {at + 1} of {count}
      </span>
    </div>
  );
}
