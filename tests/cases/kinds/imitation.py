"""What imitation trains at a turn (tests/case_turns.py) under a template: the text `want`, or it is `refused` with a
part of the reason. `reasoning` and `variables` are options of the renderer."""

from pathlib import Path
from typing import Any

import pytest

from case_turns import tokenizer_of, turn_of
from pivotrl.protocols import NotRenderable
from pivotrl.rendering import Renderer


def run(case: dict[str, Any], folder: Path) -> None:
    turn = turn_of(case)
    options = {name: case[name] for name in ("reasoning", "variables") if name in case}
    renderer = Renderer(tokenizer_of(case), case.get("style", "template"), **options)
    if "refused" in case:
        with pytest.raises(NotRenderable, match=case["refused"]):
            renderer.encode_action(turn.expected_action, turn)
    else:
        assert renderer.decode(renderer.encode_action(turn.expected_action, turn)) == case["want"]
