import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";
import { onePage } from "./build/onePage.ts";

// The output is src/pivotrl/report/browser/page.html and page.licenses.txt: what the wheel ships.
export default defineConfig({
  plugins: [react(), onePage()],
  build: {
    outDir: "../src/pivotrl/report/browser",
    emptyOutDir: false,
    target: "es2022",
    cssCodeSplit: false,
    modulePreload: false,
    license: { fileName: "page.licenses.txt" },
    rolldownOptions: { input: "src/main.tsx", output: { format: "iife", codeSplitting: false } },
  },
  worker: { format: "iife" },
  test: { environment: "happy-dom", include: ["tests/**/*.test.{ts,tsx}"] },
});
