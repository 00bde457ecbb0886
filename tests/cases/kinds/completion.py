"""What a completion's `text` means at a turn (tests/case_turns.py) under a template: `want_calls` (name, arguments) and
`want_content`, or `want_error`, its code. `variables` are the template's."""

import json
from pathlib import Path
from typing import Any

from case_turns import tokenizer_of, turn_of
from pivotrl.rendering import Renderer


def run(case: dict[str, Any], folder: Path) -> None:
    renderer = Renderer(tokenizer_of(case), "template", variables=case.get("variables", {}))
    action, error = renderer.parse(case["text"], turn_of(case))
    assert error == case.get("want_error")
    assert [[call.name, json.loads(call.arguments)] for call in action.tool_calls] == case.get("want_calls", [])
    assert action.content == case.get("want_content")
