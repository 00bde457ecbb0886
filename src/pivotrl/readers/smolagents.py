"""Runs of smolagents: the steps of an agent's memory (``agent.memory.get_full_steps()``), a list, or under ``steps``.

What the model wrote is ``model_output``. A code agent writes its code as text; the call of ``python_interpreter``
beside it is the framework's. What the agent saw of its last step is worded by the framework: ``context_not_logged``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import one_message
from pivotrl.reading.conversation import conversation
from pivotrl.reading.conversation_files import are_messages, read_rows
from pivotrl.reading.fields import as_object, each, identifier, member, optional
from pivotrl.reading.formats.framework_messages import Chat, call, shown
from pivotrl.records import Loss, Refusal, Trajectory

_INTERPRETER = "python_interpreter"
_ROLES = {"tool-call": None, "tool-response": "user", "tool_call": None, "tool_response": "user"}
_KEYS = {"messages", "steps", "id", "task_id", "reward", "score"}


def recognises(head: Sequence[Any]) -> bool:
    """Steps with what the model wrote, or rows that hold a list of them."""
    return are_messages(head, _is_step) or any(_steps(value) for value in head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per run. Steps whose output could not be parsed are excluded, as are plans.

    Raises:
        InputError: the file cannot be read.
    """
    return read_rows(path, _is_step, _trajectory)


def _trajectory(row: Chat, name: str) -> Trajectory:
    steps = each("steps", optional(row, "steps", list) or member(row, "messages", list), as_object)
    asked = next(filter(None, (optional(step, "model_input_messages", list) for step in steps)), [])
    tasks = [step for step in steps if step.get("task")]
    chats = [chat for chat in each("model_input_messages", asked, _asked) if chat["role"] is not None]
    if not any(chat["role"] == "user" for chat in chats):
        chats.append(_user(f"New task:\n{tasks[0]['task'] if tasks else ''}", tasks and tasks[0].get("task_images")))
    barred: dict[int, str] = {}
    for step in steps:
        if any(step is task for task in tasks[1:]):
            chats.append(_user(f"New task:\n{step['task']}", step.get("task_images")))
        elif isinstance(step.get("plan"), str):
            barred[len(chats)] = "context_differs"
            chats.append({"role": "assistant", "content": step["plan"]})
        elif "step_number" in step:
            error = optional(step, "error", dict)
            if error and "Parsing" in str(error.get("type")):
                barred[len(chats)] = "unparsable_action"
            chats += _acted(step, error)
    while chats and chats[-1]["role"] != "assistant":
        chats.pop()

    return conversation(
        row,
        name,
        chats,
        one_message,
        barred=barred,
        foreign={},
        losses=(Loss(code="context_not_logged"), Loss(code="tools_not_logged")),
    )


def _asked(item: Any) -> Chat:
    row = as_object(item)
    role = member(row, "role", str)
    return {"role": _ROLES.get(role, role), "content": row.get("content")}


def _acted(step: Chat, error: Chat | None) -> list[Chat]:
    """What the model did in a step, and what it saw of it afterwards."""
    calls = [as_object(made) for made in optional(step, "tool_calls", list) or []]
    own = [made for made in calls if (optional(made, "function", dict) or {}).get("name") != _INTERPRETER]
    answer: Chat = {"role": "assistant", "content": optional(step, "model_output", str)}
    if own:
        answer["tool_calls"] = [_call(made) for made in own]
    seen = []
    if step.get("observations") is not None:
        seen.append(f"Observation:\n{shown(step['observations'])}")
    if error:
        seen.append(f"Error:\n{shown(error.get('message'))}")
    pictures = step.get("observations_images")
    if not seen and not pictures:
        return [answer]
    shown_next = _user("\n".join(seen), pictures)
    if own and len(own) == 1:
        return [answer, {**shown_next, "role": "tool", "tool_call_id": identifier(own[0], "id")}]
    return [answer, shown_next]


def _user(text: str, pictures: Any) -> Chat:
    """What the agent is shown, with as many pictures."""
    count = len(pictures) if isinstance(pictures, list) else 0
    parts = [{"type": "text", "text": text}, *([{"type": "image"}] * count)]
    return {"role": "user", "content": parts if count else text}


def _call(made: Chat) -> Chat:
    function = member(made, "function", dict)
    return call(member(function, "name", str), function.get("arguments"), identifier(made, "id"))


def _steps(value: Any) -> bool:
    items = value.get("steps") if isinstance(value, dict) else value
    return (
        isinstance(items, list) and bool(items) and all(map(_is_step, items)) and any("step_number" in i for i in items)
    )


def _is_step(item: Any) -> bool:
    if not isinstance(item, dict):
        return False
    return {"step_number", "model_output"} <= item.keys() or {"task", "task_images"} <= item.keys() or "plan" in item
