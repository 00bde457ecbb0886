"""Which call each tool result of a conversation answers, and the order that a prompt without ids must show them in."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from pivotrl.records import Message, ToolCall
from pivotrl.templates.control_tokens import NotRenderable

Place = tuple[int, int]
"""A tool call: the index of its message, and its number there."""


def answered_calls(context: Sequence[Message]) -> dict[int, Place]:
    """Index of each tool result -> the call of the assistant's last message that it answers, where that is known.

    A result answers the first open call of its id; one without an id, the first call that no other result answers.
    A further result of an answered id belongs to the same call.
    """
    found: dict[int, Place] = {}
    for begin, end in _rounds(context):
        results = _results(context, begin, end)
        answers = _matched(context[begin].tool_calls, [context[i].tool_call_id for i in results])
        found |= {i: (begin, number) for i, number in zip(results, answers, strict=True) if number is not None}
    return found


def in_call_order(context: Sequence[Message]) -> list[Message]:
    """The conversation with the results of parallel calls in the order of the calls, for a prompt that shows no ids.

    Raises:
        NotRenderable: the results of parallel calls would be shown at other calls: one answers an unknown call, or an
            earlier call has none.
    """
    ordered = list(context)
    for begin, end in _rounds(context):
        calls, results = context[begin].tool_calls, _results(context, begin, end)
        if len(calls) < 2 or not results:
            continue
        answers = _matched(calls, [context[i].tool_call_id for i in results])
        if None in answers and any(call.id is not None for call in calls):
            index = results[answers.index(None)]
            raise NotRenderable(
                f"messages[{index}] answers the call {context[index].tool_call_id!r}, which messages[{begin}] does not "
                "make, and the prompt shows no ids"
            )
        numbers = [len(calls) if number is None else number for number in answers]
        if set(numbers) - {len(calls)} != set(range(len(set(numbers) - {len(calls)}))):
            raise NotRenderable(
                f"messages[{begin}] makes parallel calls, and a later one has a result while an earlier one has none; "
                "the prompt shows no ids"
            )
        by_call = sorted(zip(numbers, results, strict=True))
        for place, (_, index) in zip(results, by_call, strict=True):
            ordered[place] = context[index]
    return ordered


def _results(context: Sequence[Message], begin: int, end: int) -> list[int]:
    return [index for index in range(begin, end) if context[index].role == "tool"]


def _rounds(context: Sequence[Message]) -> list[tuple[int, int]]:
    """(first, end) of the stretches that begin with an assistant's message, and of what stands before the first one."""
    begins = [0, *(i for i, message in enumerate(context) if message.role == "assistant" and i > 0), len(context)]
    return [(begin, end) for begin, end in itertools.pairwise(begins) if begin < end]


def _matched(calls: Sequence[ToolCall], ids: Sequence[str | None]) -> list[int | None]:
    """The number of the call that each result answers."""
    answers: list[int | None] = []
    for name in ids:
        same = [number for number, call in enumerate(calls) if name is not None and call.id == name]
        still_open = [number for number in same if number not in answers]
        answers.append((still_open or same or [None])[0])
    waiting = [number for number in range(len(calls)) if number not in answers]
    if not any(call.id is not None for call in calls):
        ids = [None] * len(ids)
    for place, name in enumerate(ids):
        if name is None and answers[place] is None and waiting:
            answers[place] = waiting.pop(0)
    return answers
