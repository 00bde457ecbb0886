/** node scripts/walk.mjs PAGE.html: walks through the page as a reader would, in Chromium, and fails at the first surprise. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const url = pathToFileURL(resolve(process.argv[2])).href;
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium" });
const context = await browser.newContext({
  viewport: { width: 1440, height: 900 },
  acceptDownloads: true,
  permissions: ["clipboard-read", "clipboard-write"],
});
const tab = await context.newPage();
const surprises = [];
tab.on("console", (message) => ["error", "warning"].includes(message.type()) && surprises.push(message.text()));
tab.on("pageerror", (error) => surprises.push(String(error)));
tab.on(
  "request",
  (request) => /^(file|blob|data):/.test(request.url()) || surprises.push(`asked for ${request.url()}`),
);
const get = (id) => tab.getByTestId(id).first();
const title = () => get("turn-facts").textContent();
const hash = () => tab.evaluate(() => decodeURIComponent(location.hash));
const step = (text) => console.log("·", text);
const until = async (test, what) => {
  for (let i = 0; i < 100; i++, await tab.waitForTimeout(100)) if (await test()) return;
  assert.fail(`never: ${what}; at ${await hash()}`);
};

await tab.goto(url);
await get("strips").waitFor();
await tab.locator("[data-testid=result-count][data-indexed=true]").waitFor({ timeout: 120_000 });
assert.equal(tab.workers().length, 1);
step("texts are indexed in a worker, from file://");

await get("bar-0").click();
await until(async () => /^\d+ of/.test(await get("result-count").textContent()), "a filtered count");
const count = Number((await get("result-count").textContent()).split(" ")[0]);
assert.equal(count, Number(/: (\d+) turns/.exec(await get("bar-0").getAttribute("aria-label"))[1]));
await get("clear-filters").click();
step("a bar filters");

await tab.locator(".strip .cell.mixed.pivot").first().click();
await get("action-0").waitFor();
const first = await title();
await tab.keyboard.press("j");
await until(async () => (await title()) !== first, "the next turn");
await tab.keyboard.press("k");
await until(async () => (await title()) === first, "the turn before");
for (const key of ["p", "J", "K", "]", "["]) {
  const before = await hash();
  await tab.keyboard.press(key);
  await until(async () => (await hash()) !== before, `${key} goes somewhere`);
}
step("j k p J K ] [");
const here = await title();
await tab.reload();
await get("action-0").waitFor();
assert.equal(await title(), here);
step("a link survives a reload");

await tab.keyboard.press("l");
await until(async () => (await get("labels").textContent()).includes("1"), "a label");
await get("label-note").fill("the log is wrong here");
await tab.reload();
await until(async () => (await get("labels").textContent()).includes("1"), "the label after a reload");
await get("labels").click();
const [saved] = await Promise.all([tab.waitForEvent("download"), get("labels-export").click()]);
const file = join(tmpdir(), "pivotrl-walk-labels.json");
await saved.saveAs(file);
const labels = JSON.parse(readFileSync(file, "utf8"));
assert.deepEqual(
  [labels.format, labels.labels[0].drop, labels.labels[0].note],
  ["pivotrl-labels-1", true, "the log is wrong here"],
);
labels.labels[0].note = "from a file";
writeFileSync(file, JSON.stringify(labels));
await tab.getByTestId("labels-file").setInputFiles(file);
await until(async () => (await get("labels-message").textContent()).includes("Imported 1"), "the import");
await tab.keyboard.press("Escape");
await until(async () => (await get("label-note").inputValue()) === "from a file", "the imported note");
step("labels are kept, exported and imported");

await get("copy-json").click();
await until(async () => (await get("said").textContent()).includes("copied"), "copied");
assert.equal(JSON.parse(await tab.evaluate(() => navigator.clipboard.readText())).turn_id, labels.labels[0].turn_id);
step("a turn is copied as JSON");

await tab.keyboard.press("?");
await get("help-dialog").waitFor();
await tab.keyboard.press("Escape");
await get("help-dialog").waitFor({ state: "detached" });
await tab.keyboard.press("Escape");
await get("strips").waitFor();
step("? and Esc");

await tab.keyboard.press("/");
await tab.keyboard.type("order");
await tab.keyboard.press("Escape");
await get("tab-turns").click();
await tab.locator(".snippet mark").first().waitFor();
await tab.keyboard.press("j");
await tab.keyboard.press("j");
await until(() => tab.evaluate(() => document.activeElement?.classList.contains("row-link")), "the focus on a row");
await tab.keyboard.press("Enter");
await get("turn-title").waitFor();
await tab.locator("mark:visible").first().waitFor();
await tab.goBack();
await get("turn-rows").waitFor();
await get("column-rate").click();
await until(async () => (await tab.locator("[aria-sort=descending]").count()) === 1, "sorted");
step("search, j j Enter, Back, sorting");

await get("clear-filters").click();
await get("tab-mistakes").click();
await get("clusters").locator("a").first().click();
await get("turn-rows").waitFor();
assert.equal(await tab.getByTestId("chip-cluster").count(), 1);
step("a mistake leads to its turns");

await tab.keyboard.press("c");
await get("side-after").waitFor();
const changes = await tab.locator("[data-testid=changes] b").allTextContents();
assert.ok(changes[0].startsWith("−"), `the first change is a loss: ${changes[0]}`);
step(`c compares; the largest loss is first: ${changes[0]}`);

const ground = () => tab.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
const light = await ground();
await get("theme").click();
await until(async () => (await ground()) !== light, "dark colours");
step("dark");

await get("tab-overview").click();
await get("clear-filters").click();
await tab.locator("[data-testid^=play-]").first().click();
await get("play-toggle").click();
await until(async () => !(await get("play-position").textContent()).startsWith("1 "), "playback");
await tab.getByTestId("play-slider").fill("0");
await until(async () => (await get("play-position").textContent()).startsWith("1 "), "the slider");
step("playback");

assert.deepEqual(surprises, []);
assert.equal(await tab.evaluate(() => "__hacked" in window), false);
step("nothing from the log was run, nothing was asked for, no error");
await browser.close();
