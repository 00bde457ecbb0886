"""Conversations that Claude.ai exports: ``conversations.json``, an array of ``{uuid, name, chat_messages}``.

A message ``{sender, text, content}`` of the assistant holds all that was done until the user spoke again; it becomes a
turn for each answer of the model, with the results of its tools between them. Text that was extracted from an
attachment stands behind the user's words, where the export has it. System message and tools are not exported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import task_hash
from pivotrl.reading.fields import as_object, each, member, optional
from pivotrl.reading.formats.anthropic_messages import assistant_message, result_message
from pivotrl.reading.sources import Entry, convert_entries
from pivotrl.records import Loss, Message, Refusal, Trajectory

_SENDERS = {"human": "user", "user": "user", "assistant": "assistant"}
_SILENT = ("token_budget", "flag")
"""Blocks that hold nothing that the model wrote or saw."""


def recognises(head: Sequence[Any]) -> bool:
    """Conversations with ``chat_messages``."""
    return 2 * sum(map(_is_conversation, head)) > len(head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per conversation, none for an empty one. Where a message was edited, the branch that ends last is
    followed.

    Raises:
        InputError: the file cannot be read.
    """

    def convert(value: Any, entry: Entry) -> list[Trajectory]:
        row = as_object(value)
        return [] if row.get("chat_messages") == [] else [_trajectory(row, f"{path.stem}-{entry.number}")]

    return convert_entries(path, convert)


def _trajectory(row: dict[str, Any], name: str) -> Trajectory:
    said, num_others = _branch(row, each("chat_messages", member(row, "chat_messages", list), as_object))
    messages: list[Message] = []
    losses = [Loss(code="tools_not_logged"), Loss(code="context_not_logged")]
    excluded: dict[int, str] = {}
    for index, item in enumerate(said):
        lost: list[Loss] = []
        try:
            made = _messages(item, lost)
        except ValueError as error:
            raise ValueError(f"chat_messages[{index}]: {error}") from error
        losses += [loss.model_copy(update={"message": len(messages) + (loss.message or 0)}) for loss in lost]
        messages += made
        if made and made[-1].role == "assistant" and _is_cut(item):
            excluded[len(messages) - 1] = "truncated"
    if not any(message.role == "assistant" for message in messages):
        raise ValueError("there is no assistant message, so there is no turn to learn from")
    if num_others:
        losses.append(Loss(code="branch", detail=f"{num_others} messages on other branches"))
    return Trajectory(
        id=optional(row, "uuid", str) or name,
        task_id=task_hash(messages),
        messages=tuple(messages),
        excluded=excluded,
        metadata={"foreign": {"name": row["name"]}} if row.get("name") else {},
        losses=tuple(losses),
    )


def _branch(row: dict[str, Any], items: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """(the messages of one branch in order, how many lie on others); all of them where they name no parents."""
    by_id = {item["uuid"]: item for item in items if isinstance(item.get("uuid"), str)}
    if len(by_id) < len(items) or not any(str(item.get("parent_message_uuid")) in by_id for item in items):
        return items, 0
    leaf: dict[str, Any] | None = by_id.get(str(row.get("current_leaf_message_uuid")), items[-1])
    chain: list[dict[str, Any]] = []
    seen: set[str] = set()
    while leaf is not None and leaf["uuid"] not in seen:
        seen.add(leaf["uuid"])
        chain.append(leaf)
        leaf = by_id.get(str(leaf.get("parent_message_uuid")))
    return chain[::-1], len(items) - len(chain)


def _messages(item: dict[str, Any], lost: list[Loss]) -> list[Message]:
    sender = member(item, "sender", str)
    if sender not in _SENDERS:
        raise ValueError(f"unknown sender {sender}; there are {', '.join(_SENDERS)}")
    content = optional(item, "content", list) or [{"type": "text", "text": item.get("text") or ""}]
    blocks = [block for block in each("content", content, as_object) if block.get("type") not in _SILENT]
    if _SENDERS[sender] == "user":
        return [_asked(item, blocks, lost)]
    messages: list[Message] = []
    answer: list[dict[str, Any]] = []
    for block in blocks:
        if block.get("type") != "tool_result":
            answer.append(block)
            continue
        if answer:
            messages.append(assistant_message(answer, lost, len(messages)))
            answer = []
        named = {**block, "tool_use_id": block.get("tool_use_id") or ""}
        result = result_message(named, lost, len(messages))
        messages.append(result.model_copy(update={"tool_call_id": result.tool_call_id or None}))
    if answer or not messages:
        messages.append(assistant_message(answer, lost, len(messages)))
    return messages


def _asked(item: dict[str, Any], blocks: Sequence[dict[str, Any]], lost: list[Loss]) -> Message:
    texts = [member(block, "text", str) for block in blocks if block.get("type") == "text"]
    others = [block for block in blocks if block.get("type") != "text"]
    lost += [Loss(code="unknown_item", message=0, detail=str(block.get("type"))[:80]) for block in others]
    for attachment in each("attachments", optional(item, "attachments", list) or [], as_object):
        extracted = optional(attachment, "extracted_content", str)
        if extracted:
            texts.append(extracted)
        else:
            lost.append(Loss(code="document", message=0))
    lost += [Loss(code="document", message=0) for _ in optional(item, "files", list) or []]
    return Message(role="user", content="\n\n".join(filter(None, texts)))


def _is_cut(item: dict[str, Any]) -> bool:
    return item.get("truncated") is True or item.get("stop_reason") == "max_tokens"


def _is_conversation(value: Any) -> bool:
    items = value.get("chat_messages") if isinstance(value, dict) else None
    return isinstance(items, list) and all(isinstance(item, dict) and "sender" in item for item in items)
