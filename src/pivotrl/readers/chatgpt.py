"""Conversations that ChatGPT exports: ``conversations.json``, an array of ``{title, mapping, current_node}``.

``mapping`` is a tree of messages; the branch that ends at ``current_node`` is followed. What the assistant does between
two inputs is one turn: its thoughts, its words, and what it sends to a tool (``recipient``), which is a call. System
message and tools are not exported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import task_hash
from pivotrl.reading.fields import as_object, identifier, member, optional
from pivotrl.reading.sources import Entry, convert_entries
from pivotrl.records import Loss, Message, Refusal, ToolCall, Trajectory
from pivotrl.records.strict_json import parse_json

_SILENT = ("reasoning_recap", "model_editable_context")
"""Contents that are shown to a person, and neither written by the model nor seen by it."""
_MEDIA = {"image_asset_pointer": "image", "audio_asset_pointer": "audio", "video_container_asset_pointer": "image"}
_MEDIA |= {"real_time_user_audio_video_asset_pointer": "audio", "audio_transcription": ""}


def recognises(head: Sequence[Any]) -> bool:
    """Conversations with a ``mapping`` of nodes that have parents."""
    return 2 * sum(map(_is_conversation, head)) > len(head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per conversation; none for one in which the assistant never spoke.

    Raises:
        InputError: the file cannot be read.
    """

    def convert(value: Any, entry: Entry) -> list[Trajectory]:
        return _trajectories(as_object(value), f"{path.stem}-{entry.number}")

    return convert_entries(path, convert)


def _trajectories(row: dict[str, Any], name: str) -> list[Trajectory]:
    items, num_others = _branch(row)
    made = _Conversation()
    for item in items:
        try:
            made.add(item)
        except ValueError as error:
            raise ValueError(f"message {item.get('id')}: {error}") from error
    made.close()
    if not any(message.role == "assistant" for message in made.messages):
        return []
    last = len(made.messages) - 1
    lost = [loss.model_copy(update={"message": min(loss.message or 0, last)}) for loss in made.losses]
    losses = [Loss(code="tools_not_logged"), Loss(code="context_not_logged"), *lost]
    if num_others:
        losses.append(Loss(code="branch", detail=f"{num_others} messages on other branches"))
    about = {key: row[key] for key in ("title", "default_model_slug") if row.get(key)}
    return [
        Trajectory(
            id=identifier(row, "conversation_id", "id") or name,
            task_id=task_hash(made.messages),
            messages=tuple(made.messages),
            excluded=made.excluded,
            metadata={"foreign": about} if about else {},
            losses=tuple(losses),
        )
    ]


def _branch(row: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """(the messages from the root to the current node, how many lie on other branches)."""
    nodes = {key: as_object(node) for key, node in member(row, "mapping", dict).items()}
    current: str | None = optional(row, "current_node", str) or _only_end(nodes)
    chain: list[dict[str, Any]] = []
    seen: set[str] = set()
    while current is not None:
        if current not in nodes or current in seen:
            raise ValueError(f"the branch of current_node is broken: message {current} is missing or twice")
        seen.add(current)
        if (message := optional(nodes[current], "message", dict)) is not None:
            chain.append(message)
        current = optional(nodes[current], "parent", str)
    num_all = sum(1 for node in nodes.values() if node.get("message") is not None)
    return chain[::-1], num_all - len(chain)


def _only_end(nodes: dict[str, dict[str, Any]]) -> str:
    """The end of the only branch."""
    parents = {node.get("parent") for node in nodes.values()}
    ends = [key for key in nodes if key not in parents]
    if len(ends) != 1:
        raise ValueError(f"there is no current_node, and {len(ends)} branches to choose from")
    return ends[0]


class _Conversation:
    """Takes the messages of a branch one after another; those of the assistant between two inputs become one."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.losses: list[Loss] = []
        self.excluded: dict[int, str] = {}
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._calls: list[ToolCall] = []
        self._unanswered: list[ToolCall] = []
        self._is_cut = False

    def add(self, item: dict[str, Any]) -> None:
        author, content = member(item, "author", dict), member(item, "content", dict)
        role, kind = member(author, "role", str), member(content, "content_type", str)
        about = optional(item, "metadata", dict) or {}
        if kind in _SILENT:
            return
        if role == "assistant":
            self._answer(item, content, kind, about)
            return
        if role not in ("user", "system", "tool"):
            raise ValueError(f"unknown role {role}; there are user, assistant, system, tool")
        text = self._text(content, kind)
        if not text and not self._is_waiting and role != "user":
            return  # the empty system message with which each conversation begins
        self.close()
        for _ in about.get("attachments") or []:
            self._lose("document")
        if role == "tool":
            self.messages.append(Message(role="tool", content=text, tool_call_id=self._call_of(author)))
        elif kind == "user_editable_context" or role == "system":
            self.messages.append(Message(role="system", content=text))
        else:
            self.messages.append(Message(role="user", content=text))

    def close(self) -> None:
        """End the assistant's turn, if one is open."""
        if not self._is_waiting:
            self._thoughts = []
            return
        if self._is_cut:
            self.excluded[len(self.messages)] = "truncated"
        self.messages.append(
            Message(
                role="assistant",
                content="\n".join(self._texts) or None,
                reasoning="\n".join(self._thoughts) or None,
                tool_calls=tuple(self._calls),
            )
        )
        self._unanswered = self._calls
        self._texts, self._thoughts, self._calls, self._is_cut = [], [], [], False

    @property
    def _is_waiting(self) -> bool:
        return bool(self._texts or self._calls)

    def _answer(self, item: dict[str, Any], content: dict[str, Any], kind: str, about: dict[str, Any]) -> None:
        if kind == "thoughts":
            thoughts = [as_object(thought).get("content") for thought in member(content, "thoughts", list)]
            self._thoughts += [thought for thought in thoughts if isinstance(thought, str) and thought]
            return
        text = self._text(content, kind)
        ending = about.get("finish_details")
        is_at_limit = isinstance(ending, dict) and ending.get("type") in ("max_tokens", "interrupted")
        self._is_cut = (
            self._is_cut or is_at_limit or item.get("status") in ("in_progress", "finished_partial_completion")
        )
        recipient = optional(item, "recipient", str) or "all"
        if recipient == "all" and item.get("weight") == 0 and text:
            self._lose("unknown_item", "a hidden answer")  # in no later context
        elif recipient == "all":
            self._texts += [text] if text else []
        else:
            self._calls.append(ToolCall(name=recipient, arguments=_arguments(text), id=identifier(item, "id")))

    def _text(self, content: dict[str, Any], kind: str) -> str:
        if kind in ("text", "multimodal_text"):
            return "\n".join(filter(None, map(self._part, member(content, "parts", list))))
        if kind == "user_editable_context":
            return "\n\n".join(str(content[key]) for key in ("user_profile", "user_instructions") if content.get(key))
        for key in ("text", "result", "content"):
            if isinstance(content.get(key), str):
                return str(content[key])
        self._lose("unknown_item", kind)
        return ""

    def _part(self, part: Any) -> str:
        if isinstance(part, str):
            return part
        row = as_object(part)
        kind = str(row.get("content_type"))
        if isinstance(row.get("text"), str):
            return str(row["text"])
        self._lose(_MEDIA.get(kind) or "unknown_item", kind)
        return ""

    def _lose(self, code: str, detail: str = "") -> None:
        place = len(self.messages) + self._is_waiting
        self.losses.append(Loss(code=code, message=place, **({"detail": detail} if code == "unknown_item" else {})))

    def _call_of(self, author: dict[str, Any]) -> str | None:
        """The first call without a result of the tool that speaks (``web.search`` is sent to ``web``), or else the last
        call: a tool may speak several times."""
        tool = str(optional(author, "name", str)).partition(".")[0]
        for call in self._unanswered:
            if call.name.partition(".")[0] == tool:
                self._unanswered = [other for other in self._unanswered if other is not call]
                return call.id
        calls = (message.tool_calls for message in reversed(self.messages) if message.role == "assistant")
        return next((made[-1].id for made in calls if made), None)


def _arguments(text: str) -> str:
    """What was sent to a tool: a JSON object as it is, other text as its ``input``."""
    try:
        if text.lstrip().startswith("{") and isinstance(parse_json(text), dict):
            return text
    except ValueError:
        pass
    return json.dumps({"input": text}, ensure_ascii=False)


def _is_conversation(value: Any) -> bool:
    nodes = value.get("mapping") if isinstance(value, dict) else None
    return isinstance(nodes, dict) and any(isinstance(node, dict) and "parent" in node for node in nodes.values())
