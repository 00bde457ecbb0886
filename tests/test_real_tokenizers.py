"""Golden token ids under real tokenizers, where these are to be had (see golden_ids.py); elsewhere skipped by name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from golden_ids import CONTEXTS, FAMILIES, GOLDEN, TOOL, load, rendered
from pivotrl import Message
from pivotrl.rendering import Renderer

EXPECTED = json.loads(GOLDEN.read_text(encoding="utf-8"))
FOLDER = Path(os.environ["PIVOTRL_TOKENIZERS"]) if "PIVOTRL_TOKENIZERS" in os.environ else None


def tokenizer_of(family: str) -> Any:
    tokenizer = load(family, FOLDER)
    if tokenizer is None:
        pytest.skip(f"no tokenizer of {family} here; see tests/golden_ids.py")
    return tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_a_real_tokenizer_gives_the_golden_ids(family: str) -> None:
    assert rendered(tokenizer_of(family)) == EXPECTED[family]["rendered"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_golden_ids_are_those_of_transformers(family: str) -> None:
    tokenizer = tokenizer_of(family)
    own = Renderer(tokenizer, "template")
    tools = [{"type": "function", "function": TOOL.model_dump()}] if own.identity["actions"] != "text" else None

    def entry(message: Message) -> dict[str, Any]:
        calls = [
            {"type": "function", "id": c.id, "function": {"name": c.name, "arguments": json.loads(c.arguments)}}
            for c in message.tool_calls
        ]
        extra = {"tool_call_id": message.tool_call_id, "name": TOOL.name} if message.role == "tool" else {}
        return (
            {"role": message.role, "content": message.content or ""} | ({"tool_calls": calls} if calls else {}) | extra
        )

    for name, messages in CONTEXTS.items():
        golden = EXPECTED[family]["rendered"][name]
        if isinstance(golden, str) or (name == "result" and family == "mistral_v3"):  # its ids are ours
            continue
        text = tokenizer.apply_chat_template(
            [entry(m) for m in messages], tools=tools, add_generation_prompt=True, tokenize=False
        )
        theirs = tokenizer(text, add_special_tokens=False).input_ids
        assert (golden == theirs) == (name != "hostile")
        assert tokenizer.decode(golden) == tokenizer.decode(theirs)


def test_the_golden_ids_cover_seven_families() -> None:
    assert set(EXPECTED) == set(FAMILIES) and len(FAMILIES) == 7
    for family in EXPECTED.values():
        assert sum(isinstance(ids, list) for ids in family["rendered"].values()) >= 2
