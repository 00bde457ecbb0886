"""A model folder as a policy: `architecture` (tests/architectures.py, llama by default), then, in this order, further
`tokens` of the tokenizer (`special` or not), `change`: {file: {key: value}} in JSON files, `write`: {file: text},
`rename`: {old: new} and `remove`: files; `options` of the policy. `refused`: words of the one sentence that refuses it;
without it the policy is made."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from architectures import save
from pivotrl import plugins
from pivotrl.protocols import InputError


def run(case: dict[str, Any], folder: Path) -> None:
    place = save(case.get("architecture", "llama"), folder / "model")
    if "tokens" in case:
        tokenizer = AutoTokenizer.from_pretrained(place)
        tokenizer.add_tokens(case["tokens"], special_tokens=case.get("special", False))
        tokenizer.save_pretrained(place)
    for name, values in case.get("change", {}).items():
        content = json.loads((place / name).read_text()) if (place / name).exists() else {}
        (place / name).write_text(json.dumps(content | values))
    for name, text in case.get("write", {}).items():
        (place / name).write_text(text)
    for old, new in case.get("rename", {}).items():
        (place / old).rename(place / new)
    for name in case.get("remove", []):
        (place / name).unlink()

    def load() -> Any:
        options = {"lora_rank": 2, "device": "cpu", **case.get("options", {})}
        return plugins.load("policies", "hf", model=str(place), **options)

    if "refused" not in case:
        assert load().renderer.stop_ids
        return
    with pytest.raises(InputError) as refusal:
        load()
    words = str(refusal.value)
    assert case["refused"] in words and len(words.splitlines()) == 1, words
    if "change" in case and "config.json" in case["change"]:
        assert str(place) in words, words
