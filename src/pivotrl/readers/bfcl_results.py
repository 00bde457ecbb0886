"""Results of the Berkeley Function Calling Leaderboard, as its command `generate` writes them.

The tools are in them if it ran with ``--include-input-log``. The reward comes from the file that `evaluate` wrote, if
it lies where that command puts it: ``score/...`` beside ``result/...``.
"""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import arguments_text, declared_tools, one_message
from pivotrl.reading.fields import as_object, each, member, optional
from pivotrl.reading.sources import Entry, convert_entries
from pivotrl.records import Loss, Message, Refusal, Tool, ToolCall, Trajectory

_FAILED = "Error during inference:"


def recognises(head: Sequence[Any]) -> bool:
    """Rows with a result, and a log or counts of tokens."""
    return any(
        isinstance(row, dict)
        and {"id", "result"} <= row.keys()
        and not {"inference_log", "input_token_count", "traceback"}.isdisjoint(row)
        for row in head
    )


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per task that was played to its end, in function-calling mode.

    Raises:
        InputError: the file cannot be read.
    """
    rewards = _rewards(path)

    def convert(value: Any, entry: Entry) -> Trajectory:
        row = as_object(value)
        name = member(row, "id", str)
        if isinstance(said := row.get("result"), str) and said.startswith(_FAILED):
            raise ValueError(f"the task was not played: {said[:200]}")
        talk = _Talk()
        log = row.get("inference_log")
        if not isinstance(log, list):
            raise ValueError("there is no inference_log; run the command with --include-input-log")
        turns = [part for part in log if isinstance(part, dict) and "begin_of_turn_query" in part]
        if turns:
            for turn in turns:
                talk.turn(turn)
        else:
            talk.single(log, row.get("result"))
        return Trajectory(
            id=f"bfcl-{name}",
            task_id=name,
            messages=tuple(talk.messages),
            tools=talk.tools,
            reward=rewards(name),
            excluded=talk.excluded,
            losses=() if talk.tools else (Loss(code="tools_not_logged"),),
        )

    return convert_entries(path, convert)


class _Talk:
    """A conversation so far."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.tools: tuple[Tool, ...] = ()
        self.excluded: dict[int, str] = {}
        """Turns that were played with fewer tools than the last one."""

    def turn(self, turn: Mapping[str, Any]) -> None:
        self.messages += _asked(member(dict(turn), "begin_of_turn_query", list))
        for number in range(len(turn)):
            step = optional(dict(turn), f"step_{number}", list)
            if step is None:
                break
            parts = each(f"step_{number}", step, as_object)
            for part in parts:
                if part.get("role") == "inference_input":
                    self._see(part)
            calls = list[ToolCall]()
            results = iter(part for part in parts if part.get("role") == "tool")
            for part in parts:
                if part.get("role") == "assistant":
                    calls = self._say(part.get("content"), optional(part, "reasoning_content", str))
            for call, result in zip(calls, results, strict=False):
                text = member(result, "content", str)
                self.messages.append(Message(role="tool", content=text, tool_call_id=call.id))

    def single(self, log: Sequence[Any], result: Any) -> None:
        asked = next((p for p in log if isinstance(p, dict) and p.get("role") == "inference_input"), None)
        if asked is None:
            raise ValueError("the request is not in the log; run the command with --include-input-log")
        self._see(asked)
        try:
            messages = ast.literal_eval(member(as_object(asked["content"]), "message", str))
        except (SyntaxError, MemoryError, RecursionError) as error:
            raise ValueError(f"the request in the log is no Python literal: {error}") from error
        self.messages += _asked(member({"message": messages}, "message", list))
        self._say(result, None)

    def _see(self, asked: Mapping[str, Any]) -> None:
        tools = declared_tools(as_object(asked.get("content")).get("tools"))
        if self.tools and tools != self.tools:
            turns = (i for i, message in enumerate(self.messages) if message.role == "assistant")
            self.excluded |= dict.fromkeys(turns, "context_differs")
        self.tools = tools or self.tools

    def _say(self, content: Any, reasoning: str | None) -> list[ToolCall]:
        calls = list[ToolCall]()
        if isinstance(content, list):
            for number, call in enumerate(each("calls", content, as_object)):
                ((name, arguments),) = call.items() if len(call) == 1 else (("", None),)
                if not name:
                    raise ValueError("a call is not one name with its arguments")
                calls.append(
                    ToolCall(name=name, arguments=arguments_text(arguments), id=f"call_{len(self.messages)}_{number}")
                )
        text = content if isinstance(content, str) else None
        self.messages.append(
            Message(role="assistant", content=text, reasoning=reasoning or None, tool_calls=tuple(calls))
        )
        return calls


def _asked(items: Any) -> list[Message]:
    return [message for item in items for message in one_message(item, [])]


def _rewards(path: Path) -> Any:
    """task -> reward, from the scores beside the results; None where there are none."""
    parts = list(path.absolute().parts)
    if "result" not in parts:
        return lambda task: None
    place = len(parts) - 1 - parts[::-1].index("result")
    parts[place] = "score"
    beside = Path(*parts).with_name(path.name.replace("_result.json", "_score.json"))
    return functools.partial(_reward, *_scored(beside))


def _scored(path: Path) -> tuple[bool, frozenset[str]]:
    """(whether all were graded, the tasks that failed)"""
    try:
        head, *failed = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        wrong = frozenset(str(row["id"]) for row in failed)
        return head["total_count"] - head["correct_count"] == len(wrong), wrong
    except (OSError, ValueError, LookupError, TypeError):
        return False, frozenset()


def _reward(are_graded: bool, failed: frozenset[str], task: str) -> float | None:
    return None if not are_graded else float(task not in failed)
