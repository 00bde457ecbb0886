/** A part of a query: a word, or an exact piece of text in quotes. */
export interface Term {
  /** In lower case. */
  text: string;
  /** Must not be part of a longer word at its beginning; at its end. */
  wholeStart: boolean;
  wholeEnd: boolean;
}

const QUOTED_OR_WORD = /"([^"]+)(?:"|$)|(\S+)/g;
const LETTER = /[\p{L}\p{M}\p{N}]/u;
/** Scripts that are written without blanks between words, so that nothing tells where a word ends. */
const NO_BLANKS =
  /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Thai}\p{sc=Lao}\p{sc=Khmer}\p{sc=Myanmar}\p{sc=Tibetan}]/u;

/**
 * Words match whole words; the last one may be the beginning of a word, because it is still being typed. "Quotes" match exactly
 * these letters anywhere, also inside words; a quote that is not closed yet goes to the end.
 */
export function terms(query: string): Term[] {
  const found: Term[] = [];
  for (const { 1: quoted, 2: word } of query.toLowerCase().matchAll(QUOTED_OR_WORD)) {
    if (quoted?.trim()) found.push({ text: quoted, wholeStart: false, wholeEnd: false });
    else if (word && word !== '"')
      found.push({ text: word, wholeStart: isLetterAt(word, 0), wholeEnd: isLetterAt(word, word.length - 1) });
  }
  const last = found.at(-1);
  if (last?.wholeEnd && !query.trimEnd().endsWith('"')) last.wholeEnd = false;
  return found;
}

/** Whether the term may begin at a place of a text: no longer word is cut there. */
export function fits(term: Term, text: string, at: number): boolean {
  return !(
    (term.wholeStart && at > 0 && isLetterAt(text, at - 1)) ||
    (term.wholeEnd && at + term.text.length < text.length && isLetterAt(text, at + term.text.length))
  );
}

/** The places of all terms in a text, for marking them; overlapping ones are joined. */
export function places(list: Term[], text: string): [from: number, to: number][] {
  const lower = text.toLowerCase();
  if (lower.length !== text.length) return []; // A few letters grow in lower case (İ); the places would be wrong.
  const found: [number, number][] = [];
  for (const term of list)
    for (let at = lower.indexOf(term.text); at >= 0; at = lower.indexOf(term.text, at + 1))
      if (fits(term, lower, at)) found.push([at, at + term.text.length]);
  const joined: [number, number][] = [];
  for (const [from, to] of found.sort(([a], [b]) => a - b)) {
    const before = joined.at(-1);
    if (before && from <= before[1]) before[1] = Math.max(before[1], to);
    else joined.push([from, to]);
  }
  return joined;
}

/** Letters, marks and digits. An underscore separates: `order` is a word of `get_order`. */
function isLetterAt(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  if (code < 0x80) return (code >= 97 && code <= 122) || (code >= 48 && code <= 57) || (code >= 65 && code <= 90);
  const letter = text.charAt(at);
  return LETTER.test(letter) && !NO_BLANKS.test(letter);
}
