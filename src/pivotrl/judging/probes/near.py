"""Attacks on calls that come close: a number within 10 %, a text without its punctuation, in another case, cut or
lengthened, its words in another order.

Where a call has no such value, one is put into what is taken as demonstrated: a verifier that is lax there is lax at
the next log too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pivotrl.judging.probes.facts import is_free_text, leaves, replaced
from pivotrl.judging.probes.probe import Probe, arguments_of, attack_instead, attack_on, is_comment
from pivotrl.protocols import Turn

_STRIPPED = re.compile(r"(?<=\w)[#_-](?=\w)|^#(?=\w)|(?<=\w) (?=\w)|(?<=\w)[.](?=\w)")
_CODE = re.compile(r"(?=.*\d)(?=.*[A-Za-z])\S+\Z")
"""Letters and digits without blanks: case is part of it."""
_IDENTIFIER = re.compile(r"(?:^|_)(?:id|ids|key|token)\Z|[a-z]Ids?\Z", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)?\Z")
_STAND_INS = (
    ("near/number", "limit", 200, 190),
    ("near/number", "amount", 149.5, 142.25),
    ("near/punctuation", "reference", "A-12_b #7", "A12b7"),
    ("near/punctuation", "ticket", "#44-10_c", "4410c"),
    ("near/case", "session_id", "aB3xK9", "Ab3Xk9"),
    ("near/case", "ticket_id", "QX17b", "qx17B"),
    ("near/longer", "city", "Bergen", "Bergen Old Town"),
    ("near/shorter", "city", "Bergen Old Town", "Bergen"),
    ("near/word_order", "route", "Oslo to Bergen", "Bergen to Oslo"),
    ("near/word_order", "rule", "red over blue", "blue over red"),
)
"""(kind, name of an argument, its value, a near miss)"""


def near(turn: Turn) -> Iterator[Probe]:
    action = turn.expected_action
    for i, call in enumerate(action.tool_calls):
        arguments = arguments_of(call) or {}
        for path, value in leaves(arguments):
            counts = not is_comment(arguments, path[0])
            for kind, new in _close(value):
                if new != value:
                    # In a name that is not an identifier, ignoring case may be right.
                    certain = counts and (kind != "case" or _IDENTIFIER.search(str(path[-1])) is not None)
                    yield attack_on(f"near/{kind}", action, i, replaced(arguments, path, new), path[0], certain)
    first = arguments_of(action.tool_calls[0]) if action.tool_calls else None
    if first is not None:
        for kind, name, value, new in _STAND_INS:
            yield attack_instead(kind, action, {**first, name: value}, {**first, name: new}, name)


def _close(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int) and abs(value) >= 20:
        yield "number", value + max(1, abs(value) // 25)
    elif isinstance(value, float) and value:
        yield "number", round(value * 1.04, 6)
    elif isinstance(value, str) and value:
        yield from _close_texts(value)


def _close_texts(text: str) -> Iterator[tuple[str, str]]:
    if _NUMBER.match(text) and float(text) >= 20:
        yield "number", str(int(float(text) * 1.05)) if "." not in text else f"{float(text) * 1.04:.2f}"
    if is_free_text(text) or "\n" in text:
        return  # a comma more or less may be right there
    yield "punctuation", _STRIPPED.sub("", text)
    if _CODE.match(text):
        yield "case", text.swapcase()
    yield "longer", f"{text} x"
    if len(text) > 3:
        yield "shorter", text[:-1]
    words = text.split()
    if len(words) > 1:
        yield "word_order", " ".join(reversed(words))
