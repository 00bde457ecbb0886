"""``[TOOL_CALLS]name[ARGS]{...}``, once for each call: Mistral from tokenizer version 11 on."""

from __future__ import annotations

from collections.abc import Sequence

from pivotrl.records import Action, Tool
from pivotrl.text.styles.mistral import ARGUMENTS, MARK, THOUGHTS, parse

__all__ = ["THOUGHTS", "parse", "write"]


def write(action: Action, tools: Sequence[Tool]) -> str:
    return (action.content or "") + "".join(f"{MARK}{c.name}{ARGUMENTS}{c.arguments}" for c in action.tool_calls)
