"""The marks before and after a thought, in the forms that models write."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pivotrl.text.tool_call_syntax import THOUGHT, Unparsable, ends_in_stump

Marks = tuple[str, str]
"""The marks that open and close a thought."""

SPECIAL: tuple[Marks, ...] = (
    THOUGHT,
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought", "<channel|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("◁think▷", "◁/think▷"),
)
"""Marks that always begin a thought."""
_TAGS: tuple[Marks, ...] = (
    ("<reasoning>", "</reasoning>"),
    ("<thought>", "</thought>"),
    ("<thinking>", "</thinking>"),
)
"""Marks that begin a thought only if the model's template or tokenizer knows them."""


def known_thoughts(template: str, tokens: Collection[str]) -> tuple[Marks, ...]:
    """The marks of thoughts that a chat template or a tokenizer's added tokens know, ``<think>`` always among them."""

    def knows(mark: str) -> bool:
        return mark in template or mark in tokens or mark.removesuffix("thought") in tokens

    special = [marks for marks in SPECIAL if marks == THOUGHT or any(map(knows, marks))]
    return (*special, *(marks for marks in _TAGS if all(map(knows, marks))))


def opened_thought(prompt: str, own: Sequence[Marks]) -> Marks | None:
    """The marks of the thought opened at the end of a prompt, if any."""
    end = prompt[-100:].rstrip()
    return next((marks for marks in dict.fromkeys((*SPECIAL, *own)) if end.endswith(marks[0])), None)


def after_thoughts(text: str, own: Sequence[Marks] = ()) -> str:
    """A text without its leading thoughts.

    Raises:
        Unparsable: ``thought_not_closed``.
    """
    while (begun := text.lstrip()) and (marks := begins_with_thought(begun, own)):
        _, closed, text = begun[len(marks[0]) :].partition(marks[1])
        if not closed:
            raise Unparsable("thought_not_closed")
    return text


def begins_with_thought(text: str, own: Sequence[Marks] = ()) -> Marks | None:
    """The marks of the thought at the start of a text, if any."""
    begun = text.lstrip()
    return next((marks for marks in dict.fromkeys((*SPECIAL, *own)) if begun.startswith(marks[0])), None)


def require_no_thought(text: str, own: Sequence[Marks]) -> None:
    """
    Raises:
        Unparsable: the text holds a mark of a thought: ``thought_not_closed`` or ``thought_inside_text``.
    """
    for opening, closing in own:
        opened, closed = opening in text, closing in text
        if (opened and not closed) or ends_in_stump(text, opening):
            raise Unparsable("thought_not_closed")
        if opened or closed:
            raise Unparsable("thought_inside_text")
