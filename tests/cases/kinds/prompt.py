"""The prompt of a turn (tests/case_turns.py) in a `style`: `order` (texts, each behind the one before), `ours` (that of
our ChatML), `refused` (a part of the reason), or else what transformers writes with the template."""

from pathlib import Path
from typing import Any

import pytest

from case_turns import tokenizer_of, turn_of
from pivotrl.protocols import NotRenderable
from pivotrl.rendering import Renderer


def run(case: dict[str, Any], folder: Path) -> None:
    tokenizer, turn = tokenizer_of(case), turn_of(case)
    renderer = Renderer(tokenizer, case.get("style", "auto"))
    if "refused" in case:
        with pytest.raises(NotRenderable, match=case["refused"]):
            renderer.prompt(turn)
        return
    found = tokenizer.decode(renderer.prompt(turn))
    if "order" in case:
        places = [found.rfind(text) for text in case["order"]]
        assert places == sorted(places) and min(places) >= 0, found
    elif case.get("ours"):
        assert found == tokenizer.decode(Renderer(tokenizer, "chatml").prompt(turn))
    else:
        entries = [{"role": message.role, "content": message.content} for message in turn.context]
        assert found == tokenizer.apply_chat_template(entries, tokenize=False, add_generation_prompt=True)
