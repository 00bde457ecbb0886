import { useState } from "react";
import { useApp, useConflicts, useLabels } from "../../context";
import { format, inView, type View, viewOf } from "../../route/route";
import { change } from "../../route/useRoute";
import { SourceSelect } from "../../ui/SourceSelect";
import { savedTheme, saveTheme, type Theme } from "../../ui/theme";
import { FilterBar } from "../filter/FilterBar";

const TABS: [view: View, title: string][] = [
  ["overview", "Overview"],
  ["turns", "Turns"],
  ["compare", "Compare"],
  ["mistakes", "Mistakes"],
];
const OVER: Partial<Record<View, View>> = { turn: "turns", play: "overview" };

export function Header({ openPanel }: { openPanel: (panel: "help" | "labels") => void }) {
  const { run, params, source } = useApp();
  const labels = useLabels();
  const conflicts = useConflicts().length;
  const view = viewOf(params);
  const { sources } = run.head;
  return (
    <header className="top">
      <div className="top-row">
        <span className="run" title={`Made with ${run.head.made_with}`}>
          <span className="brand">pivotrl</span> {run.head.run}
        </span>
        <nav aria-label="Views">
          {TABS.map(([tab, title]) => (
            <a
              key={tab}
              href={format(inView(params, tab))}
              aria-current={(OVER[view] ?? view) === tab ? "page" : undefined}
              data-testid={`tab-${tab}`}
            >
              {title}
            </a>
          ))}
        </nav>
        <div className="top-tools">
          {view !== "compare" && sources.length > 0 && (
            <SourceSelect run={run} source={source} onChange={(name) => change({ ...params, source: name })} />
          )}
          <button type="button" className="button" onClick={() => openPanel("labels")} data-testid="labels">
            Labels <span className="count">{labels.size}</span>
          </button>
          <ThemeSwitch />
          <button
            type="button"
            className="button square"
            aria-label="Help and keys"
            onClick={() => openPanel("help")}
            data-testid="help"
          >
            ?
          </button>
        </div>
      </div>
      {conflicts > 0 && (
        <p className="notice differ" role="status" data-testid="labels-differ">
          {conflicts === 1 ? "One label of a file differs" : `${conflicts} labels of a file differ`} from what you said
          in this browser.{" "}
          <button type="button" className="link" onClick={() => openPanel("labels")}>
            Choose
          </button>
        </p>
      )}
      {(view === "overview" || view === "turns") && <FilterBar />}
    </header>
  );
}

const NEXT: Record<Theme, Theme> = { auto: "dark", dark: "light", light: "auto" };
const SYMBOL: Record<Theme, string> = { auto: "◐", dark: "☾", light: "☀" };

function ThemeSwitch() {
  const [theme, setTheme] = useState(savedTheme);
  const next = () => {
    setTheme(NEXT[theme]);
    saveTheme(NEXT[theme]);
  };
  return (
    <button
      type="button"
      className="button square"
      onClick={next}
      aria-label={`Colours: ${theme}. Switch to ${NEXT[theme]}`}
      title={`Colours: ${theme}`}
      data-testid="theme"
    >
      {SYMBOL[theme]}
    </button>
  );
}
