"""English turns of phrase that mean the same for sure, each rewritten as one of them."""

from __future__ import annotations

import re

from pivotrl.judging.messages.word_lists import NUMBERS, words

_MONTH = r"(?:(?:Jan|Febr)uary|March|April|May|June|July|August|(?:Septem|Octo|Novem|Decem)ber)"
_DAY_FIRST = re.compile(rf"(?<![\w\-\u2013/.,:])([0-9]{{1,2}})(?:st|nd|rd|th)? ({_MONTH}),? ([0-9]{{4}})\b")
_DAY_ALONE = re.compile(
    rf"\b(on|by|until|till|from|before|after|since) ([0-9]{{1,2}})(?:st|nd|rd|th)? ({_MONTH})\b(?!,? [0-9])"
)
_DOZEN = re.compile(r"(?<!half )\ba dozen\b(?! (?:or|of|times))", re.IGNORECASE)
_HOURS = {"one": "1"} | {word: figure for word, figure in NUMBERS.items() if figure in map(str, range(2, 13))}
del _HOURS["twice"]
_PAST = re.compile(rf"\b(half|(?:a )?quarter) past ({'|'.join(_HOURS)}|[1-9]|1[0-2])\b(?! of\b)", re.IGNORECASE)
_BEGINS = r"(?:(?<=[.!?\n] )|(?<=\n)|\A)"
_ASKED = re.compile(rf"{_BEGINS}What(?:'s| is) (your [a-z][a-z ]{{1,60}})\?(?=\s|\Z)")
_ATTRIBUTES = "|".join(
    words("price value name address number status balance cost total size length area population capital temperature")
)
_OF = re.compile(rf"{_BEGINS}The ((?:[a-z]+ ){{0,3}}(?:{_ATTRIBUTES})) of ([A-Z][A-Za-z]{{1,30}}) (is|was) ")
"""What a thing has, not what somebody does or suffers: *the fear of Anna* is not *Anna's fear*."""


def reworded(text: str) -> str:
    """``3 May 2026`` is ``May 3, 2026``, ``on 3 May`` ``on May 3``, ``a dozen`` 12, ``half past nine`` 9:30, ``What is
    your name?`` ``Tell me your name.``, and ``The price of Apple is`` ``Apple's price is``."""
    text = _DAY_ALONE.sub(r"\1 \3 \2", _DAY_FIRST.sub(r"\2 \1, \3", text))
    text = _PAST.sub(_clock, _DOZEN.sub("12", text))
    text = _ASKED.sub(r"Tell me \1.", text)
    return _OF.sub(r"\2's \1 \3 ", text)


def _clock(found: re.Match[str]) -> str:
    minutes = "30" if found[1].lower() == "half" else "15"
    return f"{_HOURS.get(found[2].lower(), found[2])}:{minutes}"
