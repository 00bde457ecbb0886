"""The game in docs/plugins.md is a user's whole script: it runs through the command line and type-checks.

Run alone: python -m pytest tests/test_documented_game.py
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from pivotrl.records import EpisodeResult
from pivotrl.storage.record_files import read_records

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "plugins.md").read_text()


def execute(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "MYPYPATH": str(ROOT / "src")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def game(tmp_path: Path) -> Path:
    (text,) = re.findall(r"```python\n(# sums\.py.*?)```", PAGE, re.DOTALL)
    (tmp_path / "sums.py").write_text(text)
    return tmp_path


def test_the_documented_game_runs_through_the_command_line(game: Path) -> None:
    written = execute(game, sys.executable, "sums.py")
    (game / "sums.jsonl").write_text(written.stdout)
    (command,) = re.findall(r"^    (pivotrl run sums\.jsonl.*?)\n\n", PAGE, re.DOTALL | re.MULTILINE)
    finished = execute(game, sys.executable, "-m", "pivotrl.cli", *shlex.split(command.replace("\\\n", " "))[1:])
    assert finished.returncode == 0, finished.stderr
    for side in ("before", "after"):
        results = read_records(game / "runs" / "sums" / "evaluations" / f"{side}.episodes.jsonl", EpisodeResult)
        assert Counter(result.task_id for result in results) == {f"game-{number}": 3 for number in range(100, 105)}
        assert {result.environment for result in results} == {"sums:make_environments(count=5)"}
        assert all(result.num_turns == 3 and result.reason == "played" for result in results)
    assert (game / "runs" / "sums" / "report.html").is_file()
    plugins = [f"sums:make_environments(count={count})" for count in (2, 3)]
    options = ("--name", "both", "--verifier", "sums:verify", "--policy", "tabular", "--environments", *plugins)
    both = execute(game, sys.executable, "-m", "pivotrl.cli", "evaluate", "runs/sums", *options)
    assert both.returncode == 0, both.stderr
    results = read_records(game / "runs" / "sums" / "evaluations" / "both.episodes.jsonl", EpisodeResult)
    # each task as often as the run itself played it: an evaluation measures as those before it did
    assert Counter(result.environment for result in results) == {plugins[0]: 2 * 3, plugins[1]: 3 * 3}


USES = """
from sums import make_environments, read, verify

from pivotrl.protocols import MakeEnvironments, Reader, Verifier

reader: Reader = read
verifier: Verifier = verify
factory: MakeEnvironments = make_environments
"""


def test_the_documented_game_type_checks_and_a_wrong_one_does_not(game: Path) -> None:
    script = (game / "sums.py").read_text()
    (game / "uses.py").write_text(USES)
    wrong = script.replace("-> Verdict:", "-> bool:").replace("def step(self, action: Action)", "def step(self)")
    (game / "wrong").mkdir()
    (game / "wrong" / "sums.py").write_text(wrong)
    (game / "wrong" / "uses.py").write_text(USES)
    for folder, code in ((game, 0), (game / "wrong", 1)):
        options = ("--strict", "--config-file=", f"--cache-dir={game / 'cache'}", "--follow-imports=silent")
        checked = execute(folder, sys.executable, "-m", "mypy", *options, "sums.py", "uses.py")
        assert checked.returncode == code, checked.stdout + checked.stderr
    for fault in ('(got "Game", expected "Environment")', 'variable has type "Verifier"'):
        assert fault in checked.stdout, checked.stdout
