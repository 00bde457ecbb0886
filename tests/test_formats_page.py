"""docs/formats.md says what the readers make of the samples today."""

import sys
from pathlib import Path

import pytest

from pivotrl import plugins

pytest.importorskip("pyarrow")
sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

import formats_table


def test_the_sections_are_up_to_date_and_every_reader_has_one() -> None:
    text = formats_table.DOCUMENT.read_text(encoding="utf-8")
    assert formats_table.render(text) == text, "run python recipes/formats_table.py"
    for name in plugins.names("readers"):
        assert name == "auto" or f"\n### `{name}`\n" in text, name
