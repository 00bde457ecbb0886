"""Completion logs of OpenHands V0 (``log_completions``): one JSON file for each model call, with the whole request.

``{messages, response, args, kwargs{tools}, timestamp, cost}``, and where the model wrote its calls as text also
``fncall_messages`` and ``fncall_response``, in which they are tool calls again. A directory of such files becomes one
trajectory for each conversation, a single file one trajectory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.reading.chat_messages import chat_message, declared_tools, task_hash
from pivotrl.reading.fields import as_object, each, member, optional
from pivotrl.reading.formats.model_calls import Conversation, ModelCall, conversations
from pivotrl.reading.sources import any_of_first, file_refusal, load_document, refusal
from pivotrl.records import Loss, Message, Refusal, Trajectory

_NAME = re.compile(r".+-(\d{10,}(?:\.\d+)?)\.json\Z")
"""``<model>-<time>.json``."""
_EVALUATION = "llm_completions"
"""The folder where evaluations keep a folder of logs for each instance."""


def recognises(head: Sequence[Any]) -> bool:
    """A completion log, alone in its file."""
    return len(head) == 1 and _is_log(head[0])


def claims(path: Path) -> bool:
    """A directory that holds completion logs."""
    return path.is_dir() and any_of_first(_files(path), _is_log)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """The conversations of a directory, or the one that a file holds.

    Where the context was condensed a conversation ends and another begins, which only shows what was kept of the turns
    before. An answer that the harness refused is in no later request, and so in no trajectory; it is counted as a loss
    of code ``branch``. Calls of the harness's own, such as for a summary, have no system message and are refused.

    Raises:
        InputError: the path cannot be read.
    """
    calls: list[ModelCall] = []
    files = _files(path) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} contains no completion log; give the directory with files named <model>-<time>.json")
    for file in files:
        try:
            calls.append(_call(load_document(file), str(file)))
        except InputError as error:
            if not path.is_dir():
                raise
            yield file_refusal(file, error)
        except ValueError as error:
            yield refusal(str(file), error)
    name = path.name if path.is_dir() else path.name.removesuffix(".json")
    task = path.name if path.is_dir() and path.parent.name == _EVALUATION else None
    number = 0
    for conversation in conversations(calls):
        if len(calls) > 1 and conversation.messages[0].role != "system":
            yield Refusal(
                place=conversation.last.data["place"], reason="is a call of the harness itself, not of the agent"
            )
            continue
        number += 1
        yield _trajectory(conversation, name if number == 1 else f"{name}-{number}", task)


def _is_log(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and {"messages", "response", "kwargs", "timestamp", "cost"} <= value.keys()
        and isinstance(value["messages"], list)
    )


def _files(directory: Path) -> list[Path]:
    """The logs of a directory in the order of time, which stands in their names."""
    found = [(match, path) for path in directory.iterdir() if (match := _NAME.match(path.name))]
    return [path for _, path in sorted(found, key=lambda item: (float(item[0][1]), item[1].name))]


def _call(value: Any, place: str) -> ModelCall:
    row = as_object(value)
    is_text = row.get("fncall_messages") is not None
    losses: list[Loss] = []
    messages = []
    for index, item in enumerate(member(row, "fncall_messages" if is_text else "messages", list)):
        messages.append(_message(item, index, f"messages[{index}]", losses))
    response = member(row, "fncall_response" if is_text else "response", dict)
    choice = as_object(next(iter(member(response, "choices", list)), None))
    answer = _message(member(choice, "message", dict), len(messages), "response", losses)
    if answer.role != "assistant":
        raise ValueError("the response is not the assistant's")
    if not messages:
        raise ValueError("messages is empty")
    kwargs = optional(row, "kwargs", dict) or {}
    data = {
        "place": place,
        "tools": declared_tools(kwargs.get("tools")),
        "is_text": is_text,
        "model": response.get("model"),
    }
    barred = "truncated" if choice.get("finish_reason") == "length" else None
    return ModelCall(tuple(messages), answer, barred, tuple(losses), data)


def _message(item: Any, index: int, name: str, losses: list[Loss]) -> Message:
    found: list[Loss] = []
    message = each(name, [item], lambda value: chat_message(value, found))[0]
    losses += [loss.model_copy(update={"message": index}) for loss in found]
    return message


def _trajectory(conversation: Conversation, name: str, task: str | None) -> Trajectory:
    messages, data = conversation.messages, conversation.last.data
    losses = conversation.losses
    if data["is_text"]:
        losses.append(Loss(code="text_mode", detail="the model wrote its calls as text, which the harness parsed"))
    if not data["tools"]:
        losses.append(Loss(code="tools_not_logged"))
    return Trajectory(
        id=name,
        task_id=task or task_hash(messages),
        messages=messages,
        tools=data["tools"],
        excluded=conversation.excluded,
        metadata={"foreign": {"model": data["model"]}} if isinstance(data["model"], str) else {},
        losses=tuple(losses),
    )
