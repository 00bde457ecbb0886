"""Conversations of Vercel's AI SDK: messages of the user interface (versions 4 and 5), and model messages.

A message of the interface holds all that was done until the user spoke again; each of its steps (``step-start``)
becomes a turn, with the results of its tools behind it. A row is ``{id, messages}`` or a list of messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import chat_message, declared_tools, text_of
from pivotrl.reading.conversation import conversation
from pivotrl.reading.conversation_files import are_messages, read_rows
from pivotrl.reading.fields import as_object, each, identifier, member, optional
from pivotrl.reading.formats.framework_messages import Chat, call, shown, with_pictures
from pivotrl.records import Loss, Message, Refusal, Trajectory

_KEYS = {"messages", "tools", "system", "id", "task_id", "reward", "score"}
_FILES = {"file": "document", "image": "image"}
_CUT = ("input-streaming", "partial-call")
"""States of a call whose arguments were still being written; the SDK shows it to no model."""
_UNSEEN = ("tool-approval-request", "tool-approval-response")
"""Parts that neither the model writes nor sees, besides ``data-...``."""


def recognises(head: Sequence[Any]) -> bool:
    """Rows or lists of such messages, or a file of them."""
    if are_messages(head, _is_message):
        return any(map(is_vercel, head))
    return any(_is_row(value) for value in head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per conversation.

    Words beside calls of which the log does not say whether they came before or after exclude their turn
    (``merged_turn``).

    Raises:
        InputError: the file cannot be read.
    """
    return read_rows(path, _is_message, _trajectory)


def _trajectory(row: Chat, name: str) -> Trajectory:
    rows = each("messages", member(row, "messages", list), as_object)
    chats: list[Chat] = []
    barred: dict[int, str] = {}
    losses: list[Loss] = []
    for index, item in enumerate(rows):
        try:
            made = _chats(item)
        except ValueError as error:
            raise ValueError(f"messages[{index}]: {error}") from error
        if item.get("toolInvocations") and "parts" not in item and item.get("content"):
            barred |= {len(chats) + i: "merged_turn" for i, chat in enumerate(made) if chat["role"] == "assistant"}
            losses.append(Loss(code="merged_turn", message=len(chats)))
        barred |= {len(chats) + i: "truncated" for i, chat in enumerate(made) if chat.get("is_cut")}
        chats += made

    def convert(item: Any, lost: list[Loss]) -> list[Message]:
        lost += item.get("lost", ())
        return [chat_message(item, lost)]

    return conversation(
        row,
        name,
        chats,
        convert,
        barred=barred,
        foreign={key: value for key, value in row.items() if key not in _KEYS and not isinstance(value, dict | list)},
        tools=declared_tools(row.get("tools")),
        system=text_of(row.get("system")),
        losses=losses,
    )


def _chats(item: Chat) -> list[Chat]:
    role = member(item, "role", str)
    parts = item["parts"] if isinstance(item.get("parts"), list) else item.get("content")
    parts = [{"type": "text", "text": parts}] if isinstance(parts, str) and parts else parts or []
    if "parts" not in item and isinstance(item.get("toolInvocations"), list):
        invoked = [{"type": "tool-invocation", "toolInvocation": inner} for inner in item["toolInvocations"]]
        parts = [*invoked, *parts]
    if not isinstance(parts, list):
        raise ValueError("the message has neither parts nor content")
    attached = each("experimental_attachments", item.get("experimental_attachments") or [], as_object)
    parts = [*parts, *({"type": "file", "mediaType": file.get("contentType")} for file in attached)]
    step = _Step(role)
    for part in each("parts", parts, as_object):
        step.take(part)
    return step.ended()


class _Step:
    """Goes through the parts of one message."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._made: list[Chat] = []
        self._begin()

    def _begin(self) -> None:
        self._texts: list[Any] = []
        self._thoughts: list[str] = []
        self._calls: list[Chat] = []
        self._results: list[Chat] = []
        self._lost: list[Loss] = []
        self._is_cut = False

    def take(self, part: Chat) -> None:
        kind = member(part, "type", str)
        if kind == "step-start":
            self.ended()
        elif kind == "reasoning":
            self._thoughts.append(str(part.get("text") or part.get("reasoning") or ""))
        elif kind == "text":
            if self._results and self._role == "assistant":
                self.ended()  # the model knew what the tools returned
            self._texts.append({"type": "text", "text": member(part, "text", str)})
            self._is_cut |= part.get("state") == "streaming"
        elif kind in _UNSEEN or kind.startswith("data-"):
            pass
        elif kind == "tool-error" and "toolName" in part:
            self._results.append(_result(identifier(part, "toolCallId"), part.get("error")))
        elif kind == "tool-result":
            self._results.append(_result(identifier(part, "toolCallId"), part.get("output", part.get("result"))))
        elif kind in _FILES:
            is_picture = str(part.get("mediaType") or part.get("mimeType")).startswith("image/")
            self._texts.append({"type": "image" if is_picture else _FILES[kind]})
        elif kind == "tool-invocation":
            inner = member(part, "toolInvocation", dict)
            self._invoked(inner, member(inner, "toolName", str), inner.get("args"), inner.get("result"))
        elif kind == "tool-call":
            self._invoked(part, member(part, "toolName", str), part.get("input", part.get("args")), None)
        elif kind.startswith("tool-") or kind == "dynamic-tool":
            name = member(part, "toolName", str) if kind == "dynamic-tool" else kind.removeprefix("tool-")
            given = part.get("input") if part.get("input") is not None else part.get("rawInput")
            self._invoked(part, name, given, part.get("output", part.get("errorText")))
        else:
            self._lost.append(Loss(code="unknown_item", detail=kind))

    def _invoked(self, part: Chat, name: str, arguments: Any, result: Any) -> None:
        call_id, state = identifier(part, "toolCallId"), optional(part, "state", str)
        if state in _CUT:
            self._is_cut = True
            return
        self._calls.append(call(name, arguments, call_id))
        if state == "output-denied":
            denial = (optional(part, "approval", dict) or {}).get("reason")
            self._results.append(_result(call_id, denial or "Tool execution denied."))  # as the SDK words it
        elif result is not None or state in ("result", "output-available", "output-error"):
            self._results.append(_result(call_id, result))

    def ended(self) -> list[Chat]:
        """End the step; all that the message has come to so far."""
        if self._texts or self._calls or (self._role != "tool" and not self._made and not self._results):
            row: Chat = {"role": self._role, "content": self._texts or None}
            if self._calls:
                row["tool_calls"] = self._calls
            if self._is_cut:
                row["is_cut"] = True
            if self._lost:
                row["lost"] = self._lost
            if thought := "\n".join(filter(None, self._thoughts)):
                row["reasoning"] = thought
            if self._texts or self._calls or self._role == "user":
                self._made.append(row if self._texts or self._calls else {**row, "content": ""})
        self._made += self._results
        self._begin()
        return self._made


def _result(call_id: str | None, output: Any) -> Chat:
    """A typed output (``{type, value}``), or any value."""
    if isinstance(output, dict) and output.keys() <= {"type", "value", "providerOptions"} and "value" in output:
        is_in_parts = output.get("type") == "content" and isinstance(output["value"], list)
        output = output["value"]
        if is_in_parts:
            return {"role": "tool", "tool_call_id": call_id, "content": with_pictures(output)}
    return {"role": "tool", "tool_call_id": call_id, "content": shown(output)}


def _is_message(item: Any) -> bool:
    return isinstance(item, dict) and item.get("role") in ("user", "assistant", "system", "tool", "data")


def is_vercel(item: Any) -> bool:
    """Whether a message has what only this SDK writes: steps and tools among its parts, or ``toolInvocations``."""
    if not isinstance(item, dict):
        return False
    if isinstance(item.get("toolInvocations"), list):
        return True
    parts = item.get("parts") if isinstance(item.get("parts"), list) else item.get("content")
    return isinstance(parts, list) and any(isinstance(part, dict) and _is_own(part, "parts" in item) for part in parts)


def _is_own(part: Chat, is_of_interface: bool) -> bool:
    kind = part.get("type")
    if is_of_interface:
        return isinstance(kind, str)
    return kind in ("tool-call", "tool-result") and "toolCallId" in part


def _is_row(value: Any) -> bool:
    items = value.get("messages") if isinstance(value, dict) else value
    return isinstance(items, list) and bool(items) and all(map(_is_message, items)) and any(map(is_vercel, items))
