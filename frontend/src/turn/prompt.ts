import type { PromptText } from "../data/schema";

/** A rendered prompt in full: prompts of one trajectory share their beginnings. */
export function promptText(prompts: PromptText[], slot: number): string {
  const parts: PromptText[] = [];
  for (let at = slot; at >= 0;) {
    const prompt = prompts[at];
    if (!prompt || parts.includes(prompt)) throw new Error("The prompt refers to one that is not in the page.");
    parts.push(prompt);
    at = prompt.base;
  }
  return parts.reduceRight((text, part) => text.slice(0, part.prefix) + part.text, "");
}
