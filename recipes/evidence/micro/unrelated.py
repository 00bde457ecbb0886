"""Five kinds of questions that have nothing to do with errands, each with one right answer."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_WORDS = ("apple", "bread", "cheese", "fish", "honey", "milk", "onion", "pear", "rice", "salt", "soup", "tea")


class Question(NamedTuple):
    kind: str
    text: str
    answer: str


def _arithmetic(generator: random.Random, longest: int) -> tuple[str, str]:
    one, other = generator.randint(1, 12), generator.randint(1, 12)
    if generator.random() < 0.5:
        return f"{one} + {other} =", str(one + other)
    one, other = max(one, other), min(one, other)
    return f"{one} - {other} =", str(one - other)


def _reversal(generator: random.Random, longest: int) -> tuple[str, str]:
    letters = generator.choices(_LETTERS, k=generator.randint(3, longest))
    return f"reverse: {' '.join(letters)}", " ".join(reversed(letters))


def _sorting(generator: random.Random, longest: int) -> tuple[str, str]:
    digits = [str(generator.randint(0, 9)) for _ in range(generator.randint(3, longest))]
    return f"sort: {' '.join(digits)}", " ".join(sorted(digits))


def _lookup(generator: random.Random, longest: int) -> tuple[str, str]:
    table = {
        word: str(generator.randint(0, 99)) for word in generator.sample(_WORDS, generator.randint(3, min(longest, 8)))
    }
    asked = generator.choice(list(table))
    return f"price list: {', '.join(f'{word} {price}' for word, price in table.items())}. price of {asked}?", table[
        asked
    ]


def _copying(generator: random.Random, longest: int) -> tuple[str, str]:
    parts = [generator.choice((*_WORDS, *_LETTERS, *"0123456789")) for _ in range(generator.randint(3, longest))]
    return f"repeat: {' '.join(parts)}", " ".join(parts)


KINDS: dict[str, Callable[[random.Random, int], tuple[str, str]]] = {
    "arithmetic": _arithmetic,
    "reversal": _reversal,
    "sorting": _sorting,
    "lookup": _lookup,
    "copying": _copying,
}


def draw(generator: random.Random, kind: str | None = None, longest: int = 6) -> Question:
    """
    Args:
        longest: how many letters, digits, words or lines of a table a question may have; at least 3.
    """
    kind = kind or generator.choice(list(KINDS))
    return Question(kind, *KINDS[kind](generator, longest))
