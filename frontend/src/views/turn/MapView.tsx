import { scaleLinear } from "@visx/scale";

export interface MapData {
  nodes: { id: string; x: number; y: number; label: string }[];
  edges: [string, string][];
  here?: string;
}

const WIDTH = 420;

/** Places and ways, with the place where the agent is. */
export function MapView({ map }: { map: MapData }) {
  const [xs, ys] = [map.nodes.map(({ x }) => x), map.nodes.map(({ y }) => y)];
  const span = (numbers: number[]) => Math.max(...numbers) - Math.min(...numbers);
  const height = span(ys) === 0 ? 80 : 260;
  const scale = (numbers: number[], size: number, edge: number) =>
    span(numbers) === 0
      ? () => size / 2
      : scaleLinear({ domain: [Math.min(...numbers), Math.max(...numbers)], range: [edge, size - edge] });
  const [x, y] = [scale(xs, WIDTH, 60), scale(ys, height, 28)];
  const places = new Map(map.nodes.map((node) => [node.id, node]));
  const here = places.get(map.here ?? "");
  return (
    <svg
      viewBox={`0 0 ${WIDTH} ${height}`}
      className="map"
      role="img"
      aria-label={`Map of ${map.nodes.length} places${here ? `; the agent is at ${here.label}` : ""}`}
    >
      {map.edges.map(([a, b], i) => {
        const [from, to] = [places.get(a), places.get(b)];
        return from && to && <line key={i} x1={x(from.x)} y1={y(from.y)} x2={x(to.x)} y2={y(to.y)} />;
      })}
      {map.nodes.map((node) => (
        <g key={node.id} className={node.id === map.here ? "place here" : "place"}>
          <circle cx={x(node.x)} cy={y(node.y)} r={node.id === map.here ? 9 : 6} />
          <text x={x(node.x)} y={y(node.y) - 13}>
            {node.label}
          </text>
        </g>
      ))}
    </svg>
  );
}
