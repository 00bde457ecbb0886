"""Chat logs in the style of OpenAI's chat completions, one trajectory per row.

A row holds ``messages`` (or ``trajectory``, or another list of messages, also inside an object), ``prompt`` and
``completion`` as TRL and verifiers write them, ``chosen`` and ``rejected``, or ART's ``messages_and_choices``; a row
may also be the list itself. It may also have ``tools``, ``system``, the run's id, the task's (``task_id``,
``instance_id``, ...) and the outcome (``reward``, ``score``, ``resolved``, ``success``, ...). Other keys are kept as
``metadata["foreign"]``. Lists may be JSON text, as tables hold them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import chat_messages, declared_tools, task_hash
from pivotrl.reading.conversation_files import are_messages, are_rows, read_rows
from pivotrl.reading.fields import json_text
from pivotrl.reading.formats.chat_rows import LISTS, chat_row, decoded, is_message, lists_in, message_list
from pivotrl.reading.row_facts import outcome, run_name, task_name
from pivotrl.reading.text_calls import acts_in_text, may_act, with_calls
from pivotrl.reading.thoughts import is_unclosed
from pivotrl.records import Loss, Refusal, Tool, Trajectory

_TOOLS = ("tools", "functions", "tool_defs", "tool_definitions", "tool_schemas", "available_tools")
_KEYS = {
    *_TOOLS,
    *("system", "id", "trajectory_id", "traj_id", "task_id", "example_id", "instance_id", "reward", "score"),
}
_GROUPS = ("trajectories", "rollouts", "episodes", "runs", "attempts", "samples")
"""Lists of runs of one task in one row."""
_PAIRS = (("prompt", "response"), ("instruction", "output"), ("instruction", "response"))
"""Texts of a single turn under other names than prompt and completion."""
_SIDES = (("chosen", "rejected"), ("preferred_output", "non_preferred_output"))
_ELSEWHERE = {
    *("trajectory_format", "responses_create_params", "fncall_messages", "termination_reason", "simulations"),
    *("schema_version", "traj", "events", "response", "scores", "request"),
}
"""Keys of other formats whose rows have messages too."""


def recognises(head: Sequence[Any]) -> bool:
    """Rows of messages with OpenAI's roles and no calls or parts that another format writes into them."""
    return are_rows(head, _is_row)


def resembles(head: Sequence[Any]) -> bool:
    """Messages, lists of them, or rows with one under any name; tried if no reader recognises the file."""
    if are_messages(head, is_message):
        return True
    rows = [value for value in head if isinstance(value, dict)]
    found = [row for row in rows if any(lists_in(row)) or _is_pair(row) or _group(row)]
    lists = [value for value in head if isinstance(value, list) and message_list(value)]
    return 2 * (len(found) + len(lists)) > len(head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per row, or one for the whole file if its values are messages.

    Without an id, a trajectory is named after its file and line; without a task id, runs that begin with the same
    system and user messages count as one task. The assistant's messages in a ``prompt``, and turns that the log
    excludes from training (``weight: 0``, ``loss: false``, ...), are context.

    Raises:
        InputError: the file cannot be read.
    """
    return read_rows(path, is_message, _trajectories)


def _trajectories(row: dict[str, Any], name: str) -> list[Trajectory]:
    """The trajectory of a row, or those of a row that groups several runs of its task."""
    group = _group(row)
    if not group:
        return [_trajectory(row, name)]
    about = {key: value for key, value in row.items() if not isinstance(value, list)}
    rows = [{**about, **run} for run in group]
    made = [_trajectory(run, f"{name}-{number}") for number, run in enumerate(rows, start=1)]
    if any(task_name(run) for run in rows):
        return made
    return [run.model_copy(update={"task_id": made[0].task_id}) for run in made]


def _group(row: dict[str, Any]) -> list[dict[str, Any]]:
    runs: list[Any] = next(
        (row[key] for key in _GROUPS if isinstance(row.get(key), list) and "messages" not in row), []
    )
    is_group = all(isinstance(run, dict) and (_is_row(run) or any(lists_in(run))) for run in runs)
    return runs if is_group else []


def _is_pair(row: dict[str, Any]) -> bool:
    return any(isinstance(row.get(a), str) and isinstance(row.get(b), str) for a, b in _PAIRS)


def _trajectory(row: dict[str, Any], name: str) -> Trajectory:
    found = chat_row(row)
    losses: list[Loss] = []
    messages = chat_messages(found.items, losses)
    turns = [i for i, message in enumerate(messages) if message.role == "assistant"]
    excluded = {i: found.excluded[i] for i in turns if i in found.excluded}
    tools = _tools(row, losses)
    if may_act([messages[i] for i in turns]):
        excluded |= {i: "truncated" for i in turns if is_unclosed(messages[i].content or "")}
        if (written := with_calls(messages, tools)) is not None:
            losses += [Loss(code="text_mode", message=i) for i in turns if i in written.excluded]
            messages, tools, excluded = written.messages, written.tools, written.excluded | excluded
            losses += written.losses
        num_others = sum(1 for i in turns if acts_in_text(messages[i]) and i not in excluded)
        losses += [Loss(code="text_mode", detail=f"{num_others} turns")] if num_others else []
    foreign = {key: value for key, value in row.items() if key not in _KEYS and key not in found.used}
    return Trajectory(
        id=run_name(row) or name,
        task_id=task_name(row) or task_hash(messages),
        messages=messages,
        tools=tools,
        reward=outcome(row),
        excluded=excluded,
        metadata={"foreign": foreign} if foreign else {},
        losses=tuple(losses),
    )


def _tools(row: dict[str, Any], losses: list[Loss]) -> tuple[Tool, ...]:
    """Rows of one log declare the same tools: known ones are not decoded again."""
    holders = (row, *(row[key] for key in ("metadata", "input") if isinstance(row.get(key), dict)))
    value = next((holder[key] for holder in holders for key in _TOOLS if holder.get(key)), None)
    if value is None or _are_made(value):
        return ()
    if isinstance(value, list) and all(isinstance(item, str) and not item.lstrip().startswith("{") for item in value):
        losses.append(Loss(code="tools_not_logged", detail="only their names"))
        return ()
    return _parsed(value if isinstance(value, str) else json.dumps(value))


def _are_made(value: Any) -> bool:
    """Whether ``tools`` lists the calls that were made, as Agno's runs do."""
    return isinstance(value, list) and all(isinstance(item, dict) and "tool_call_id" in item for item in value)


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> tuple[Tool, ...]:
    return declared_tools(_decoded_tools(json_text("tools", text)))


def _decoded_tools(value: Any) -> Any:
    """Tools whose schemas, or parts of them, may be JSON text: rows of a table differ in them."""
    value = decoded(value)
    if isinstance(value, list):
        return [_decoded_tools(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _decoded_tools(item) if key in ("function", "parameters", "properties") else item
        for key, item in value.items()
    }


def _is_row(value: Any) -> bool:
    if not isinstance(value, dict) or _ELSEWHERE & value.keys():
        return False
    if isinstance(value.get("completion"), str):
        return isinstance(value.get("prompt"), str | list)
    for good, bad in _SIDES:
        if value.get(good) is not None and value.get(bad) is not None:
            return isinstance(value[good], str) or message_list(value[good]) is not None
    items = next((value[key] for key in ("messages", "completion", *LISTS[1:]) if value.get(key) is not None), None)
    if isinstance(items, str):
        return message_list(items) is not None
    return isinstance(items, list) and bool(items) and all(map(_is_only_chat, items))


def _is_only_chat(item: Any) -> bool:
    """ShareGPT's readers know calls between tags."""
    if not is_message(item):
        return False
    is_said = isinstance(item, dict) and item.get("role") == "assistant" and isinstance(item.get("content"), str)
    return not (is_said and "<tool_call>" in item["content"])
