"""What the model saw at a turn, as text: written anew by the run's tokenizer and compared with what was sampled from.

Prompts of neighbouring turns share most of their text, so each is stored as what it adds to the one before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pivotrl.protocols import NotRenderable, Turn
from pivotrl.records import Completion
from pivotrl.rendering import prompt_hash
from pivotrl.report.browser.packing import Chunks, Place
from pivotrl.report.browser.scoring import Scores
from pivotrl.rows.prompts import Prompting

MAX_CHARACTERS = 200_000_000
"""Of all prompts as the model saw them, before what they share is left out."""
_STREAM = "prompts"


@dataclass
class Prompts:
    """Writes prompts into chunks of their own, and counts what it could not write."""

    prompting: Prompting
    chunks: Chunks
    max_characters: int = MAX_CHARACTERS
    num_characters: int = 0
    num_left_out: int = 0
    num_different: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    _last: tuple[Place, str] | None = None

    def add(self, turn: Turn, sampled_from: Iterable[str] = ()) -> Place | None:
        """Where the prompt of a turn is; None if it cannot be written, or if the page is full.

        Args:
            sampled_from: hashes of the prompts that the samples of this turn were drawn at.
        """
        if self.num_characters >= self.max_characters:
            self.num_left_out += 1
            return None
        renderer = self.prompting.renderer
        try:
            ids = renderer.prompt(turn)
            left_out = renderer.left_out(turn)
        except NotRenderable as error:
            self.faults[str(error)] = self.faults.get(str(error), 0) + 1
            return None
        text = renderer.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        told = [f"the chat template leaves out {what}" for what in left_out]
        if turn.num_context_messages < turn.index:
            told.append(f"{turn.index - turn.num_context_messages} earlier messages are outside the agent's window")
        if any(known and known != prompt_hash(ids) for known in sampled_from):
            self.num_different += 1
            told.append("the samples were drawn at another rendering of this turn")
        self.num_characters += len(text)
        return self._store(text, len(ids), "; ".join(told))

    def _store(self, text: str, num_tokens: int, cut: str) -> Place:
        base, shared = -1, 0
        if self._last is not None and self._last[0][0] == self.chunks.open_chunk(_STREAM):
            base, shared = self._last[0][1], common_prefix(self._last[1], text)
        entry = {
            "base": base,
            "prefix": utf16_length(text[:shared]),
            "text": text[shared:],
            "tokens": num_tokens,
            "cut": cut,
        }
        place = self.chunks.add("prompts", entry, _STREAM)
        self._last = place, text
        return place

    def notices(self) -> list[str]:
        """What is not in the page, and why."""
        found = [f"{number:,} prompts cannot be written: {fault}" for fault, number in self.faults.items()]
        if self.num_left_out:
            found.append(
                f"{self.num_left_out:,} prompts are left out: the others hold {self.max_characters / 1e6:,.0f} million "
                "characters already."
            )
        if self.num_different:
            found.append(
                f"{self.num_different:,} prompts differ from those that the samples were drawn at: the tokenizer or "
                "the chat template has changed since, or it is another model's."
            )
        return found


def common_prefix(left: str, right: str) -> int:
    """Characters that two texts share at their beginning, by bisection."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left.startswith(right[low:middle], low):
            low = middle
        else:
            high = middle - 1
    return low


def utf16_length(text: str) -> int:
    """Length as JavaScript counts it."""
    return len(text) + sum(character > "\uffff" for character in text) if not text.isascii() else len(text)


@dataclass
class TokenHeat:
    """The tokens of a sample as text, with their log-probabilities as they were stored, and with scores of its own."""

    prompting: Prompting
    scores: Scores = field(default_factory=dict)
    _texts: dict[int, str] = field(default_factory=dict)

    @property
    def channels(self) -> list[str]:
        known = next(iter(self.scores.values()), {})
        return ["logprob", *(name for name in ("reference", "entropy", "ratio") if name in known)]

    def __call__(self, turn_id: str, completion: Completion) -> dict[str, Any]:
        logprobs = completion.logprobs_T or (float("nan"),) * len(completion.token_ids_T)
        return {
            "tokens": [self._text(token) for token in completion.token_ids_T],
            "logprob": [round(value, 3) if value == value else None for value in logprobs],
            **self.scores.get((turn_id, completion.token_ids_T), {}),
        }

    def _text(self, token: int) -> str:
        known = self._texts.get(token)
        if known is None:
            try:
                decoded: str = self.prompting.renderer.tokenizer.decode([token], skip_special_tokens=False)
            except (OverflowError, IndexError, TypeError):  # an id that this tokenizer does not have
                decoded = ""
            known = self._texts[token] = decoded or f"[{token}]"
        return known
