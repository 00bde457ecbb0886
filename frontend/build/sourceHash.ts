import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const FOLDERS = ["build", "src"];
const FILES = ["package-lock.json", "package.json", "page.template.html", "tsconfig.json", "vite.config.ts"];

/**
 * SHA-256 over the names and contents of everything that decides what the page is. The build writes it into the page, and
 * `tests/test_view_page.py` computes it again, so a page older than its sources fails the test.
 */
export function sourceHash(root: string): string {
  const names = [...FILES, ...FOLDERS.flatMap((folder) => walk(root, folder))].sort();
  const hash = createHash("sha256");
  for (const name of names)
    hash
      .update(name)
      .update("\0")
      .update(readFileSync(join(root, name)))
      .update("\0");
  return hash.digest("hex");
}

function walk(root: string, folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const name = `${folder}/${entry.name}`;
    return entry.isDirectory() ? walk(root, name) : [name];
  });
}
