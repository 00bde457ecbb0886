import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { type CSSProperties, type RefObject, useLayoutEffect, useRef, useState } from "react";
import { usePrinting } from "./usePrinting";

/** On paper more rows than these help nobody; a filter makes the list shorter. */
const MOST_PRINTED = 400;

/** Rows that exist only while they are near the screen. The page itself scrolls, so it works on a phone and prints. */
export function useWindowRows(
  count: number,
  height: number,
): {
  list: RefObject<HTMLDivElement | null>;
  virtual: ReturnType<typeof useWindowVirtualizer<HTMLElement>>;
  rows: { index: number; style: CSSProperties }[];
  /** Style of the list. */
  box: CSSProperties;
} {
  const printing = usePrinting();
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
  if (printing) {
    const rows = Array.from({ length: Math.min(count, MOST_PRINTED) }, (_, index) => ({
      index,
      style: { position: "static" as const },
    }));
    return { list, virtual, rows, box: {} };
  }
  const rows = virtual
    .getVirtualItems()
    .map(({ index, start }) => ({ index, style: { transform: `translateY(${start - offset}px)` } }));
  return { list, virtual, rows, box: { height: virtual.getTotalSize() } };
}
