/** node scripts/preview.mjs OUT.html [--trajectories N] [--turns N] [--fixture DIRECTORY] */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { synthetic } from "../testing/synthetic.mjs";
import { fill, readFixture } from "./fill.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    trajectories: { type: "string", default: "40" },
    turns: { type: "string", default: "12" },
    fixture: { type: "string" },
  },
});
const data = values.fixture
  ? readFixture(values.fixture)
  : synthetic({ trajectories: Number(values.trajectories), turns: Number(values.turns) });
const page = fill(data);
writeFileSync(positionals[0], page);
console.log(`${positionals[0]}: ${(page.length / 1e6).toFixed(1)} MB`);
