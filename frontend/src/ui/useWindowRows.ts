import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { type RefObject, useLayoutEffect, useRef, useState } from "react";

/** Rows that exist only while they are near the screen. The page itself scrolls, so it works on a phone and prints. */
export function useWindowRows(count: number, height: number): {
  list: RefObject<HTMLDivElement | null>;
  virtual: ReturnType<typeof useWindowVirtualizer<HTMLElement>>;
  /** Style of a row that begins at `start`. */
  at: (start: number) => { transform: string };
} {
  const list = useRef<HTMLDivElement>(null);
  const [offset, setOffset] = useState(0);
  useLayoutEffect(() => {
    const measure = () => setOffset(list.current ? list.current.getBoundingClientRect().top + window.scrollY : 0);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(document.body);
    return () => observer.disconnect();
  }, []);
  const virtual = useWindowVirtualizer<HTMLElement>({
    count,
    estimateSize: () => height,
    overscan: 8,
    scrollMargin: offset,
    scrollPaddingStart: 140,
    scrollPaddingEnd: 40,
  });
  return { list, virtual, at: (start) => ({ transform: `translateY(${start - offset}px)` }) };
}
