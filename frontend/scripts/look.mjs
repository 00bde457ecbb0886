/** node scripts/look.mjs PAGE.html DIRECTORY [overview,turn,...]: screenshots of every view in Chromium, and what axe-core finds in each. */
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [page, out, only] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const url = pathToFileURL(resolve(page)).href;
mkdirSync(out, { recursive: true });

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium" });
const WIDE = { width: 1440, height: 900 };
const PHONE = { width: 390, height: 844 };
const click = (id) => async (tab) => tab.getByTestId(id).first().click();
const openTurn = async (tab) => {
  await tab.locator(".strip-row .cell.mixed.pivot").nth(3).click();
  await tab.getByTestId("action-0").waitFor();
};
const scenes = {
  overview: {},
  "overview-filtered": {
    act: async (tab) => {
      await tab.getByTestId("bar-0").click();
      await tab.getByTestId("filters").click();
    },
  },
  "overview-dark": { scheme: "dark" },
  "overview-phone": { size: PHONE },
  turn: { act: openTurn },
  "turn-dark": { act: openTurn, scheme: "dark" },
  "turn-phone": { act: openTurn, size: PHONE, full: true },
  "turn-full": { act: openTurn, full: true },
  "turn-heat": {
    act: async (tab) => {
      await openTurn(tab);
      await tab.getByTestId("heat-logprob").check({ force: true });
      await tab.getByTestId("heat-tokens").first().focus();
      await tab.keyboard.press("ArrowRight");
      await tab.keyboard.press("ArrowRight");
    },
  },
  prompt: {
    act: async (tab) => {
      await openTurn(tab);
      await tab.getByTestId("show-prompt").check({ force: true });
    },
  },
  search: {
    act: async (tab) => {
      await tab.getByTestId("tab-turns").click();
      await tab.getByTestId("search").fill("order shipped");
      await tab.waitForTimeout(900);
    },
  },
  "turns-phone": { act: click("tab-turns"), size: PHONE },
  compare: {
    act: async (tab) => {
      await tab.getByTestId("tab-compare").click();
      await tab.waitForTimeout(500);
    },
  },
  "compare-dark": {
    act: async (tab) => {
      await tab.getByTestId("tab-compare").click();
      await tab.waitForTimeout(500);
    },
    scheme: "dark",
  },
  "compare-phone": {
    act: async (tab) => {
      await tab.getByTestId("tab-compare").click();
      await tab.waitForTimeout(500);
    },
    size: PHONE,
    full: true,
  },
  "turn-print": { act: openTurn, media: "print", full: true, size: { width: 800, height: 1100 } },
  "overview-print": { media: "print", full: true, size: { width: 800, height: 1100 } },
  mistakes: { act: click("tab-mistakes") },
  play: {
    act: async (tab) => {
      await tab.getByTestId("sort").selectOption("length");
      await tab.locator(".strip-row:has-text('episode') a").first().click();
      await tab.getByTestId("play-forward").click();
    },
  },
  help: { act: click("help") },
  labels: {
    act: async (tab) => {
      await openTurn(tab);
      await tab.getByTestId("label-drop").check();
      await tab.getByTestId("labels").click();
    },
  },
};

let serious = 0;
for (const [name, { act, size = WIDE, scheme = "light", full = false, media }] of Object.entries(scenes)) {
  if (only && !only.split(",").includes(name)) continue;
  const context = await browser.newContext({ viewport: size, colorScheme: scheme });
  const tab = await context.newPage();
  tab.on(
    "console",
    (message) => ["error", "warning"].includes(message.type()) && console.log(`${name}: console: ${message.text()}`),
  );
  tab.on("pageerror", (error) => console.log(`${name}: error: ${error.stack}`));
  await tab.goto(url);
  try {
    await tab.getByTestId("strips").waitFor({ timeout: 8000 });
    await act?.(tab);
  } catch (error) {
    console.log(`${name}: ${String(error).slice(0, 400)}`);
  }
  if (media) await tab.emulateMedia({ media });
  await tab.waitForTimeout(250);
  await tab.screenshot({ path: join(out, `${name}.png`), fullPage: full });
  const wide = await tab.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (wide > 0) console.log(`${name}: the page is ${wide} px wider than the screen`);
  if (await tab.evaluate(() => "__hacked" in window)) console.log(`${name}: TEXT FROM A LOG WAS RUN`);
  await tab.evaluate(axe);
  const { violations } = await tab.evaluate(() => window.axe.run());
  serious += violations.filter(({ impact }) => impact === "serious" || impact === "critical").length;
  for (const { id, impact, nodes } of violations)
    console.log(
      `${name}: axe ${impact}: ${id} (${nodes.length}) ${nodes[0].html.slice(0, 160)} ${nodes[0].failureSummary?.slice(0, 200).replaceAll("\n", " ")}`,
    );
  await context.close();
}
await browser.close();
process.exitCode = serious > 0 ? 1 : 0;
