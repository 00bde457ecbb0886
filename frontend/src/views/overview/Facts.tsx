import { useApp } from "../../context";

export function Facts() {
  const { run } = useApp();
  return (
    <section aria-labelledby="facts-title" className="facts" data-testid="facts">
      <h2 id="facts-title">{run.head.comparison ? "The comparison" : "The run"}</h2>
      <dl>
        {run.head.facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {run.head.notices.length > 0 && (
        <ul className="notices" aria-label="Notices">
          {run.head.notices.map((notice) => (
            <li key={notice}>{notice}</li>
          ))}
        </ul>
      )}
    </section>
  );
}
