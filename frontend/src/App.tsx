import { useCallback, useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { AppContext } from "./context";
import type { Run } from "./data/run";
import { useMatches } from "./filter/useMatches";
import { useGlobalKeys } from "./keys/useGlobalKeys";
import { fromEntries } from "./labels/file";
import { LabelStore } from "./labels/labels";
import { useWarnBeforeLeaving } from "./labels/useWarnBeforeLeaving";
import { viewOf, type View } from "./route/route";
import { useParams } from "./route/useRoute";
import { Search } from "./search/client";
import { Compare } from "./views/compare/Compare";
import { Header } from "./views/header/Header";
import { HelpDialog } from "./views/header/HelpDialog";
import { LabelsDialog } from "./views/labels/LabelsDialog";
import { Mistakes } from "./views/mistakes/Mistakes";
import { Overview } from "./views/overview/Overview";
import { Play } from "./views/play/Play";
import { TurnPage } from "./views/turn/TurnPage";
import { Turns } from "./views/turns/Turns";

const PAGES: Record<View, () => React.ReactNode> = {
  overview: Overview,
  turns: Turns,
  compare: Compare,
  mistakes: Mistakes,
  turn: TurnPage,
  play: Play,
};

export type Panel = "help" | "labels" | null;

export function App({ run }: { run: Run }) {
  const params = useParams();
  const [search] = useState(() => new Search(run));
  const [labels] = useState(
    () => new LabelStore(`pivotrl-labels:${run.head.trajectories_sha256}`, fromEntries(run.head.labels ?? [])),
  );
  const [panel, setPanel] = useState<Panel>(null);
  const [said, say] = useStatusLine();
  const source = run.findSource(params.source);
  const matches = useMatches(run, search, params, source, useSyncExternalStore(labels.subscribe, labels.snapshot));
  const state = useMemo(
    () => ({ run, search, labels, params, source, matches, say }),
    [run, search, labels, params, source, matches, say],
  );
  const view = viewOf(params);
  const Page = PAGES[view];

  useEffect(() => {
    // The first screen comes first; then the texts are indexed.
    const timer = setTimeout(() => void search.load(), 50);
    return () => clearTimeout(timer);
  }, [search]);
  useEffect(() => {
    document.title = [params.turn ?? params.trajectory ?? view, run.head.run, "pivotrl"].join(" · ");
  }, [params, view, run]);
  useWarnBeforeLeaving(labels);
  useGlobalKeys(state, setPanel);
  useFocusOnNewPage(view);

  return (
    <AppContext.Provider value={state}>
      <a className="skip" href="#main" onClick={skipToMain}>
        Skip to the content
      </a>
      <Header openPanel={setPanel} />
      <main id="main" tabIndex={-1} className={`page page-${view}`}>
        <Page />
      </main>
      <HelpDialog open={panel === "help"} close={() => setPanel(null)} />
      <LabelsDialog open={panel === "labels"} close={() => setPanel(null)} />
      <p role="status" className="said" data-shown={said !== ""} data-testid="said">
        {said}
      </p>
    </AppContext.Provider>
  );
}

function skipToMain(event: React.MouseEvent): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function useStatusLine(): [string, (text: string) => void] {
  const [said, setSaid] = useState("");
  const timer = useRef(0);
  const say = useCallback((text: string) => {
    setSaid(text);
    clearTimeout(timer.current);
    timer.current = window.setTimeout(() => setSaid(""), 3500);
  }, []);
  return [said, say];
}

/** A new view begins at its top, and a screen reader starts there. */
function useFocusOnNewPage(view: View): void {
  const shown = useRef(view);
  useEffect(() => {
    if (shown.current === view) return;
    shown.current = view;
    document.getElementById("main")?.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }, [view]);
}
