"""docs/limits.md says what the tests check."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra 'hf'")

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

import limits_page


def test_the_page_of_limits_is_up_to_date() -> None:
    assert limits_page.DOCUMENT.read_text(encoding="utf-8") == limits_page.page(), "run python recipes/limits_page.py"
