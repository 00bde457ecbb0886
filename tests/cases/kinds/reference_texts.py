"""`lines` of a file of reference texts, `ids` that are read from it, or `refused`: words of the refusal."""

from pathlib import Path
from typing import Any

import pytest

from pivotrl.evaluation import load_retention
from pivotrl.protocols import InputError


def run(case: dict[str, Any], folder: Path) -> None:
    path = folder / "texts.jsonl"
    path.write_bytes("\n".join(case["lines"]).encode())
    if "refused" not in case:
        assert [text["id"] for text in load_retention(path)] == case["ids"]
        return
    with pytest.raises(InputError) as caught:
        load_retention(path)
    assert all(words in str(caught.value) for words in case["refused"]), caught.value
