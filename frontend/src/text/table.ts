/**
 * Rows as tab-separated text for a spreadsheet. A cell that a spreadsheet would run as a formula gets an apostrophe, and
 * tabs and line breaks become spaces. Numbers pass through.
 */
export function tabSeparated(rows: (string | number | null)[][]): string {
  return rows.map((row) => row.map(cell).join("\t")).join("\n") + "\n";
}

function cell(value: string | number | null): string {
  if (value === null) return "";
  if (typeof value === "number") return String(value);
  const text = value.replace(/[\t\r\n]+/g, " ");
  return /^\s*[=+\-@|%]/.test(text) ? `'${text}` : text;
}
