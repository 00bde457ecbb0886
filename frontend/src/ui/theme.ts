export type Theme = "auto" | "light" | "dark";

const KEY = "pivotrl-theme";

export function savedTheme(): Theme {
  const saved = remembered(KEY);
  return saved === "light" || saved === "dark" ? saved : "auto";
}

export function applyTheme(theme: Theme): void {
  document.documentElement.dataset.theme = theme;
}

export function saveTheme(theme: Theme): void {
  applyTheme(theme);
  remember(KEY, theme);
}

/** What the reader chose last time, where the browser keeps such things for this page. */
export function remembered(key: string): string | null {
  try {
    return window.localStorage.getItem(key);
  } catch {
    return null;
  }
}

export function remember(key: string, value: string): void {
  try {
    window.localStorage.setItem(key, value);
  } catch {
    // The choice lasts until the page is closed.
  }
}
