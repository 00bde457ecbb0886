import type { Virtualizer } from "@tanstack/react-virtual";
import { type RefObject, useEffect, useState } from "react";
import { stepOf } from "./keys";

/** j and k move through the rows of a virtual list and put the focus on the row's link or first cell, so that Enter opens it. */
export function useListKeys(
  count: number,
  virtual: Virtualizer<Window, HTMLElement>,
  list: RefObject<HTMLElement | null>,
): number {
  const [cursor, setCursor] = useState(-1);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const step = stepOf(event);
      if (step === 0) return;
      const next = Math.max(0, Math.min(count - 1, cursor + step));
      event.preventDefault();
      setCursor(next);
      virtual.scrollToIndex(next);
      requestAnimationFrame(() =>
        list.current
          ?.querySelector<HTMLElement>(`[data-index="${next}"] :is(.row-link, .cell)`)
          ?.focus({ preventScroll: true }),
      );
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, [count, cursor, virtual, list]);
  return cursor < count ? cursor : -1;
}
