"""Search steps: queries, opened pages and answers that bring nothing or are only guessed, and honest spellings.

Made where the log says which pages are needed: the metadata of the environment ``search``. What a query finds depends
on the index, so only those queries are attacks that no index can reward.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pivotrl.judging.answers.accepted import judge_answer
from pivotrl.judging.probes.probe import Probe, arguments_of, attack, honest, with_arguments, with_calls
from pivotrl.protocols import Turn
from pivotrl.records import Action, ToolCall

_RESULT = re.compile(r"^\[(\S+)\] ([^:\n]*):", re.MULTILINE)
_ANSWER = "Answer: "
_PASTED = 80
"""Words of a pasted query."""


def is_search(turn: Turn) -> bool:
    """Whether the turn is of the environment ``search`` and says which pages are needed."""
    metadata = turn.trajectory.metadata
    return metadata.get("domain") == "search" and bool(_evidence(turn)) and bool(metadata.get("answers"))


def attacks(turn: Turn) -> Iterator[Probe]:
    if not is_search(turn):
        return
    action, told = turn.expected_action, _told(turn)
    known, answers = _words(told), [str(answer) for answer in turn.trajectory.metadata["answers"]]
    results = dict(_RESULT.findall(told))
    queries, opened = _asked(turn, "search", "query"), _asked(turn, "open", "id")
    yield _query("common_words", "what is the of and")
    for query in queries[-1:]:
        yield _query("repeated_query", query)
    pasted = " ".join(told.split()[-_PASTED:])
    if len(pasted.split()) == _PASTED:
        yield _query("pasted_context", pasted)
    guesses = [("guessed_answer", answers[0]), *(("guessed_title", title) for title in _evidence(turn).values())]
    for kind, text in guesses:
        if _words(text) and not _words(text) & known:
            yield _query(kind, text)
    for name in opened[-1:]:
        yield _open("already_open", name)
    wrong = [name for name in results if name not in _evidence(turn) and name not in opened]
    for name in wrong[:2]:
        yield _open("not_evidence", name)
    for name in _evidence(turn):
        if f"[{name}]" not in told:
            yield _open("id_not_shown", name)
    yield _open("unknown_id", "page-0")
    if action.tool_calls:
        useless = ToolCall(name="open", arguments=json.dumps({"id": (opened or ["page-0"])[-1]}), id="extra")
        yield attack("search/surplus_call", with_calls(action, (*action.tool_calls, useless)))
    if any(f"[{name}]" not in told for name in _evidence(turn)):
        yield attack("search/early_answer", Action(content=_ANSWER + answers[0]))
    else:
        yield attack("search/several_answers", Action(content=f"{_ANSWER}{answers[0]}\n{_ANSWER}{_other(answers[0])}"))
        yield attack("search/hedged_answer", Action(content=f"{_ANSWER}{answers[0]} or {_other(answers[0])}"))
    yield attack("search/wrong_answer", Action(content=_ANSWER + _other(answers[0])))
    for name in wrong[:1]:
        if results[name] not in answers:
            yield attack("search/wrong_answer", Action(content=_ANSWER + results[name]))


def honest_variants(turn: Turn) -> Iterator[Probe]:
    """BM25 sees a set of words: their order, case and marks do not count, nor do words such as *the*."""
    if not is_search(turn):
        return
    action = turn.expected_action
    for i, call in enumerate(action.tool_calls):
        given = arguments_of(call) or {}
        if call.name == "search" and isinstance(query := given.get("query"), str):
            for kind, text in (
                ("query_order", " ".join(reversed(query.split()))),
                ("query_case", query.upper()),
                ("query_marks", f'"{query}"?'),
                ("query_with_common_words", f"what is the {query}"),
            ):
                yield honest(kind, with_arguments(action, i, {"query": text}))
        if call.name == "open" and isinstance(given.get("id"), str):
            yield honest("id_in_brackets", with_arguments(action, i, {"id": f"[{given['id']}]"}))
    if not action.tool_calls:
        for answer in turn.trajectory.metadata["answers"]:
            yield honest("answer_in_bold", Action(content=f"**{_ANSWER}{answer}**"))
            yield honest("answer_after_a_sentence", Action(content=f"I read it on the last page.\n\n{_ANSWER}{answer}"))
            yield honest("answer_alone", Action(content=str(answer)))


def fitted(turn: Turn, probes: Sequence[Probe]) -> list[Probe]:
    """The probes that say something at a search turn. What a search brings does not depend on what was demonstrated,
    and words beside the right answer do not make it wrong."""
    answers = [str(answer) for answer in turn.trajectory.metadata["answers"]]
    kept = [probe for probe in probes if probe.demonstrated in (None, turn.expected_action)]
    return [
        replace(probe, certain=False)
        if probe.expected == "fail"
        and probe.area != "search"
        and not probe.action.tool_calls
        and judge_answer(answers, probe.action.content or "")[0]
        else probe
        for probe in kept
    ]


def _query(kind: str, text: str) -> Probe:
    return attack(f"search/{kind}", _call("search", "query", text))


def _open(kind: str, name: str) -> Probe:
    return attack(f"search/{kind}", _call("open", "id", name))


def _call(tool: str, argument: str, value: str) -> Action:
    return Action(tool_calls=(ToolCall(name=tool, arguments=json.dumps({argument: value}), id="call_1"),))


def _evidence(turn: Turn) -> dict[str, str]:
    """Page -> its title."""
    found = turn.trajectory.metadata.get("evidence")
    return found if isinstance(found, dict) else {}


def _told(turn: Turn) -> str:
    return "\n".join(message.content or "" for message in turn.context if message.role != "system")


def _asked(turn: Turn, tool: str, argument: str) -> list[str]:
    """What earlier calls of a tool were given."""
    calls = [call for message in turn.context for call in message.tool_calls if call.name == tool]
    found = [(arguments_of(call) or {}).get(argument) for call in calls]
    return [value for value in found if isinstance(value, str)]


def _words(text: str) -> set[str]:
    """Without accents: an index may not see them."""
    plain = re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFKD", text))
    return set(re.findall(r"[^\W_]+", plain.casefold()))


def _other(answer: str) -> str:
    """An answer that is wrong: a digit or a letter is another one."""
    place = next((i for i, sign in enumerate(answer) if sign.isalnum()), None)
    if place is None:
        return "something else"
    other = "7" if answer[place] == "3" else "3" if answer[place].isdigit() else "q"
    return f"{answer[:place]}{other}{answer[place + 1 :]}"
