"""Mathematical expressions, equal when sympy finds them so, in a process that is killed when it takes too long.

``math-verify`` reads LaTeX and compares. What it is too kind about is refused before it is asked: words (it reads
``cat`` as c times a times t, which is ``act``), percentages, and the kind of brackets around several values.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import threading

import math_verify  # type: ignore[import-untyped]

from pivotrl.killable import Crashed, Killable, TookTooLong

MAX_LENGTH = 1000
"""Characters of an expression."""

_FUNCTIONS = (
    *("arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "sin", "cos", "tan", "sec", "csc", "cot"),
    *("log", "ln", "exp", "sqrt", "pi", "infty", "min", "max", "gcd", "lcm", "det", "mod"),
)
_ALTERNATIVE = re.compile(r"\s*(?:\\(?:text|mbox|mathrm)\s*\{\s*(?:or|and)\s*\}|\b(?:or|and)\b)\s*")
_BARE_FUNCTION = re.compile(rf"(?<![\\A-Za-z])({'|'.join(_FUNCTIONS)})(?![A-Za-z])")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[a-z]*matrix\}")
_WORD = re.compile(r"[A-Za-z]{3,}")
_UNEVALUATED = re.compile(r"\\(?:int|iint|oint|sum|prod|lim|frac\{d\})(?![A-Za-z])")
_ROUNDING = 12
"""Decimals to which math-verify compares where there are floats: 0.333333 is not 1/3."""


def prepare(text: str) -> str | None:
    """The expression as LaTeX; None when the text is no expression but words, or too long."""
    if len(text) > MAX_LENGTH or "%" in text:
        return None
    text = _ALTERNATIVE.sub(", ", text.strip().rstrip(".").replace("\u2212", "-").replace("$", " "))
    text = text.replace("**", "^").replace("*", r" \cdot ").replace("π", r"\pi ").replace("∞", r"\infty ")
    text = text.replace("√", r"\sqrt ").replace("≤", r"\le ").replace("≥", r"\ge ").replace("\u00d7", r"\times ")
    text = re.sub(r"\^\s*(-?[0-9]+)(?![0-9.])", r"^{\1}", text)  # else x^10 is x^1 times 0
    text = re.sub(r"\^\s*\(([^()]*)\)", r"^{\1}", text)
    text = re.sub(r"\bsqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = _BARE_FUNCTION.sub(r"\\\1 ", text)
    bare = _COMMAND.sub(" ", _ENVIRONMENT.sub(" ", text))
    return text if text.strip() and not _WORD.search(bare) else None


def is_unevaluated(expected: str, actual: str) -> bool:
    """Whether the answer still holds an integral, sum, product, limit or derivative that the expected one does not."""
    return bool(_UNEVALUATED.search(actual)) and not _UNEVALUATED.search(expected)


def same_expression(expected: str, actual: str, timeout_seconds: float = 5.0) -> bool | None:
    """Whether two prepared expressions are equal; None when that could not be found out within the limit.

    An equation whose left side is a single letter equals its right side: ``x = 5`` is ``5``.
    """
    if _shape(expected) != _shape(actual):
        return False
    checker, lock = _checker(os.getpid())
    with lock:
        try:
            return bool(json.loads(checker.ask(json.dumps([expected, actual]).encode(), timeout_seconds)))
        except (TookTooLong, Crashed):
            return None


@functools.lru_cache(maxsize=1)
def _checker(pid: int) -> tuple[Killable, threading.Lock]:
    """One a process: a fork must not talk to its parent's child."""
    return Killable(_answer, memory_gib=4.0), threading.Lock()


def _answer(line: bytes) -> bytes:
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of every limit that is switched off
    expected, actual = map(_parsed, json.loads(line))
    if not expected or not actual:
        return b"false"
    # Their own time limit is an alarm, which neither a big power nor another thread hears; ours kills.
    equal = math_verify.verify(expected, actual, float_rounding=_ROUNDING, timeout_seconds=None)
    return b"true" if equal else b"false"


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
