"""A completion in a style of writing tool calls: `style`, `text`, `tools`; then `want_calls` (name, arguments) and
`want_content`, or `want_error`: true."""

import json
from pathlib import Path
from typing import Any

from pivotrl.parsing import parse_completion
from pivotrl.records import Tool


def run(case: dict[str, Any], folder: Path) -> None:
    tools = tuple(Tool(**tool) for tool in case.get("tools", ()))
    action, error = parse_completion(case["text"], case["style"], tools=tools)
    if case.get("want_error"):
        assert error, action
        return
    assert error is None, error
    assert [[call.name, json.loads(call.arguments)] for call in action.tool_calls] == case.get("want_calls", [])
    assert action.content == case.get("want_content")
