"""What cases of rendering are made of: a turn, and a small tokenizer with a chat template."""

from __future__ import annotations

import json
from typing import Any

from chat_tokenizers import small_tokenizer, tokenizer_for
from pivotrl.protocols import Turn
from pivotrl.records import Loss, Message, Tool, ToolCall, Trajectory


def turn_of(case: dict[str, Any]) -> Turn:
    """The last assistant turn of ``messages`` (role, content, reasoning, id, calls of name, arguments and id); with
    ``open`` the turn after them all."""
    messages = tuple(
        Message(
            role=row["role"],
            content=row.get("content"),
            reasoning=row.get("reasoning"),
            tool_calls=tuple(
                ToolCall(name=name, arguments=json.dumps(given), id=number)
                for name, given, number in row.get("calls", ())
            ),
            tool_call_id=row.get("id"),
        )
        for row in case["messages"]
    )
    trajectory = Trajectory(
        id="a",
        task_id="t",
        messages=messages,
        tools=tuple(Tool(**tool) for tool in case.get("tools", ())),
        losses=tuple(Loss(**loss) for loss in case.get("losses", ())),
    )
    last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=0)
    return Turn(trajectory, len(messages) if case.get("open") else last)


def tokenizer_of(case: dict[str, Any]) -> Any:
    """``template`` is one of ``tests/data/templates``; or ``template_text`` with ``control`` tokens and ``eos``."""
    if "template" in case:
        return tokenizer_for(case["template"])
    return small_tokenizer(case["template_text"], tuple(case["control"]), case["eos"])
