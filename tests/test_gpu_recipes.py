"""The recipes for a GPU: their commands exist, they stop when they had better, and every part of them runs."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from parsed_commands import require_parses
from pivotrl.options import InputError
from tiny import save_tiny_model

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "gpu" / "run.py"
sys.path.insert(0, str(RECIPE.parent))
formulas, recipe = importlib.import_module("formulas"), importlib.import_module("recipe")
RECIPES = recipe.RECIPES
LOGS = ("--logs", str(ROOT / "tests/data/nemo_gym/swe_pivot.jsonl"))


def arguments(name: str, *more: str) -> list[str]:
    return [str(RECIPE), name, *(LOGS if name == "swe" else ()), *more]


def printed(name: str, *more: str) -> list[list[str]]:
    """The commands that a recipe prints, as a shell reads them."""
    command = [sys.executable, *arguments(name, "--print", *more)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("pivotrl ")]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("size", [(), ("--try",)], ids=["full", "try"])
def test_the_printed_commands_are_those_of_a_whole_comparison(
    name: str, size: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = printed(name, *size)
    for words in commands:
        with monkeypatch.context() as patched:
            require_parses(words, patched)
    stages = [words[0] for words in commands]
    assert stages[:4] == ["read", "plan", "profile", "select"] and stages[-1] == "report" and "bench" in stages
    names = {words[words.index("--name") + 1] for words in commands if words[0] == "train" and "--name" in words}
    assert names == ({"imitation"} if name == "swe" else {"imitation", "end_to_end"})
    measured = [words for words in commands if words[0] == "evaluate"]
    assert len(measured) == stages.count("train") + 1, "each training, and before"


def test_the_table_of_formulas_is_current() -> None:
    assert formulas.page() == formulas.PAGE.read_text(), "run recipes/gpu/formulas.py"


def test_a_recipe_without_its_logs_says_which(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, RECIPE, "swe", "--print"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "needs --logs" in done.stderr and "Traceback" not in done.stderr


def plan(low: float, seconds: float) -> str:
    ends = {"mean": 2 * low, "low": low, "high": 3 * low}
    took = {"mean": seconds, "low": seconds / 2, "high": 2 * seconds}
    return json.dumps(
        {"plan": {"found": {"pivots": ends}, "bills": [{"profile_seconds": took, "training_seconds": took}]}}
    )


def test_a_recipe_ends_after_a_pilot_that_promises_too_little_or_takes_too_long() -> None:
    spec = importlib.util.spec_from_file_location("gpu_recipe_run", RECIPE)
    assert spec and spec.loader
    runner = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = runner  # its dataclass looks there
    spec.loader.exec_module(runner)
    runner.require_worth(plan(500, 3600), 500, 4.0)
    with pytest.raises(InputError, match="only 499 pivots, fewer than --min-pivots 500"):
        runner.require_worth(plan(499, 3600), 500, 4.0)
    with pytest.raises(InputError, match="4\\.0 hours, more than --max-hours 3"):
        runner.require_worth(plan(500, 3600), 500, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_part_of_a_recipe_runs_with_a_tiny_random_model(name: str, tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", max_positions=65_536)
    command = [sys.executable, *arguments(name, "--try", "--model", str(model), "--out", str(tmp_path / "run"))]
    assert subprocess.run(command, cwd=tmp_path).returncode == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "imitation" in page and ("end_to_end" in page) == (name != "swe")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.jsonl")}
    assert subprocess.run(command, cwd=tmp_path, stdout=subprocess.DEVNULL).returncode == 0
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.jsonl")}, "bought again"
