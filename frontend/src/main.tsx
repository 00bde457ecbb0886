import { createRoot } from "react-dom/client";
import { App } from "./App";
import { readPage } from "./data/page";
import { applyTheme, savedTheme } from "./ui/theme";
import "./styles/index.css";

const place = document.getElementById("app");
if (place) {
  applyTheme(savedTheme());
  readPage(document).then(
    (run) => createRoot(place).render(<App run={run} />),
    (error: unknown) => {
      place.className = "page fault";
      place.textContent = `This page cannot be shown. ${error instanceof Error ? error.message : String(error)}`;
    },
  );
}
