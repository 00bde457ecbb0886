"""The published files of BFCL multi-turn (package ``bfcl-eval``, Apache-2.0): tasks, ground truth, tool documents.

Only data files are read, so none of the package's model SDKs is needed.
"""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bfcl_eval
from bfcl_eval.constants.executable_backend_config import MULTI_TURN_FUNC_DOC_FILE_MAPPING

from pivotrl.protocols import InputError
from pivotrl.reading.tool_schemas import tools_of
from pivotrl.records import Message, Tool, ToolCall
from pivotrl.records.strict_json import parse_arguments

DATA = Path(bfcl_eval.__path__[0]) / "data"

CATEGORIES = ("base", "miss_param", "miss_func", "long_context")


@dataclass(frozen=True)
class Task:
    """One multi-turn entry with its ground truth."""

    id: str
    category: str
    requests: tuple[tuple[Message, ...], ...]
    """What the user says, request by request; nothing where withheld functions are released."""
    truth: tuple[tuple[str, ...], ...]
    """For each request the right calls, as Python text; none where the request cannot be fulfilled yet."""
    classes: tuple[str, ...]
    initial: dict[str, Any]
    """Class -> the scenario it starts with."""
    tools: tuple[Tool, ...]
    """The functions that the agent knows from the start."""
    released: dict[int, tuple[Tool, ...]]
    """Request -> the functions that the agent learns of with it (category ``miss_func``)."""


def load_tasks(
    category: str, skip: int = 0, first: int | None = None, tasks: Sequence[str] | None = None
) -> dict[str, Task]:
    """Tasks of a category by id, in the published order.

    Args:
        skip: leave out this many tasks at the start.
        first: take at most this many of the others.
        tasks: take these ids instead.

    Raises:
        InputError: there is no such category or task, or no task is left.
    """
    if category not in CATEGORIES:
        raise InputError(f"BFCL has no multi-turn category {category!r}; there are {', '.join(CATEGORIES)}")
    found = _category(category)
    if tasks is not None:
        if unknown := [task for task in tasks if task not in found]:
            raise InputError(f"BFCL {category} has no task {unknown[0]!r}; its tasks are {category_ids(category)}")
        return {task: found[task] for task in tasks}
    chosen = list(found)[skip : None if first is None else skip + first]
    if not chosen:
        raise InputError(f"BFCL {category} has {len(found)} tasks, so none is left after skip={skip}, first={first}")
    return {task: found[task] for task in chosen}


def load_task(task_id: str) -> Task | None:
    """The task of this id, of whatever category; None if there is none."""
    category = task_id.removeprefix("multi_turn_").rpartition("_")[0]
    return _category(category).get(task_id) if category in CATEGORIES else None


def category_ids(category: str) -> str:
    ids = list(_category(category))
    return f"{ids[0]} to {ids[-1]}"


def calls_in_text(text: str, parameters: Mapping[str, Sequence[str]]) -> tuple[ToolCall, ...] | None:
    """The calls that a text consists of, in the benchmark's spelling: ``[cd(folder="a"), ls()]`` or ``ls()``; None if
    it is anything else. Nothing is evaluated but literals.

    Args:
        parameters: function -> the names of its parameters, which stand for arguments without a name.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        nodes = tree.elts if isinstance(tree, ast.List | ast.Tuple) else [tree]
        return tuple(_call(node, parameters) for node in nodes) or None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def calls_as_text(calls: Sequence[ToolCall]) -> str:
    """``[cd(folder='a'), ls()]``, which :func:`calls_in_text` reads as the calls.

    Raises:
        ValueError: the arguments of one are not a JSON object.
    """
    return f"[{', '.join(map(_written, calls))}]"


def _written(call: ToolCall) -> str:
    arguments = (f"{name}={value!r}" for name, value in parse_arguments(call.arguments).items())
    return f"{call.name}({', '.join(arguments)})"


def _call(node: ast.expr, parameters: Mapping[str, Sequence[str]]) -> ToolCall:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ValueError("not a call by name")
    named = [(keyword.arg or "**", keyword.value) for keyword in node.keywords]
    names = (*parameters.get(node.func.id, ()), *(f"argument {number}" for number in range(1, len(node.args) + 1)))
    arguments = {name: _literal(value) for name, value in (*zip(names, node.args, strict=False), *named)}
    try:
        written = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):  # a set, infinity: not for JSON, so no function takes it
        written = ast.unparse(node)
    return ToolCall(name=node.func.id, arguments=written)


def _literal(node: ast.expr) -> object:
    if isinstance(node, ast.Name) and node.id in ("true", "false", "null"):
        return json.loads(node.id)
    return ast.literal_eval(node)


def irrelevance_items() -> Iterator[tuple[str, tuple[Message, ...], tuple[Tool, ...]]]:
    """(id, question, tools) of BFCL's 240 irrelevance items: none of the tools can help, so a call is wrong."""
    for row in _rows(DATA / "BFCL_v4_irrelevance.json"):
        yield row["id"], _messages(row["question"][0]), tuple(map(_tool, row["function"]))


@functools.cache
def _category(category: str) -> dict[str, Task]:
    name = f"BFCL_v4_multi_turn_{category}.json"
    answers = {row["id"]: row["ground_truth"] for row in _rows(DATA / "possible_answer" / name)}
    return {row["id"]: _task(category, row, answers[row["id"]]) for row in _rows(DATA / name)}


def _task(category: str, row: dict[str, Any], truth: list[list[str]]) -> Task:
    tools = {tool.name: tool for name in row["involved_classes"] for tool in documented(name)}
    released = {
        int(request): tuple(tools.pop(name) for name in names)
        for request, names in row.get("missed_function", {}).items()
    }
    return Task(
        id=row["id"],
        category=category,
        requests=tuple(map(_messages, row["question"])),
        truth=tuple(map(tuple, truth)),
        classes=tuple(row["involved_classes"]),
        initial=row["initial_config"],
        tools=tuple(tools.values()),
        released=released,
    )


@functools.cache
def documented(class_name: str) -> tuple[Tool, ...]:
    """The documented functions of one of the package's classes."""
    return tuple(map(_tool, _rows(DATA / "multi_turn_func_doc" / MULTI_TURN_FUNC_DOC_FILE_MAPPING[class_name])))


def _tool(document: dict[str, Any]) -> Tool:
    (tool,) = tools_of(document)
    return tool


def _messages(rows: list[dict[str, str]]) -> tuple[Message, ...]:
    return tuple(Message.model_validate(row) for row in rows)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
