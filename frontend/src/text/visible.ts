/** A piece of text from a log: plain, or a control character shown as a symbol. */
export interface TextPiece {
  text: string;
  control: boolean;
}

// C0 controls but tab and newline, DEL, C1 controls, and characters that turn the direction of text around.
const CONTROL =
  /\u001b\[[0-9;?]*[ -/]*[@-~]|[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;

/** Splits text at escapes and control characters. An ANSI colour becomes "␛[31m": visible, without effect. */
export function visible(text: string): TextPiece[] {
  const clean = text.replace(/\r\n/g, "\n");
  const pieces: TextPiece[] = [];
  let end = 0;
  for (const match of clean.matchAll(CONTROL)) {
    if (match.index > end) pieces.push({ text: clean.slice(end, match.index), control: false });
    pieces.push({ text: symbol(match[0]), control: true });
    end = match.index + match[0].length;
  }
  if (end < clean.length) pieces.push({ text: clean.slice(end), control: false });
  return pieces;
}

function symbol(sequence: string): string {
  const code = sequence.charCodeAt(0);
  if (sequence.length > 1) return `␛${sequence.slice(1)}`;
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  return code === 0x7f ? "␡" : `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
}
