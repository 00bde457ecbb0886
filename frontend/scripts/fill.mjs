/** Fills page.html with data, as `pivotrl view` does: for screenshots, measurements and tests without Python. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const PAGE = new URL("../../src/pivotrl/report/browser/page.html", import.meta.url);

export function fill({ head, index, chunks }) {
  const template = readFileSync(PAGE, "utf8");
  const json = JSON.stringify(head).replace(
    /[<>&\u2028\u2029]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  const tags = [`<script type="application/json" id="head">${json}</script>`];
  [index, ...chunks].forEach((chunk, i) => {
    tags.push(
      `<script type="application/octet-stream" id="c${i}">${gzipSync(JSON.stringify(chunk)).toString("base64")}</script>`,
    );
  });
  const sha = (tag) =>
    `'sha256-${createHash("sha256")
      .update(template.match(new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`))[1])
      .digest("base64")}'`;
  const csp = `default-src 'none'; script-src ${sha("script")}; style-src ${sha("style")}; img-src data:; worker-src blob:; base-uri 'none'; form-action 'none'`;
  return template
    .replace("<!--pivotrl:csp-->", () => `<meta http-equiv="Content-Security-Policy" content="${csp}">`)
    .replace("<!--pivotrl:data-->", () => tags.join("\n"));
}

/** Head and chunks as JSON files in a directory: head.json, c0.json, c1.json, ... */
export function readFixture(directory) {
  const read = (name) => JSON.parse(readFileSync(join(directory, name), "utf8"));
  const head = read("head.json");
  const chunks = [];
  for (let i = 1; existsSync(join(directory, `c${i}.json`)); i++) chunks.push(read(`c${i}.json`));
  return { head, index: read("c0.json"), chunks };
}
