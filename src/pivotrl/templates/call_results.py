"""Which call each tool result of a conversation answers, and the order that a prompt without ids must show them in."""

from __future__ import annotations

from collections.abc import Sequence

from pivotrl.protocols import NotRenderable
from pivotrl.records import Message, ToolCall

Place = tuple[int, int]
"""A tool call: the index of its message, and its number there."""


def answered_calls(context: Sequence[Message]) -> dict[int, Place]:
    """Index of each tool result -> the call that it answers, if known.

    It is one of the calls that the assistant made last, in one message or in several at once. A result answers the
    first open call of its id; one without an id, the first call that no other result answers. A further result of an
    answered id belongs to the same call.
    """
    found: dict[int, Place] = {}
    for places, results in _rounds(context):
        answers = _matched(context, places, results)
        found |= {i: places[number] for i, number in zip(results, answers, strict=True) if number is not None}
    return found


def in_call_order(context: Sequence[Message]) -> list[Message]:
    """The conversation with the results of parallel calls in the order of the calls, for a prompt that shows no ids.

    Raises:
        NotRenderable: the results of parallel calls would be shown at other calls: one answers an unknown call, or an
            earlier call has none.
    """
    ordered = list(context)
    for places, results in _rounds(context):
        if len(places) < 2 or not results:
            continue
        answers = _matched(context, places, results)
        if None in answers and any(_call(context, place).id is not None for place in places):
            index = results[answers.index(None)]
            raise NotRenderable(
                f"messages[{index}] answers the call {context[index].tool_call_id!r}, which is none of the "
                f"{len(places)} before it, and the prompt shows no ids"
            )
        known = {number for number in answers if number is not None}
        if known != set(range(len(known))):
            raise NotRenderable(
                f"messages[{places[0][0]}] makes parallel calls; a later one has a result while an earlier one has "
                "none; the prompt shows no ids"
            )
        numbers = [len(places) if number is None else number for number in answers]
        by_call = sorted(zip(numbers, results, strict=True))
        for place, (_, index) in zip(results, by_call, strict=True):
            ordered[place] = context[index]
    return ordered


def _rounds(context: Sequence[Message]) -> list[tuple[list[Place], list[int]]]:
    """(the calls of assistant messages that follow each other, the indices of the results before the next ones)."""
    rounds: list[tuple[list[Place], list[int]]] = [([], [])]
    for index, message in enumerate(context):
        if message.role == "assistant":
            if index == 0 or context[index - 1].role != "assistant":
                rounds.append(([], []))
            rounds[-1][0].extend((index, number) for number in range(len(message.tool_calls)))
        elif message.role == "tool":
            rounds[-1][1].append(index)
    return rounds


def _call(context: Sequence[Message], place: Place) -> ToolCall:
    return context[place[0]].tool_calls[place[1]]


def _matched(context: Sequence[Message], places: Sequence[Place], results: Sequence[int]) -> list[int | None]:
    """The number of the call that each result answers."""
    calls, ids = [_call(context, place) for place in places], [context[index].tool_call_id for index in results]
    answers: list[int | None] = []
    for name in ids:
        same = [number for number, call in enumerate(calls) if name is not None and call.id == name]
        still_open = [number for number in same if number not in answers]
        answers.append(next(iter(still_open or same), None))
    waiting = [number for number in range(len(calls)) if number not in answers]
    if not any(call.id is not None for call in calls):
        ids = [None] * len(ids)
    for place, name in enumerate(ids):
        if name is None and answers[place] is None and waiting:
            answers[place] = waiting.pop(0)
    return answers
