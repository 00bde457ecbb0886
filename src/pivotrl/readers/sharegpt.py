"""Conversations in the style of ShareGPT: ``{conversations | messages: [{from, value}], tools?, system?}``.

Covers the function calling of Hermes (``<think>``, ``<tool_call>``, ``<tool_response>`` and ``<tools>`` inside the
text; in old rows Python literals instead of JSON), of Qwen3-Coder and GLM (XML in these tags), of ToolACE
(``[f(x=1)]``), of LLaMA-Factory and ms-swift (turns of ``function_call``, ``observation``, ...), of OpenAI
(``tool_calls``), and content in parts ``{type, value}``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as short
from typing import Any

from pivotrl.reading.chat_messages import arguments_text, declared_tools, task_hash, tool_call
from pivotrl.reading.conversation_files import are_rows
from pivotrl.reading.fields import as_object, each, json_text, member, optional
from pivotrl.reading.row_facts import outcome, run_name, task_name
from pivotrl.reading.sources import Entry, convert_entries
from pivotrl.reading.text_calls import bears_call, calls_in, is_tagged, named_calls
from pivotrl.reading.text_tools import MARGIN, tools_in_text
from pivotrl.reading.thoughts import thought_of, without_thought
from pivotrl.reading.turn_marks import marked_turns
from pivotrl.records import Loss, Message, Refusal, Role, Tool, ToolCall, Trajectory
from pivotrl.records.strict_json import kind_of

_SPEAKERS = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "model", "bot", "ai", "chatgpt"), "assistant"),
    **dict.fromkeys(("function_call", "tool_call"), "call"),
    **dict.fromkeys(("tool", "function", "observation", "function_response", "tool_response"), "tool"),
    **dict.fromkeys(("function_result", "tool_result", "ipython"), "tool"),
}
_ROLES: dict[str, Role] = {"system": "system", "user": "user", "tool": "tool"}
_OF_CHAT = {"system", "developer", "user", "assistant", "tool", "function"}
_TURNS = ("conversations", "conversation", "messages")
_KEYS = {*_TURNS, "tools", "system", "id", "task_id", "instance_id", "reward", "score", "images", "audios", "videos"}
_MEDIA = (("images", "<image>", "image"), ("audios", "<audio>", "audio"), ("videos", "<video>", "document"))
_MEDIA_PARTS = {"image": "image", "image_url": "image", "audio": "audio", "audio_url": "audio", "video": "document"}

_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_RESULT = re.compile(r"<tool_response>(.*?)</tool_response>", re.DOTALL)


def recognises(head: Sequence[Any]) -> bool:
    """Rows with ``conversations``, or with ``messages`` that are no chat's: of gpt, or with calls in the text."""
    return are_rows(head, _is_row)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per row.

    A call that cannot be parsed stays in the text, and its turn is excluded; a turn that the log excludes from
    training (``weight: 0``, ``loss: false``, ...) is context.

    Raises:
        InputError: the file cannot be read.
    """

    def convert(value: Any, entry: Entry) -> Trajectory:
        row = as_object(value)
        reading = _Reading(_declared(row.get("tools")))
        if (system := optional(row, "system", str)) and system.strip():
            reading.messages.append(Message(role="system", content=system))
        turns = _turns(row)
        marked = marked_turns(turns, row)
        for index, turn in enumerate(turns):
            try:
                reading.add(as_object(turn), is_context=index in marked)
            except ValueError as error:
                raise ValueError(f"turn {index}: {error}") from error
        if not any(message.role == "assistant" for message in reading.messages):
            raise ValueError("there is no assistant turn, so there is nothing to learn from")
        foreign = {key: value for key, value in row.items() if key not in _KEYS}
        return Trajectory(
            id=run_name(row) or f"{path.stem}-{entry.number}",
            task_id=task_name(row) or task_hash(reading.messages),
            messages=tuple(reading.messages),
            tools=reading.tools,
            reward=outcome(row),
            excluded=reading.excluded,
            metadata={"foreign": foreign} if foreign else {},
            losses=(*reading.losses, *_media(row, reading.messages)),
        )

    return convert_entries(path, convert)


# --- turns --------------------------------------------------------------------------------------------------------


@dataclass
class _Said:
    """What a turn holds, before the tags in its text are read."""

    text: str | None = None
    thought: str | None = None
    payloads: list[Any] = field(default_factory=list)
    """Calls in the text or in parts: parsed, or as text."""
    calls: tuple[ToolCall, ...] = ()
    """Calls that the log holds beside the text."""


class _Reading:
    """The messages of a row so far."""

    def __init__(self, declared: tuple[Tool, ...]) -> None:
        self.messages: list[Message] = []
        self.losses: list[Loss] = []
        self.excluded: dict[int, str] = {}
        self._declared = declared

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Those declared, or described in the system message so far."""
        self._declared = self._declared or tools_in_text(self.messages)
        return self._declared

    def add(self, turn: dict[str, Any], is_context: bool) -> None:
        name = member(turn, "from" if "from" in turn else "role", str)
        said = self._said(turn.get("value") if "value" in turn else turn.get("content"))
        speaker = _SPEAKERS.get(name.lower())
        results = _results(said.text) if speaker in ("tool", "user") else []
        if (results or speaker == "tool") and self.messages and self._answers_no_call():
            self.excluded[len(self.messages) - 1] = "unparsable_action"
        if results:
            self.messages += [Message(role="tool", content=result) for result in results]
        elif speaker in ("assistant", "call"):
            said.thought = _joined(thought_of(turn, said.text, self.losses), said.thought)
            said.calls = tuple(each("tool_calls", _logged_calls(turn), tool_call))
            self._act(said, is_call=speaker == "call")
            if is_context:
                self.excluded.setdefault(len(self.messages) - 1, "context_only")
        elif speaker is not None:
            answered = optional(turn, "tool_call_id", str) if speaker == "tool" else None
            self.messages.append(Message(role=_ROLES[speaker], content=said.text, tool_call_id=answered))
        else:
            raise ValueError(f"unknown speaker {short(name)}; there are {', '.join(_SPEAKERS)}")

    def _answers_no_call(self) -> bool:
        """Whether a result comes right after words of the assistant's: the call in them is not understood."""
        return self.messages[-1].role == "assistant" and not self.messages[-1].tool_calls

    def _said(self, content: Any) -> _Said:
        """A text, or parts."""
        if content is None or isinstance(content, str):
            return _Said(content)
        if not isinstance(content, list):
            raise ValueError(f"the content is {kind_of(content)}, not text")
        said = _Said()
        for part in each("parts", content, as_object):
            kind, value = part.get("type"), part.get("value", part.get("text"))
            text = value if isinstance(value, str) else arguments_text(value)
            if isinstance(kind, str) and kind in _MEDIA_PARTS:
                self.losses.append(Loss(code=_MEDIA_PARTS[kind], message=len(self.messages)))
            elif kind == "tool_call":
                said.payloads.append(value)
            elif kind == "reasoning":
                said.thought = _joined(said.thought, text)
            elif kind in ("text", "tool_response"):
                said.text = _joined(said.text, text)
            else:
                raise ValueError(f"part of unknown type {short(kind)}")
        return said

    def _act(self, said: _Said, is_call: bool) -> None:
        """The assistant's turn; a turn of calls goes on with the assistant's turn before it."""
        text, thought = without_thought(said.text or "")
        thought = _joined(said.thought, thought)
        content, payloads = text, [*said.payloads]
        if "<tool_call>" in text:
            content, payloads = _CALL.sub("", text).strip(), [*payloads, *_CALL.findall(text)]
        elif is_call and text.strip():
            content, payloads = "", [*payloads, text]
        calls = None if "<tool_call>" in content else self._calls(payloads)
        if calls == () and not said.calls:
            content, calls = self._written(content)
        if calls is not None:
            calls = (*said.calls, *calls)
        if calls is None:
            self.excluded[len(self.messages)] = "unparsable_action"
            content, calls = text, ()
        elif is_call and self.messages and self.messages[-1].role == "assistant":
            before = self.messages.pop()
            thought, content = _joined(before.reasoning, thought), _joined(before.content, content) or ""
            calls = (*before.tool_calls, *calls)
        self.messages.append(
            Message(role="assistant", content=content or None, reasoning=thought or None, tool_calls=calls)
        )

    def _calls(self, payloads: Sequence[Any]) -> tuple[ToolCall, ...] | None:
        """The calls, each ``{name, arguments}``, a list of such, or in XML; None when one cannot be understood."""
        calls: list[ToolCall] = []
        try:
            for payload in payloads:
                if isinstance(payload, str) and is_tagged(payload):
                    beside, found = calls_in(f"<tool_call>{payload}</tool_call>", self.tools)
                    if beside:
                        return None
                    calls += found
                else:
                    calls += named_calls(payload)
        except ValueError:
            return None
        return tuple(calls)

    def _written(self, text: str) -> tuple[str, tuple[ToolCall, ...] | None]:
        """(the text beside the calls, the calls) of a text in which calls stand without tags of Hermes."""
        if not bears_call(text):
            return text, ()
        try:
            beside, calls = calls_in(text, self.tools)
        except ValueError:
            return text, None
        return beside or "", calls


def _logged_calls(turn: dict[str, Any]) -> list[Any]:
    calls = turn.get("tool_calls")
    return (json_text("tool_calls", calls) if isinstance(calls, str) else optional(turn, "tool_calls", list)) or []


def _turns(row: dict[str, Any]) -> list[Any]:
    given = next((row[key] for key in _TURNS if row.get(key) is not None), None)
    if isinstance(given, str):
        given = json_text("the conversation", given)
    if not isinstance(given, list):
        raise ValueError("there is no list of conversations or messages")
    return given


def _joined(*texts: str | None) -> str | None:
    return "\n".join(text for text in texts if text) or None


# --- calls, results and tools inside text -------------------------------------------------------------------------


def _results(text: str | None) -> list[str]:
    """The results in a turn that holds nothing else; none when there is anything between them."""
    if text is None or MARGIN.sub("", _RESULT.sub("", text)):
        return []
    return [MARGIN.sub("", result) for result in _RESULT.findall(text)]


def _declared(value: Any) -> tuple[Tool, ...]:
    """Tools: a list of objects or of JSON texts, or the JSON text of a list."""
    if isinstance(value, str):
        value = json_text("tools", value)
    if isinstance(value, list):
        value = [json_text("tools", item) if isinstance(item, str) else item for item in value]
    return declared_tools(value)


def _media(row: dict[str, Any], messages: Sequence[Message]) -> Iterator[Loss]:
    """A loss for each mark in the text that stands for one of the row's images, recordings or films."""
    for key, mark, code in _MEDIA:
        if row.get(key):
            yield from (Loss(code=code, message=i) for i, m in enumerate(messages) if mark in (m.content or ""))


def _is_row(value: Any) -> bool:
    if not isinstance(value, dict) or {"trial_name", "episode"} <= value.keys():  # Harbor's exports
        return False
    turns = next((found for key in _TURNS if (found := _turn_list(value.get(key)))), [])
    rows = [turn for turn in turns if isinstance(turn, dict)]
    if not rows or len(rows) < len(turns):
        return False
    if all("from" in turn and "value" in turn for turn in rows):
        return True
    if not all(isinstance(turn.get("role"), str) and turn["role"] in _SPEAKERS and "content" in turn for turn in rows):
        return False
    return "messages" not in value or any(_is_only_here(turn) for turn in rows)


def _turn_list(value: Any) -> list[Any]:
    """A list of turns, or the JSON text of one."""
    if isinstance(value, str) and value.lstrip().startswith("[") and '"from"' in value:
        with suppress(ValueError):
            value = json_text("conversations", value)
    return value if isinstance(value, list) else []


def _is_only_here(turn: dict[str, Any]) -> bool:
    content = turn["content"]
    parts = content if isinstance(content, list) else []
    return (
        turn["role"] not in _OF_CHAT
        or any(isinstance(part, dict) and "value" in part for part in parts)
        or (turn["role"] == "assistant" and isinstance(content, str) and "<tool_call>" in content)
    )
