"""Every case of tests/cases: an input and the right outcome (tests/cases/README.md)."""

import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent / "cases"
CASES = [
    case for file in sorted(FOLDER.glob("*.json")) for case in json.loads(file.read_text(encoding="utf-8"))
]  # fmt: skip


def kind_module(kind: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"case_kind_{kind}", FOLDER / "kinds" / f"{kind}.py")
    assert spec is not None and spec.loader is not None, kind
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_case(case: dict[str, Any], tmp_path: Path) -> None:
    kind_module(case["kind"]).run(case, tmp_path)


def test_case_ids_are_unique_and_every_kind_is_used() -> None:
    doubled = [name for name, count in Counter(case["id"] for case in CASES).items() if count > 1]
    assert not doubled
    assert {case["kind"] for case in CASES} == {path.stem for path in (FOLDER / "kinds").glob("*.py")}
