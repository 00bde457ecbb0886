"""Supply what a log lacks: the system message and the tools, given by the user or inferred from the calls.

Supplied parts are listed among the trajectory's losses, because they are not in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.reading.chat_messages import declared_tools
from pivotrl.reading.source_items import SourceItems
from pivotrl.reading.sources import load_document
from pivotrl.reading.tool_inference import ToolObserver
from pivotrl.records import Loss, Message, Tool, Trajectory

Complete = Callable[[Trajectory], Trajectory]


def completion(items: SourceItems, *, tools: Path | None, system: Path | None, infer_tools: bool) -> Complete:
    """Supplies the parts that the trajectories of a source lack.

    Args:
        items: of the source.
        tools: JSON file of OpenAI-style tools.
        system: text file of the system message.
        infer_tools: without ``tools``, infer them from all calls of the source, for each format apart, and give them
            to the trajectories that call any.

    Raises:
        InputError: one of the files cannot be used.
    """
    system_message = _given_system(system) if system else None
    given = _given_tools(tools) if tools else ()
    inferred = _infer(items) if infer_tools and not given else {}

    def complete(trajectory: Trajectory) -> Trajectory:
        losses: list[Loss] = []
        changed: dict[str, Any] = {}
        calls = any(message.tool_calls for message in trajectory.messages)
        tools = given or (inferred.get(_format(trajectory), ()) if calls else ())
        if tools and not trajectory.tools:
            changed["tools"] = tools
            changed["tools_inferred"] = not given
            losses.append(Loss(code="tools_supplied" if given else "tools_inferred"))
        if system_message is not None and not any(message.role == "system" for message in trajectory.messages):
            losses.append(Loss(code="system_supplied"))
            changed |= _shifted(trajectory, system_message)
        if not losses:
            return trajectory
        earlier = changed.get("losses", trajectory.losses)
        return trajectory.model_copy(update={**changed, "losses": (*earlier, *losses)})

    return complete


def _shifted(trajectory: Trajectory, system: Message) -> dict[str, Any]:
    """The fields that change when a message is put in front."""
    return {
        "messages": (system, *trajectory.messages),
        "pinned_messages": trajectory.pinned_messages and trajectory.pinned_messages + 1,
        "metadata": _shifted_metadata(trajectory.metadata),
        "alternatives": {index + 1: actions for index, actions in trajectory.alternatives.items()},
        "excluded": {index + 1: reason for index, reason in trajectory.excluded.items()},
        "losses": tuple(
            loss if loss.message is None else loss.model_copy(update={"message": loss.message + 1})
            for loss in trajectory.losses
        ),
    }


def _shifted_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """``accepted_actions`` of a row name messages by their index, too (:mod:`pivotrl.reading.alternatives`)."""
    foreign = metadata.get("foreign")
    accepted = foreign.get("accepted_actions") if isinstance(foreign, dict) else None
    if not isinstance(foreign, dict) or not isinstance(accepted, dict):
        return metadata
    shifted = {str(int(index) + 1) if index.isdecimal() else index: actions for index, actions in accepted.items()}
    return {**metadata, "foreign": {**foreign, "accepted_actions": shifted}}


def _infer(items: SourceItems) -> dict[str, tuple[Tool, ...]]:
    """Format -> the tools of the trajectories that declare none.

    Goes through the source once before; a file only as far as needed to see that its calls come with their tools.
    """
    observers: dict[str, ToolObserver] = {}
    for item in items:
        if isinstance(item, Trajectory) and any(message.tool_calls for message in item.messages):
            if not item.tools:
                observers.setdefault(_format(item), ToolObserver()).observe(item)
            elif items.path.is_file():
                return {}
    return {name: observer.tools() for name, observer in observers.items()}


def _format(trajectory: Trajectory) -> str:
    return str(trajectory.metadata.get("format", ""))


def _given_tools(path: Path) -> tuple[Tool, ...]:
    try:
        entries = list(_entries(load_document(path)))
        tools = declared_tools(entries)
        for entry, tool in zip(entries, tools, strict=True):
            _require_read(entry, tool)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            f"{path} contains no tool schemas: {error}; give a JSON array of OpenAI-style tools"
        ) from error
    if not tools:
        raise InputError(f"{path} contains no tool; give a JSON array of OpenAI-style tools")
    return tools


def _entries(value: Any) -> Iterator[Any]:
    """The tools of a list, or of an answer or request that has them under one of the usual keys, one by one."""
    inner = [value[key] for key in _LISTS if isinstance(value.get(key), list | dict)] if isinstance(value, dict) else []
    if isinstance(value, list):
        for item in value:
            yield from _entries(item) if isinstance(item, dict) and "name" not in item else [item]
    elif inner and "name" not in value:
        for part in inner:
            yield from _entries(part)
    else:
        yield value


_LISTS = ("tools", "functions", "functionDeclarations", "function_declarations", "result")
_BESIDE_SCHEMA = {
    *("name", "description", "type", "title", "strict", "annotations", "cache_control", "icons", "_meta", "meta"),
    *("outputSchema", "output_schema", "response", "responseJsonSchema", "defer_loading", "behavior", "execution"),
    *("format", "namespace", "input_examples", "eager_input_streaming"),
}
"""Keys of a tool that do not describe its arguments."""


def _require_read(entry: Any, tool: Tool) -> None:
    """
    Raises:
        ValueError: the entry describes the tool's arguments in a way that was not read.
    """
    if tool.parameters or not isinstance(entry, dict):
        return
    nested = entry.get("function")
    unread = [key for key, value in (nested if isinstance(nested, dict) else entry).items() if value]
    if unread := sorted(set(unread) - _BESIDE_SCHEMA):
        raise ValueError(
            f"the tool {tool.name} has no arguments under a known key, but has {', '.join(map(repr, unread))}; "
            "put their JSON schema under 'parameters'"
        )


def _given_system(path: Path) -> Message:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}") from error
    if not text.strip():
        raise InputError(f"{path} is empty; give the text of the system message")
    return Message(role="system", content=text)
