"""Mathematical expressions, equal when sympy finds them so, in a process that is killed when it takes too long.

``math-verify`` reads LaTeX and compares. What it is too kind about is refused before it is asked: words (it reads
``cat`` as c times a times t, which is ``act``), percentages, the kind of brackets around several values, letters of
another case, and signs that it leaves out (``f'`` is ``f`` to it) or takes for others (a cross for a dot).
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import threading

import math_verify  # type: ignore[import-untyped]

from pivotrl.judging.answers.texts import with_scripts
from pivotrl.judging.killable import Crashed, Killable, TookTooLong

MAX_LENGTH = 1000
"""Characters of an expression."""

_FUNCTIONS = (
    *("arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "sin", "cos", "tan", "sec", "csc", "cot"),
    *("log", "ln", "exp", "sqrt", "pi", "infty", "min", "max", "gcd", "lcm", "det", "mod"),
)
_ALTERNATIVE = re.compile(r"\s*(?:\\(?:text|mbox|mathrm)\s*\{\s*(?:or|and)\s*\}|\b(?:or|and)\b)\s*")
_BARE_FUNCTION = re.compile(rf"(?<![\\A-Za-z])({'|'.join(_FUNCTIONS)})(?![A-Za-z])")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_READ = frozenset(
    {
        *(
            "frac",
            "dfrac",
            "tfrac",
            "cfrac",
            "sqrt",
            "cdot",
            "times",
            "div",
            "pm",
            "mp",
            "le",
            "leq",
            "ge",
            "geq",
            "ne",
        ),
        *("neq", "lt", "gt", "left", "right", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "binom", "text", "mathrm"),
        *("mathbf", "textbf", "mbox", "mathbb", "cup", "in", "begin", "end", "circ", "emptyset", "varnothing", "quad"),
        *(
            "ldots",
            "dots",
            "cdots",
            "displaystyle",
            "lfloor",
            "rfloor",
            "lceil",
            "rceil",
            "boxed",
            "int",
            "sum",
            "prod",
        ),
        *(
            "lim",
            "iint",
            "oint",
            "infty",
            "to",
            "degree",
            "vert",
            "lvert",
            "rvert",
            "qquad",
            "mid",
            "leqslant",
            "geqslant",
        ),
        *(
            "alpha",
            "beta",
            "gamma",
            "delta",
            "epsilon",
            "varepsilon",
            "zeta",
            "eta",
            "theta",
            "vartheta",
            "iota",
            "kappa",
        ),
        *("lambda", "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "varphi", "chi", "psi", "omega"),
        *("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"),
        *_FUNCTIONS,
    }
)
"""Commands that are read for what they mean."""
_LEFT_OUT = re.compile(r"[A-Za-z)}]\s*'|\^\s*\{?\s*(?:[T*]|\\prime|\\top|\\dagger|\()")
"""Primes, transposes, stars and numbers in brackets above: they are left out, or taken for powers."""
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[a-z]*matrix\}")
_WORD = re.compile(r"[A-Za-z]{3,}")
_UNEVALUATED = re.compile(r"\\(?:int|iint|oint|sum|prod|lim|frac\{d\})(?![A-Za-z])")
_ROUNDING = 12
"""Decimals to which math-verify compares where there are floats: 0.333333 is not 1/3."""


def prepare(text: str) -> str | None:
    """The expression as LaTeX; None if the text is words, not an expression, or too long."""
    if len(text) > MAX_LENGTH or "%" in text:
        return None
    text = _ALTERNATIVE.sub(", ", text.strip().rstrip(".").replace("\u2212", "-").replace("$", " "))
    text = text.replace("**", "^").replace("*", r" \cdot ").replace("π", r"\pi ").replace("∞", r"\infty ")
    text = text.replace("√", r"\sqrt ").replace("≤", r"\le ").replace("≥", r"\ge ").replace("\u00d7", r"\times ")
    text = with_scripts(text)
    text = re.sub(r"\^\s*(-?[0-9]+)(?![0-9.])", r"^{\1}", text)  # else x^10 is x^1 times 0
    text = re.sub(r"\^\s*\(([^()]*)\)", r"^{\1}", text)
    text = re.sub(r"\bsqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = _BARE_FUNCTION.sub(r"\\\1 ", text)
    bare = _COMMAND.sub(" ", _ENVIRONMENT.sub(" ", text))
    return text if text.strip() and not _WORD.search(bare) else None


def is_read(text: str) -> bool:
    """Whether all signs of a prepared expression are among those that are read for what they mean."""
    return not _LEFT_OUT.search(text) and all(command[1:] in _READ for command in _COMMAND.findall(text))


def other_case(expected: str, actual: str) -> bool:
    """Whether a letter of one is written in the other case in the other: M is not m."""
    mine, theirs = (set(_COMMAND.sub(" ", text)) for text in (expected, actual))
    return any(
        (letter.swapcase() in theirs and letter not in theirs) or (letter.swapcase() in mine and letter not in mine)
        for letter in (mine | theirs)
        if letter.isalpha()
    )


def is_unevaluated(expected: str, actual: str) -> bool:
    """Whether the answer still holds an integral, sum, product, limit or derivative that the expected one does not."""
    return bool(_UNEVALUATED.search(actual)) and not _UNEVALUATED.search(expected)


def compare(expected: str, actual: str, timeout_seconds: float = 5.0) -> str:
    """Of two prepared expressions ``match``, ``different_answer``, ``expected_answer_unreadable``,
    ``unreadable_answer`` or ``maths_timeout``.

    An equation whose left side is a single letter equals its right side: ``x = 5`` is ``5``.
    """
    if _shape(expected) != _shape(actual):
        return "different_answer"
    checker, lock = _checker(os.getpid())
    with lock:
        try:
            return checker.ask(json.dumps([expected, actual]).encode(), timeout_seconds).decode()
        except (TookTooLong, Crashed):
            return "maths_timeout"


@functools.lru_cache(maxsize=1)
def _checker(pid: int) -> tuple[Killable, threading.Lock]:
    """One a process: a fork must not talk to its parent's child."""
    return Killable(_answer, memory_gib=4.0), threading.Lock()


def _answer(line: bytes) -> bytes:
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of every limit that is switched off
    expected, actual = map(_parsed, json.loads(line))
    if not expected or not actual:
        return b"unreadable_answer" if expected else b"expected_answer_unreadable"
    # Their own time limit is an alarm, which neither a big power nor another thread hears; ours kills.
    equal = math_verify.verify(expected, actual, float_rounding=_ROUNDING, timeout_seconds=None)
    return b"match" if equal else b"different_answer"


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> list[object]:
    found: list[object] = math_verify.parse(
        f"${text}$",
        extraction_config=[math_verify.LatexExtractionConfig()],
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
    )
    return found


def _shape(text: str) -> str:
    """The brackets around several values: an interval, a tuple and a set are different things."""
    text = re.sub(r"\\(?:left|right)\b|\\[,;!]|\s", "", text)
    _, _, text = text.rpartition("=")
    pairs = {"(": "()", "[": "[]", "\\{": "\\{}"}
    opening = next((name for name in pairs if text.startswith(name)), "")
    return f"{opening}{text[-1]}" if opening and "," in text else ""
