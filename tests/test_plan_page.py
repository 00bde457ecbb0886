"""The commands of docs/planning.md, as a user would give them, print what the page shows.

Run alone: python -m pytest tests/test_plan_page.py
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from test_documented_game import execute

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "planning.md").read_text()
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_OF_THE_MACHINE = ("time", "money", "  95 %")


def commands() -> list[str]:
    return re.findall(r"^    (pivotrl (?:.*\\\n)*.*)$", PAGE, re.MULTILINE)


def blocks() -> list[list[str]]:
    return [block.splitlines() for block in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)]


def numbers(line: str) -> list[float]:
    return [float(text.replace(",", "")) for text in _NUMBER.findall(line)]


def words(lines: list[str]) -> str:
    """Without numbers, rules and spaces: what does not depend on the machine."""
    return re.sub(r"(\d[\d,.]*|#|N)( (s|min|h)\b)?|[\s─]", "", " ".join(lines))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    return tmp_path


def test_the_page_shows_what_its_commands_print(folder: Path) -> None:
    read, pilot, formula = commands()[:3]  # the other one needs a model
    printed = {}
    for command in (read, pilot, formula):
        arguments = shlex.split(command.replace("\\\n", " "))[1:]
        found = execute(folder, sys.executable, "-m", "pivotrl.cli", *arguments)
        assert found.returncode == 0, found.stderr
        printed[command] = found.stdout.splitlines()
    shown = dict(zip((pilot, formula), blocks(), strict=True))
    assert [line.rstrip() for line in printed[formula]] == shown[formula]
    assert words(printed[pilot]) == words(shown[pilot])
    tables = [
        lines[: next(n for n, line in enumerate(lines) if line.startswith("training:"))]
        for lines in (shown[pilot], printed[pilot])
    ]
    compared = [
        (numbers(ours), numbers(theirs))
        for ours, theirs in zip(*tables, strict=True)
        if not ours.startswith(_OF_THE_MACHINE)
    ]
    assert sum(len(ours) for ours, _ in compared) > 40
    for ours, theirs in compared:  # another processor rounds differently, so a few samples may differ
        assert theirs == pytest.approx(ours, rel=0.1, abs=2)
