import { useEffect } from "react";
import type { LabelStore } from "./labels";

/** The browser asks before the page is closed while there are labels that no file has. */
export function useWarnBeforeLeaving(labels: LabelStore): void {
  useEffect(() => {
    const warn = (event: BeforeUnloadEvent) => {
      if (labels.unsaved) event.preventDefault();
    };
    window.addEventListener("beforeunload", warn);
    return () => window.removeEventListener("beforeunload", warn);
  }, [labels]);
}
