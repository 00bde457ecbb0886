"""SPECIFICATION.md: every guarantee names tests that exist, and README promises nothing that is not in it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "SPECIFICATION.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith(("| guarantee", "| ---"))
]
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def names_in(file: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_every_guarantee_names_tests_that_exist(row: list[str]) -> None:
    guarantee, tests, twin = row
    assert guarantee.endswith(".")
    assert NAMED.search(tests), f"no test for: {guarantee}"
    for file, name in NAMED.findall(tests + twin):
        assert name in names_in(ROOT / "tests" / file), f"{file} has no {name}"
    assert not NAMED.sub("", tests + twin).strip(), "only tests stand in these cells"


def test_no_guarantee_is_said_twice() -> None:
    guarantees = [row[0] for row in ROWS]
    assert len(set(guarantees)) == len(guarantees)


def test_every_promise_of_the_readme_is_a_chapter_here() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    promises = re.search(r"^## What you can rely on\n(.*?)^## ", readme, re.M | re.S)
    assert promises
    bold = [text.rstrip(".") for text in re.findall(r"^- \*\*(.+?)\*\*", promises[1], re.M)]
    chapters = re.findall(r"^## (.+)$", TEXT, re.M)
    assert len(bold) >= 5
    missing = [text for text in bold if not any(chapter.startswith(text) for chapter in chapters)]
    assert not missing
