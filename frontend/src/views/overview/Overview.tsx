import { useApp } from "../../context";
import { ComparisonOverview } from "../comparison/ComparisonOverview";
import { Facts } from "./Facts";
import { Histogram } from "./Histogram";
import { LargestChanges } from "./LargestChanges";
import { Strips } from "./Strips";
import { Welcome } from "./Welcome";

export function Overview() {
  const { run } = useApp();
  return (
    <>
      <h1 className="hidden">Overview of {run.head.run}</h1>
      <Welcome />
      {run.head.comparison && <ComparisonOverview comparison={run.head.comparison} />}
      <div className="overview-top">
        {run.head.sources.length > 0 && <Histogram />}
        <div className="overview-side">
          <Facts />
          <LargestChanges />
        </div>
      </div>
      <Strips />
    </>
  );
}
