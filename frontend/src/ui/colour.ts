import { scaleLinear } from "@visx/scale";

/** Pass rate to colour: orange fails, blue passes, sand is mixed. Told apart by every common kind of colour vision. */
const scale = scaleLinear<string>({
  domain: [0, 0.25, 0.5, 0.75, 1],
  range: ["#b8430f", "#e88b53", "#efd9a3", "#86b6cf", "#21659c"],
  clamp: true,
});

export function rateColour(rate: number): string {
  return scale(rate);
}
