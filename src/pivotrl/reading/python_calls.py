"""Calls written as Python: ``[get_weather(city="Oslo"), now()]``, as in ToolACE, BFCL and Llama's prompts."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence

from pivotrl.records import Tool, ToolCall

_SHAPE = re.compile(r"\A\s*\[\s*[^\[\]\"']+?\(.*\)\s*\]\s*\Z", re.DOTALL)


def python_calls(text: str, tools: Sequence[Tool]) -> tuple[ToolCall, ...] | None:
    """The calls that a text consists of; None when it is anything else, or calls no declared tool.

    Nothing is evaluated but literals. Names may hold what Python's may not, such as blanks and dots.
    """
    if not tools or not _SHAPE.match(text):
        return None
    names = {f"tool_{number}": tool.name for number, tool in enumerate(tools)}
    for short, name in sorted(names.items(), key=lambda item: -len(item[1])):
        text = re.sub(rf"(?<=[\[,\s]){re.escape(name)}(?=\s*\()", short, text)
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if not isinstance(tree, ast.List) or not tree.elts:
            return None
        return tuple(_call(node, names) for node in tree.elts)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _call(node: ast.expr, names: dict[str, str]) -> ToolCall:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
        raise ValueError("not a call with named arguments")
    if node.func.id not in names or any(keyword.arg is None for keyword in node.keywords):
        raise ValueError("not a call of a declared tool")
    arguments = {str(keyword.arg): _value(keyword.value) for keyword in node.keywords}
    if len(arguments) < len(node.keywords):
        raise ValueError("an argument occurs twice")
    return ToolCall(name=names[node.func.id], arguments=json.dumps(arguments, ensure_ascii=False, allow_nan=False))


def _value(node: ast.expr) -> object:
    if isinstance(node, ast.Name) and node.id in ("true", "false", "null"):
        return json.loads(node.id)
    return ast.literal_eval(node)
