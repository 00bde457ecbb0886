"""swebench's own scorer: its predictions, its command, and what its report says."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from pivotrl.harnesses.swe.episode import Scorer
from pivotrl.protocols import InputError
from pivotrl.protocols.harness import PLAN, Batch, json_of
from pivotrl.storage.record_files import write_file

VERSION = "5.0.2"
PREDICTIONS = "predictions.jsonl"
RESULT = ".result.json"
FAULT = "scorer_"
"""How reasons begin that say nothing of the agent."""
_PLAYER = "player"
_PLACE = f"logs/run_evaluation/*/{_PLAYER}"
_NOT_APPLIED = ">>>>> Patch Apply Failed"
_TIMED_OUT = "Timeout error"
_SCRIPT = Path(__file__).with_name("swebench_rows.py")
_LOAD_SECONDS = 300
_OWN = f"make an environment (`python3 -m venv VENV && VENV/bin/pip install swebench=={VERSION}`) and give " + (
    "swebench_python='VENV/bin/python'"
)


def require_scorer(python: str | None, rows: str) -> None:
    """Raises:
    InputError: docker or swebench is missing, it is another version, or it cannot score these rows.
    """
    if _fails(["docker", "info"]):
        raise InputError(
            "swe: swebench's scorer runs the tests in docker, and `docker info` fails here; install and start docker "
            "(https://docs.docker.com/engine/install), or leave out scorer='swebench' to judge in our sandbox"
        )
    require_rows(python, rows)


def require_rows(python: str | None, rows: str, predictions: Path | None = None) -> None:
    """Raises:
    InputError: swebench is missing, it is another version, or it cannot score these rows or read these predictions.
    """
    if python is None or not os.access(python, os.X_OK) or Path(python).is_dir():
        raise InputError(f"swe: swebench_python={python!r} is no interpreter that has swebench; {_OWN}")
    words = [python, str(_SCRIPT), rows, *([str(predictions)] if predictions else [])]
    try:
        done = subprocess.run(  # noqa: S603 - the interpreter that the user named
            words, env=_environment(), capture_output=True, text=True, errors="replace", timeout=_LOAD_SECONDS
        )
        told = json.loads(done.stdout.splitlines()[-1])
    except (OSError, ValueError, IndexError):
        raise InputError(f"swe: {python} has no swebench; {_OWN}") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"swe: swebench has not read {rows} after {_LOAD_SECONDS} s") from None
    if told["version"] != VERSION:
        raise InputError(f"swe: {python} has swebench {told['version']}; results are read at version {VERSION}: {_OWN}")
    if told["error"]:
        raise InputError(f"swe: swebench cannot score {rows}: {told['error']}")


def write_predictions(folder: Path, task: str, patch: str) -> None:
    """The file that swebench reads; once it is there, the episode need not be played again."""
    row = {"instance_id": task, "model_name_or_path": _PLAYER, "model_patch": patch}
    write_file(folder / PREDICTIONS, json.dumps(row) + "\n")


def score(scorer: Scorer, task: str) -> tuple[float | None, str]:
    """Run swebench in the present folder on its predictions. Returns what :func:`judged` does."""
    words = [scorer.python, "-m", "swebench.harness.run_evaluation", "--dataset_name", scorer.rows]
    words += ["--predictions_path", PREDICTIONS, "--instance_ids", task, "--max_workers", "1"]
    # It names the container after the run, and removes one of that name: trials side by side must not share it.
    run = hashlib.sha256(str(Path.cwd()).encode()).hexdigest()[:12]
    words += ["--timeout", str(scorer.seconds), "--run_id", f"pivotrl-{run}"]
    done = subprocess.run(words, env=_environment(), stdin=subprocess.DEVNULL)  # noqa: S603
    if done.returncode:
        sys.stderr.write(f"Error: swebench ended with status {done.returncode}\n")
    return judged(Path(), task)


def judged(folder: Path, task: str) -> tuple[float | None, str]:
    """(reward or None, reason) by the files that swebench left in a folder."""
    prediction = json.loads((folder / PREDICTIONS).read_text("utf-8"))
    if not prediction["model_patch"]:
        return 0.0, "empty_patch"  # swebench does not run it
    place = next(folder.glob(f"{_PLACE}/{task}"), folder)
    report: Any = json_of(place / "report.json")
    told = report.get(task) if isinstance(report, dict) else None
    if not isinstance(told, dict) or not isinstance(told.get("resolved"), bool):
        log = _text(place / "run_instance.log")
        if _NOT_APPLIED in log:
            return 0.0, "patch_not_applied"
        return None, f"{FAULT}timed_out" if _TIMED_OUT in _text(place / "test_output.txt") else f"{FAULT}failed"
    if told.get("infra_failure"):
        return None, f"{FAULT}environment_failed"
    if not told.get("patch_successfully_applied") and not told["resolved"]:
        return 0.0, "tests_not_run"
    return (1.0, "resolved") if told["resolved"] else (0.0, "not_resolved")


def played_before(batch: Batch) -> Path | None:
    """The folder of an earlier process that played this trial to its end, and then was killed or could not judge it."""
    plan = {"tasks": list(batch.tasks), "trial": batch.trial}
    for path in sorted(batch.folder.parent.glob(f"*/{PREDICTIONS}"), reverse=True):
        result = json_of(path.with_name(RESULT))
        is_open = result is None or (result["reward"] is None and result["reason"].startswith(FAULT))
        if path.parent != batch.folder and json_of(path.with_name(PLAN)) == plan and is_open:
            return path.parent
    return None


def take_over(folder: Path, task: str) -> None:
    """Copy what was played into the present folder, the predictions last."""
    for name in (f"{task}.traj.json", PREDICTIONS):
        shutil.copyfile(folder / name, f".{name}.part")
        Path(f".{name}.part").rename(name)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _fails(words: list[str]) -> bool:
    try:
        return subprocess.run(words, capture_output=True, timeout=30).returncode != 0  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return True
