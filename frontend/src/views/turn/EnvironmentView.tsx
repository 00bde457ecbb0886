import { Code } from "../../ui/Code";
import { LogText } from "../../ui/LogText";
import { Difference } from "./Difference";
import { GridView } from "./GridView";
import { type MapData, MapView } from "./MapView";

/** What an environment's `render_view` gave for the latest message. An unknown kind is shown as JSON. */
export function EnvironmentView({ view }: { view: unknown }) {
  if (typeof view !== "object" || view === null) return null;
  return (
    <section className="environment" aria-label="State of the environment" data-testid="environment">
      <h2>State of the environment</h2>
      <Kind view={view as Record<string, unknown>} />
    </section>
  );
}

function Kind({ view }: { view: Record<string, unknown> }) {
  if (view.kind === "text" && typeof view.text === "string") {
    return (
      <pre className="code">
        <LogText text={view.text} />
      </pre>
    );
  }
  if (view.kind === "diff" && typeof view.before === "string" && typeof view.after === "string") {
    return <StateDifference before={view.before} after={view.after} />;
  }
  if (view.kind === "map" && Array.isArray(view.nodes) && Array.isArray(view.edges))
    return <MapView map={view as unknown as MapData} />;
  if (view.kind === "grid") return <GridView grid={view} />;
  return <Code text={JSON.stringify(view)} label="State of the environment" />;
}

function StateDifference({ before, after }: { before: string; after: string }) {
  if (before === after) return <p className="quiet">Nothing changed.</p>;
  return (
    <Difference
      accepted={before}
      sampled={after}
      name="the state before"
      otherwise={
        <pre className="code">
          <LogText text={after} />
        </pre>
      }
    />
  );
}
