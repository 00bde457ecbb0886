import type { Tool } from "../../data/schema";
import { Code } from "../../ui/Code";
import { LogText } from "../../ui/LogText";

export function Tools({ tools }: { tools: Tool[] }) {
  if (tools.length === 0) return null;
  return (
    <details className="tools" data-testid="tools">
      <summary>
        {tools.length} {tools.length === 1 ? "tool" : "tools"}
        <span className="quiet"> {tools.map(({ name }) => name).join(", ")}</span>
      </summary>
      {tools.map((tool) => (
        <section key={tool.name}>
          <h3>
            <code>{tool.name}</code>
          </h3>
          <p className="prose">
            <LogText text={tool.description} />
          </p>
          <Code text={JSON.stringify(tool.parameters)} label={`Parameters of ${tool.name}`} />
        </section>
      ))}
    </details>
  );
}
