"""Rows that Harbor exports for training (``harbor traces export``), such as those of OpenThoughts-Agent.

A row is the conversation up to one answer of the agent: ``{conversations: [{role, content}], agent, model, task,
episode, run_id, trial_name, result, ...}``. Harbor has made text of everything: system messages are the user's,
thoughts stand in ``<think>``, calls in ``<tool_call>``. Each answer of a trial has its row, or the last one alone.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import arguments_text, chat_message, declared_tools, task_hash
from pivotrl.reading.fields import as_object, each, identifier, member
from pivotrl.reading.sources import Entry, convert_entries, entries
from pivotrl.records import Loss, Message, Refusal, ToolCall, Trajectory
from pivotrl.records.strict_json import parse_arguments

_KEYS = {"conversations", "conversations_sharegpt", "tool_definitions", "result", "verifier_output", "instruction"}
_CALLS = re.compile(r"(?:\A|\n)<tool_call>\n(\{.*\})\n</tool_call>\Z", re.DOTALL)
_TOOLS = re.compile(r"\A<tools>\n.*?\n</tools>\n\n", re.DOTALL)
_NEXT_CALL = re.compile(r"\n</tool_call>\n<tool_call>\n")
_SUMMARISED = "Performed context summarization and handoff to continue task."


def recognises(head: Sequence[Any]) -> bool:
    """Rows with Harbor's keys whose ``conversations`` have roles and contents."""
    return any(_is_row(value) for value in head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per row. The file is read twice, because the rows of a trial belong together.

    A row also shows answers that Harbor copied from before a summary, unmarked. An answer before the last is the
    trial's own if another row ends with it, or if the row is the only one and holds as many as its number says
    (``episode-4`` is the fifth); else it is context. No candidates are the turns of a sub-agent's row, and actions that
    Harbor put in other words (``action_rebuilt``): plans of Terminus without ``raw_content``, commands of SWE-agent.

    Raises:
        InputError: the file cannot be read.
    """
    ends: dict[tuple[str, ...], set[bytes]] = {}
    for entry in entries(path):
        with suppress(ValueError):  # told as a refusal below
            row = as_object(entry.load())
            ends.setdefault(_trial(row), set()).add(_beginnings(row)[-1])

    def convert(value: Any, entry: Entry) -> Trajectory:
        row = as_object(value)
        return _trajectory(row, f"{path.stem}-{entry.number}", ends.get(_trial(row), set()))

    yield from convert_entries(path, convert)


def _trajectory(row: dict[str, Any], name: str, ends: set[bytes]) -> Trajectory:
    is_terminus = str(row.get("agent")).startswith("terminus")
    tools = declared_tools(row.get("tool_definitions"))
    messages = _messages(member(row, "conversations", list), is_terminus, bool(tools))
    turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
    if not turns:
        raise ValueError("there is no assistant message, so there is no turn to learn from")
    losses = [Loss(code="text_mode")] if is_terminus else []
    summarised = [i for i, message in enumerate(messages) if message.content == _SUMMARISED]
    losses += [Loss(code="compaction", message=index) for index in summarised]
    trial, number = identifier(row, "trial_name"), identifier(row, "episode") or ""
    source = identifier(row, "trace_source") or "main"
    if source != "main":
        losses.append(Loss(code="subagent", detail=f"the row is of {source}"))
    reward, ending = _result(row.get("result"))
    known = {"ending": ending, **{key: value for key, value in row.items() if key not in _KEYS}}
    rewritten = [turn for turn in turns if _is_rewritten(messages[turn], is_terminus)]
    if rewritten:
        losses.append(Loss(code="action_rebuilt", detail=f"{len(rewritten)} turns; read the trial itself"))
    is_whole = len(ends) == 1 and number == f"episode-{len(turns) - 1}"
    beginnings = _beginnings(row)
    excluded = {turn: "context_only" for turn in turns[:-1] if not is_whole and beginnings[turn] not in ends}
    excluded |= dict.fromkeys(rewritten, "synthetic")
    excluded |= {turn: "unparsable_action" for turn in turns[:-1] if _complains(messages[turn + 1])}
    excluded |= {turn: "after_compaction" for turn in turns if summarised and turn > summarised[0]}
    if source != "main":
        excluded = {**dict.fromkeys(turns[:-1], "context_only"), turns[-1]: "subagent_turn"}
    parts = [part for part in (trial, source if source != "main" else None, number) if part]
    return Trajectory(
        id="-".join(parts) or name,
        task_id=identifier(row, "task") or task_hash(messages, ("user",)),
        messages=tuple(messages),
        tools=tools,
        reward=None if source != "main" else reward,
        excluded=excluded,
        metadata={"foreign": {key: value for key, value in known.items() if value is not None}},
        losses=tuple(losses),
    )


def _messages(items: Sequence[Any], is_terminus: bool, has_tools: bool) -> list[Message]:
    messages: list[Message] = []
    for message in each("conversations", items, chat_message):
        text = message.content or ""
        if message.role == "assistant" and text:
            message = _taken_apart(message, text, is_terminus)
        elif message.role == "user" and not messages and has_tools:
            message = message.model_copy(update={"content": _TOOLS.sub("", text)})  # the column holds them
        elif message.role == "user" and messages and messages[-1].tool_calls:
            message = Message(role="tool", content=text)
        messages.append(message)
    return messages


def _taken_apart(message: Message, text: str, is_terminus: bool) -> Message:
    """The message with its calls taken out of the text."""
    calls: tuple[ToolCall, ...] = ()
    # Terminus calls no tools; what stands there is how Harbor files its plan.
    if (found := _CALLS.search(text)) and not is_terminus:
        with suppress(ValueError):  # not what the exporter writes, so it stays the text it is
            calls = tuple(_call(part) for part in _NEXT_CALL.split(found[1]))
            text = text[: found.start()]
    reasoning = message.reasoning if message.reasoning != text else None  # some converters write all of it twice
    return message.model_copy(update={"content": text or None, "reasoning": reasoning, "tool_calls": calls})


def _is_rewritten(message: Message, is_terminus: bool) -> bool:
    """Whether the action is not as the agent wrote it: Harbor files the text of some agents in a form of its own."""
    if any(call.name == "swe_agent_action" for call in message.tool_calls):
        return True
    return is_terminus and (message.content or "").startswith(("Analysis: ", "Plan: ", "<tool_call>\n"))


def _complains(message: Message) -> bool:
    return (message.content or "").startswith("Previous response had parsing errors:")


def _call(text: str) -> ToolCall:
    row = parse_arguments(text)
    return ToolCall(name=member(row, "name", str), arguments=arguments_text(row.get("arguments")))


def _result(value: Any) -> tuple[float | None, str | None]:
    """(reward, name of the exception that ended the trial): the column holds one or the other, as text."""
    if value is None:
        return None, None
    with suppress(TypeError, ValueError):
        if math.isfinite(reward := float(value)):
            return reward, None
    return None, str(value)


def _beginnings(row: dict[str, Any]) -> list[bytes]:
    """A hash of the conversation up to and with each message."""
    hasher = hashlib.sha256()
    found = []
    for item in each("conversations", member(row, "conversations", list), as_object):
        hasher.update(repr((item.get("role"), item.get("content"))).encode("utf-8", "surrogatepass"))
        found.append(hasher.digest())
    if not found:
        raise ValueError("conversations is empty")
    return found


def _trial(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row.get(key)) for key in ("run_id", "trial_name", "trace_source"))


def _is_row(value: Any) -> bool:
    if not isinstance(value, dict) or not {"agent", "episode", "trial_name", "run_id"} <= value.keys():
        return False
    turns = value.get("conversations")
    return isinstance(turns, list) and all(isinstance(t, dict) and {"role", "content"} <= t.keys() for t in turns)
