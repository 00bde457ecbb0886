"""What a player wrote at a benchmark of `pivotrl bench`: the folder ``RUN/bench/NAME/PLAYER``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pivotrl import plugins
from pivotrl.protocols import InputError
from pivotrl.protocols.harness import PLAN
from pivotrl.reading.sources import file_refusal
from pivotrl.records import Refusal, Trajectory, TrialResult
from pivotrl.runs.manifest import SUFFIX, read_manifest
from pivotrl.storage.record_files import RecordFile


def claims(path: Path) -> bool:
    """A folder with its manifest and its trials beside it."""
    return path.is_dir() and all(path.with_name(f"{path.name}{end}").is_file() for end in (SUFFIX, ".trials.jsonl"))


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """The logs of all trials, read by the reader of their format. Trials without a verdict are left out.

    Raises:
        InputError: the folder is not of a benchmark, or its harness is not known here.
    """
    if not claims(path):
        raise InputError(f"{path} is no folder of a player; give RUN/bench/NAME/PLAYER, which `pivotrl bench` makes")
    manifest = read_manifest(path.with_name(f"{path.name}{SUFFIX}"))
    harness = plugins.load("harnesses", str(manifest.plugins.get("harness")))
    read_log = plugins.load("readers", harness.reader)
    trials = RecordFile(path.with_name(f"{path.name}.trials.jsonl"), TrialResult)
    judged = {trial.folder for trial in trials if trial.reward is not None}
    for folder in sorted(path / name for name in judged):
        try:
            number = json.loads((folder / PLAN).read_bytes())["trial"]
        except (OSError, ValueError, LookupError) as error:
            yield Refusal(place=str(folder / PLAN), reason=f"it cannot be read ({error}); restore it")
            continue
        for log in sorted(folder.glob(harness.logs)):
            try:
                for item in read_log(log):
                    yield _named(item, path.name, number) if isinstance(item, Trajectory) else item
            except InputError as error:
                yield file_refusal(log, error)


def _named(trajectory: Trajectory, player: str, trial: int) -> Trajectory:
    """Its id says who played it, and when: the logs of a trial do not know of the others."""
    return trajectory.model_copy(update={"id": f"{player}-{trajectory.id}~{trial}"})
