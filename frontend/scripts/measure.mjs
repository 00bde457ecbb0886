/** node scripts/measure.mjs PAGE.html: how long the page takes to open, to index its texts and to search, in Chromium. */
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const QUERIES = ["kettle", "voucher lamp", '"the customer"', "e", "W1040", "nothing-has-this", "wrong_argument"];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium" });
const url = pathToFileURL(resolve(process.argv[2])).href;
const devtools = await browser.newBrowserCDPSession();
const opened = [];

/** Of all processes of the browser together, in ms: what an open costs even where the machine is busy with other work. */
async function processorTime() {
  const { processInfo } = await devtools.send("SystemInfo.getProcessInfo");
  return Math.round(1000 * processInfo.reduce((sum, { cpuTime }) => sum + cpuTime, 0));
}

for (let i = 0; i < 3; i++) {
  const tab = await browser.newPage({ viewport: { width: 1440, height: 900 } });
  const before = await processorTime();
  const start = performance.now();
  await tab.goto(url, { waitUntil: "commit" });
  await tab.locator(".strip-row .cell").first().waitFor();
  opened.push(`${Math.round(performance.now() - start)} ms (${(await processorTime()) - before} ms of processor time)`);
  await tab.close();
}
console.log(`open, first strips on the screen: ${opened.join(", ")}`);
const tab = await browser.newPage({ viewport: { width: 1440, height: 900 } });
await tab.addInitScript(() => {
  window.longest = 0;
  const note = (list) =>
    list.getEntries().forEach(({ duration }) => (window.longest = Math.max(window.longest, duration)));
  new PerformanceObserver(note).observe({ type: "longtask", buffered: false });
});
let start = performance.now();
await tab.goto(url);
await tab.locator(".strip-row .cell").first().waitFor();
await tab.evaluate(() => (window.longest = 0));
await tab.locator("[data-testid=result-count][data-indexed=true]").waitFor({ timeout: 300_000 });
console.log(`texts indexed after ${Math.round(performance.now() - start)} ms`);
console.log(
  `longest pause of the page while texts are indexed: ${Math.round(await tab.evaluate(() => window.longest))} ms`,
);
await tab.getByTestId("tab-turns").click();
for (const query of QUERIES) {
  await tab.getByTestId("search").fill("");
  await tab.waitForTimeout(400);
  start = performance.now();
  await tab.getByTestId("search").fill(query);
  await tab.waitForFunction((text) => {
    const count = document.querySelector("[data-testid=result-count]");
    return (
      count.dataset.milliseconds !== undefined &&
      decodeURIComponent(location.hash.replaceAll("+", " ")).includes(`q=${text}`)
    );
  }, query);
  const shown = Math.round(performance.now() - start);
  const count = tab.getByTestId("result-count");
  console.log(
    `search ${query}: ${Math.round(Number(await count.getAttribute("data-milliseconds")))} ms to find, ${shown} ms from typing to the list (60 of them wait for more typing); ${await count.textContent()}`,
  );
}
console.log(
  "JavaScript heap of the page:",
  Math.round((await tab.evaluate(() => performance.memory.usedJSHeapSize)) / 1e6),
  "MB",
);
await browser.close();
