import { diffChars, diffLines, diffWordsWithSpace } from "diff";

/** A piece of the difference: in both texts, only in the reference, or only in the sample. */
export interface Piece {
  kind: "same" | "missing" | "extra";
  text: string;
}

const SLOW_MILLISECONDS = 60;
const SHORT = 400;

/**
 * From the accepted action to the sampled one, by words; a one-word change is refined to its letters. Null: they have hardly
 * a word in common, and a mixture of the two would say less than the sample alone.
 */
export function difference(accepted: string, sampled: string): Piece[] | null {
  const words = diffWordsWithSpace(accepted, sampled, { timeout: SLOW_MILLISECONDS });
  const changes = words ?? diffLines(accepted, sampled, { timeout: SLOW_MILLISECONDS });
  if (!changes) return null;
  const pieces = changes.map(piece);
  return 3 * shared(pieces) < Math.min(accepted.length, sampled.length) ? null : refine(pieces);
}

function piece(change: { added: boolean; removed: boolean; value: string }): Piece {
  return { kind: change.added ? "extra" : change.removed ? "missing" : "same", text: change.value };
}

/** Letters in both texts. Blanks and punctuation are in any two calls, so they do not count. */
function shared(pieces: Piece[]): number {
  return pieces.reduce(
    (sum, { kind, text }) => sum + (kind === "same" ? text.replace(/[^\p{L}\p{N}]/gu, "").length : 0),
    0,
  );
}

/** "2024-05-01" against "2024-05-02" is clearer by letters, unless hardly a letter is shared. */
function refine(pieces: Piece[]): Piece[] {
  const refined: Piece[] = [];
  for (let i = 0; i < pieces.length; i++) {
    const [old, fresh] = [pieces[i], pieces[i + 1]];
    if (
      old?.kind === "missing" &&
      fresh?.kind === "extra" &&
      old.text.length + fresh.text.length < SHORT &&
      !/\s/.test(old.text + fresh.text)
    ) {
      const letters = diffChars(old.text, fresh.text).map(piece);
      if (letters.length <= 4 && 2 * shared(letters) >= Math.max(old.text.length, fresh.text.length)) {
        refined.push(...letters);
        i++;
        continue;
      }
    }
    if (old) refined.push(old);
  }
  return refined;
}
