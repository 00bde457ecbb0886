"""Whether a message says the same as the demonstrated one, judged without understanding it.

A message passes when it consists of the same words, up to what surely does not change what they say
(:mod:`pivotrl.judging.messages.same_words`). It fails when the evidence is against it: it leaves out a number, amount,
date, identifier, address or quoted string, makes one up, or does not ask where the expert asked. In between words
cannot decide: there is no verdict, and a judge may be asked. The rules are made for English in Latin letters. In any
other language or script a message passes only if it is the same text, and else gets no verdict.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from pivotrl.judging.arguments.values import compare_json
from pivotrl.judging.messages.english import same_in_english
from pivotrl.judging.messages.facts import HARD, Fact, Facts, facts
from pivotrl.judging.messages.free_text import normalised, opposed, same_text
from pivotrl.judging.messages.languages import foreign_to_rules, is_english
from pivotrl.judging.messages.notations import same_up_to_notation
from pivotrl.judging.messages.same_words import same_but_spelling, says_nothing
from pivotrl.judging.messages.word_lists import OTHER_NUMBERS
from pivotrl.records import Message, Verdict
from pivotrl.records.strict_json import parse_json

_LEAST_COPIED = 40
"""Characters of a message of the context that are surely not repeated by chance."""

_LIST_NUMBER = re.compile(r"^([ \t]{0,20})[0-9]{1,2}[.)][ \t]", re.MULTILINE)
_FULL_NAME = re.compile(r"\b([A-Z][a-z]+)(?= ([A-Z][a-z]+))")
_SENTENCE_ENDS = re.compile(r"([.!?\n])")
_COURTESY = re.compile(r"\b(?:else|further|assist|help)\b", re.IGNORECASE)
_REQUEST = re.compile(r"\?|\b(?:please|provide|confirm|share|specify|let me know|tell me|need)\b", re.IGNORECASE)
_INABILITY = re.compile(
    r"\bnon-|can ?not|unable|n['\u2019]t|not (?:able|possible|allowed|permitted)|unfortunately|never", re.I
)
_REFUSAL = re.compile(
    r"\b(?:i|we)(?:['\u2019](?:m|re)| am| are)? (?:sorry,? (?:but )?i )?"
    r"(?:can ?not|can['\u2019]?t|won['\u2019]?t|unable|not able|must decline|refuse|do not feel comfortable)\b"
    r"|\bas an? (?:ai|language model)\b|\bagainst my (?:guidelines|policy|programming)\b",
    re.IGNORECASE,
)


def compare_messages(expected: str, actual: str, context: Sequence[Message]) -> Verdict:
    """The verdict on a message where another one was demonstrated. Both are not empty.

    Code in fences must be the same, code for code. Where one of the two is a JSON object the other must be one too;
    there is no verdict when they differ, for what their texts mean is not known.

    Args:
        context: what the agent saw; facts from there are not made up, and its messages are not to be copied.

    Reasons: match, same_words; refusal, different_code, different_structure, repeats_earlier_message,
    copies_context, message_says_nothing, message_omits, message_makes_up, message_asks_nothing; without a verdict
    message_undecided (``details["why"]``): among them ``script`` and ``language``, which name the one that no rule
    is made for.
    """
    if same_text(expected, actual):
        return Verdict.passed()
    if (structured := _compare_json_texts(expected, actual)) is not None:
        return structured
    if _fenced(expected) != _fenced(actual):
        return Verdict.failed("different_code")
    if same_but_spelling(expected, actual):
        return Verdict.passed()
    if reason := _copied(actual, context):
        return Verdict.failed(reason)
    if says_nothing(actual) and not says_nothing(expected):
        return Verdict.failed("message_says_nothing")
    if foreign := foreign_to_rules(expected, actual):
        return Verdict.passed("same_words") if same_up_to_notation(expected, actual) else _undecided(**foreign)
    if same_in_english(expected, actual) and is_english(f"{expected}\n{actual}"):
        return Verdict.passed("same_words")
    if _REFUSAL.search(actual) and not _INABILITY.search(expected):
        return _undecided("refuses_and_asks") if _asks(actual) else Verdict.failed("refusal")
    wanted, given = (facts(_LIST_NUMBER.sub(r"\1", text)) for text in (expected, actual))
    missing = _hard(wanted) - set(given.found) | _quotes_not_in(actual, wanted)
    if "one" in given.words:
        missing.discard(("number", "1"))  # it may be meant: then the order of facts leaves it open
    counted = _otherwise_counted(wanted, given)
    if missing and counted and all(kind in _COUNTED for kind, _ in missing):
        return _undecided("number_words", words=counted)
    if missing:
        return Verdict.failed("message_omits", fact=_shown(missing))
    years = set(_of(wanted, "year"))
    added = _hard(given) - set(wanted.found) | {("year", year) for year in _of(given, "year") if year not in years}
    if added:
        known = _known(context)
        if made_up := {fact for fact in added - known if years or fact[0] != "year"}:
            if counted and all(kind in _COUNTED for kind, _ in made_up):
                return _undecided("number_words", words=counted)
            return Verdict.failed("message_makes_up", fact=_shown(made_up))
        if added - known or any(kind != "year" for kind, _ in added) or years:
            return _undecided("adds_facts", fact=_shown(added))
    if _asks(expected) and not _REQUEST.search(actual):
        return Verdict.failed("message_asks_nothing")
    if _quotes_not_in(expected, given):
        return _undecided("adds_quotes")
    if _full_names(actual) - _full_names(expected):
        return _undecided("names")
    if _breaks_off(actual) and not _breaks_off(expected):
        return _undecided("breaks_off")
    if why := _doubt(wanted, given):
        return _undecided(why)
    differing = Counter(wanted.words) - Counter(given.words) + (Counter(given.words) - Counter(wanted.words))
    return _undecided("other_words", words=sorted(differing)[:5])


def _undecided(why: str, **details: Any) -> Verdict:
    return Verdict.unknown("message_undecided", why=why, **details)


def _doubt(wanted: Facts, given: Facts) -> str | None:
    """Why two messages with the same hard facts may yet say different things."""
    if given.hidden - wanted.hidden:
        return "hidden_characters"
    if Counter(_of(wanted, "negation")) != Counter(_of(given, "negation")):
        return "negation"
    for kind, why in (("pole", "opposites"), ("capitals", "names"), ("term", "names")):
        if set(_of(wanted, kind)) != set(_of(given, kind)):
            return why
    mine, theirs = set(_of(wanted, "name")), set(_of(given, "name"))
    if mine - theirs - set(given.words) or theirs - mine - set(wanted.words):
        return "names"
    if not _same_order(wanted, given) or opposed(wanted, given):
        return "order"
    return None


_COUNTED = frozenset({"number", "moment"})


def _otherwise_counted(one: Facts, other: Facts) -> list[str]:
    """The number words that only one of two texts has and that are not worked out: *a dozen*, *half past nine*."""
    mine, theirs = (Counter(word for word in found.words if word in OTHER_NUMBERS) for found in (one, other))
    return sorted((mine - theirs) + (theirs - mine))


def _hard(found: Facts) -> set[Fact]:
    return {fact for fact in found.found if fact[0] in HARD and fact[0] not in ("year", "quote")}


def _quotes_not_in(text: str, found: Facts) -> set[Fact]:
    said = normalised(text)
    return {("quote", quoted) for quoted in _of(found, "quote") if quoted not in said}


def _of(found: Facts, kind: str) -> Iterator[str]:
    return (value for name, value in found.found if name == kind)


def _full_names(text: str) -> set[str]:
    """Neighbouring words with capitals: of two passengers, whose surname is whose."""
    return {f"{found[1]} {found[2]}" for found in _FULL_NAME.finditer(text)}


def _same_order(one: Facts, other: Facts) -> bool:
    """Whether the facts come in the same order; where one text repeats more of them, the order of their first times."""
    unordered = ("negation", "pole", "year", "quote", "money", "name")
    mine, theirs = ([fact for fact in found.found if fact[0] not in unordered] for found in (one, other))
    if Counter(mine) != Counter(theirs):
        mine, theirs = list(dict.fromkeys(mine)), list(dict.fromkeys(theirs))
    return mine == theirs


def _known(context: Sequence[Message]) -> set[Fact]:
    known: set[Fact] = set()
    for message in context:
        for text in (message.content, *(call.arguments for call in message.tool_calls)):
            if text:
                known.update(facts(text).found)
    return known


def _shown(some: set[Fact]) -> str:
    kind, value = min(some, key=lambda fact: (fact[0] == "money", fact))
    return f"{kind} {value[:60]}"


def _breaks_off(text: str) -> bool:
    last = text.rstrip(' \t\n*_)"\u201d')[-1:]
    return last.isalnum() or last in {",", ";", "-"}


def _asks(text: str) -> bool:
    """Whether a question is asked that is more than a courtesy at the end."""
    parts = _SENTENCE_ENDS.split(text)
    return any(end == "?" and not _COURTESY.search(said) for said, end in zip(parts[::2], parts[1::2], strict=False))


def _copied(actual: str, context: Sequence[Message]) -> str | None:
    text = normalised(actual)
    for message in context:
        earlier = normalised(message.content or "")
        if earlier == text and (message.role == "assistant" or len(text) >= _LEAST_COPIED):
            return "repeats_earlier_message" if message.role == "assistant" else "copies_context"
    return None


def _fenced(text: str) -> list[str]:
    """The code between lines of three backticks, surrounding blanks apart."""
    blocks: list[list[str]] = []
    inside = False
    for line in text.split("\n"):
        if line.lstrip().startswith("```"):
            inside = not inside
            if inside:
                blocks.append([])
        elif inside:
            blocks[-1].append(line)
    return ["\n".join(lines).strip() for lines in blocks]


def _compare_json_texts(expected: str, actual: str) -> Verdict | None:
    """None when neither message is a JSON object."""
    wanted, given = _json_object(expected), _json_object(actual)
    if wanted is None and given is None:
        return None
    if wanted is None or given is None:
        return Verdict.failed("different_structure")
    if compare_json(wanted, given) is None:
        return Verdict.passed()
    return _undecided("json_differs")


def _json_object(text: str) -> dict[str, Any] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = parse_json(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
