"""A small finished run with a second selection, training and evaluation, and every command that reads it."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pivotrl import EvaluationOptions, ProfileOptions, SelectionOptions, TrainingOptions, TurnOptions, run, summarise
from pivotrl.cli.tables import print_turn
from pivotrl.exporters import trl
from pivotrl.judging.lint import CheckOptions, check_stage
from pivotrl.policies.tabular import Policy
from pivotrl.protocols import Notice
from pivotrl.readers.chat import read
from pivotrl.rows.exporting import ExportOptions, export
from pivotrl.stages.evaluating import evaluate_stage
from pivotrl.stages.profiling import load_turns, profile_stage
from pivotrl.stages.selecting import select_stage
from pivotrl.stages.training import train_stage
from pivotrl.verifiers.exact import verify
from test_pipeline import write_logs

PROFILING = ProfileOptions(num_samples=4)
TRAINING = TrainingOptions(num_steps=2, turns_per_step=4, group_size=4, learning_rate=1.0, checkpoint_every=1)
SELECTION = SelectionOptions()
STRICT = SelectionOptions(max_mean=0.4)
CHECKING = CheckOptions(check_turns=3, probes_per_kind=1)
LOGS = "logs.jsonl"


def finish_run(folder: Path) -> Path:
    """``folder/run``, made from ``folder/logs.jsonl``."""
    write_logs(folder / LOGS, 8)
    directory = folder / "run"
    resume(directory, resume=False)
    select_stage(directory, selection=STRICT, name="strict")
    train_stage(
        directory, policy=Policy(), verifier=verify, training=TRAINING, checking=CHECKING, name="b", selection="strict"
    )
    evaluate_stage(directory, name="after-b", policy=Policy(), verifier=verify, training="b", load_weights=True)
    return directory


def resume(directory: Path, resume: bool = True, **changes: Any) -> Any:
    given = {"profiling": PROFILING, "training": TRAINING, "checking": CHECKING, "policy": Policy(), **changes}
    logs = str(directory.parent / LOGS)
    return run(logs, directory, reader=read, verifier=verify, selection=SELECTION, resume=resume, **given)


def snapshot(directory: Path) -> dict[str, str]:
    """sha256 of every file but the lock."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != ".lock")
    return {path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _profile(directory: Path) -> Any:
    return profile_stage(
        directory, sampler=Policy(), verifier=verify, turns=TurnOptions(), profiling=PROFILING, checking=CHECKING
    )


def _train(directory: Path) -> Any:
    return train_stage(directory, policy=Policy(), verifier=verify, training=TRAINING, checking=CHECKING)


def _train_b(directory: Path) -> Any:
    return train_stage(
        directory, policy=Policy(), verifier=verify, training=TRAINING, checking=CHECKING, name="b", selection="strict"
    )


def _evaluate(directory: Path) -> Any:
    return evaluate_stage(directory, name="after", policy=Policy(), verifier=verify, load_weights=True)


def _evaluate_b(directory: Path) -> Any:
    options = EvaluationOptions()
    return evaluate_stage(
        directory, name="after-b", policy=Policy(), verifier=verify, evaluation=options, training="b", load_weights=True
    )


def _export(directory: Path) -> Any:
    out = directory.parent / "rows"
    return export(directory, trl.export, out, ExportOptions(validation_fraction=0.0)).counts


def _check(directory: Path) -> Any:
    turns, _ = load_turns(directory, TurnOptions())
    return check_stage(directory, turns, verify, CHECKING).num_turns


READS: dict[str, Callable[[Path], Any]] = {
    "profile": _profile,
    "train": _train,
    "train b": _train_b,
    "evaluate": _evaluate,
    "evaluate b": _evaluate_b,
    "report": lambda directory: json.dumps(summarise(directory).as_json(), default=str),
    "export": _export,
    "show": lambda directory: print_turn(directory, None, 4),
    "show turn": lambda directory: print_turn(directory, first_turn(directory), 4),
    "check": _check,
    "resume": lambda directory: resume(directory).as_json()["comparisons"],
    "select": lambda directory: select_stage(directory, selection=SELECTION),  # the last, as it mends a selection
}


def first_turn(directory: Path) -> str:
    for line in (directory.parent / "whole" / "profiles.jsonl").read_text().splitlines():
        return str(json.loads(line)["turn_id"])
    raise AssertionError("the profile is empty")


def outcome(command: str, directory: Path) -> tuple[str, Any]:
    """("done", what it returned) or ("refused", the message). Anything else that is raised would be a traceback."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        try:
            return "done", READS[command](directory)
        except ValueError as error:  # the command line turns it into exit code 2
            return "refused", str(error)
