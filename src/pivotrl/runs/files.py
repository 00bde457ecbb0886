"""Access to the files of a run: every file is verified here before it is opened."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pivotrl.protocols import InputError, Turn
from pivotrl.reading.alternatives import with_alternatives, with_labels
from pivotrl.records import (
    AnswerResult,
    DemonstrationScore,
    EpisodeResult,
    Label,
    Manifest,
    ProgressResult,
    Record,
    Refusal,
    RetentionResult,
    SampleGroup,
    Selection,
    SkippedTurn,
    StepMetrics,
    Trajectory,
    TrialResult,
    TurnResult,
)
from pivotrl.rollouts import joined
from pivotrl.runs.layout import outputs, selection_stage
from pivotrl.runs.manifest import again, find_manifest, manifest_path, require_no_strangers, verify_outputs
from pivotrl.storage.record_files import RecordFile, read_records, require_whole, sha256_of_file

R = TypeVar("R", bound=Record)


class RunFiles:
    """The files of one run directory, for one command: each finished stage is verified once.

    Raises:
        InputError: from every method, a file or manifest is missing or damaged, or its stage is not finished.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self._verified: dict[str, Manifest] = {}
        self._records_verified: set[str] = set()
        self._hashes: dict[str, str] = {}
        self._opened: dict[str, RecordFile[Any]] = {}
        self._profiles: list[SampleGroup] | None = None

    def finished(self, stage: str) -> Manifest:
        """The manifest of a stage that is complete, and whose files are what it wrote."""
        if stage not in self._verified:
            manifest = find_manifest(self.directory, stage)
            command = again(self.directory, stage).removesuffix(" --overwrite")
            if manifest is None:
                raise InputError(f"{self.directory} has no {manifest_path(Path(), stage)}; run `{command}` first")
            if manifest.status != "complete":
                go_on = f"{command} --resume" if stage == "read" else command
                raise InputError(f"{manifest_path(self.directory, stage)} is not finished; continue with `{go_on}`")
            verify_outputs(self.directory, stage, manifest)
            self._require_inputs(stage, manifest)
            self._verified[stage] = manifest
        return self._verified[stage]

    def _require_inputs(self, stage: str, manifest: Manifest) -> None:
        """Check that the stage's inputs still exist and have not been replaced since."""
        for name, sha256 in manifest.inputs.items():
            if stage != "read" and (self.directory / name).is_file() and self.sha256(name) != sha256:
                raise InputError(
                    f"{self.directory / name} differs from the input of the {stage} stage; restore it, or run that "
                    f"stage again with `{again(self.directory, stage)}`"
                )

    def sha256(self, name: str) -> str:
        """Of a file by its path in the directory; read from a verified manifest where there is one."""
        if name not in self._hashes:
            known = [m.outputs[name] for m in self._verified.values() if m.outputs and name in m.outputs]
            found = known[0].sha256 if known and known[0] is not None else None
            self._hashes[name] = found or sha256_of_file(self._existing(name))
        return self._hashes[name]

    def _existing(self, name: str) -> Path:
        path = self.directory / name
        if not path.is_file():
            raise InputError(f"{path} does not exist; restore it, or run the stage that writes it")
        return path

    def _read(self) -> None:
        """The trajectories to train on. Hand-written files without a manifest are accepted."""
        if manifest_path(self.directory, "read").is_file():
            self.finished("read")

    def trajectories(self) -> list[Trajectory]:
        """The trajectories to train on, each turn with its alternatives: other actions known to be right."""
        self._read()
        return with_alternatives(read_records(self.directory / "trajectories.jsonl", Trajectory))

    def heldout(self) -> list[Trajectory]:
        """The held-out trajectories, as :meth:`trajectories`; none if nothing was held out."""
        self._read()
        path = self.directory / "heldout.jsonl"
        return with_alternatives(read_records(path, Trajectory)) if path.is_file() else []

    def profiles(self) -> list[SampleGroup]:
        """One group a turn; samples that were added later are part of it."""
        self.finished("profile")
        if self._profiles is None:
            self._profiles = joined(read_records(self.directory / "profiles.jsonl", SampleGroup))
        return self._profiles

    def selections(self, name: str | None = None) -> list[Selection]:
        """Every row of a selection, chosen or not."""
        stage = selection_stage(name)
        self.finished(stage)
        return read_records(self.directory / outputs(stage)[0], Selection)

    def labels(self, name: str | None = None) -> list[Label]:
        """The labels that a selection was made with."""
        _, *labels = self.selection_files(name)
        return [label for file in labels for label in read_records(self.directory / file, Label)]

    def selection_files(self, name: str | None = None) -> tuple[str, ...]:
        """The files that a selection consists of, by their path in the directory."""
        written = self.finished(selection_stage(name)).outputs or {}
        first, *others = outputs(selection_stage(name))
        return (first, *(file for file in others if written.get(file)))

    def turns(self, turn_ids: Iterable[str], labels: Iterable[Label] = ()) -> list[Turn]:
        """Turns to train on, by id and in that order; what labels accept is among their alternatives."""
        by_id = {trajectory.id: trajectory for trajectory in with_labels(self.trajectories(), labels)}
        found = []
        for turn_id in turn_ids:
            name, _, index = turn_id.rpartition("#")
            if name not in by_id or not index.isdecimal() or int(index) >= len(by_id[name].messages):
                raise InputError(
                    f"{self.directory / 'trajectories.jsonl'} has no turn {turn_id!r}: profile and trajectories are of "
                    f"different runs. Restore the file, or do `{again(self.directory, 'profile')}`"
                )
            found.append(Turn(by_id[name], int(index)))
        return found

    # --- record files of stages that need not be finished; empty where there are none -------------------------------

    def logged(self) -> RecordFile[Trajectory]:
        """Trajectories to train on, as they were read: without alternatives."""
        return self._file("read", "trajectories.jsonl", Trajectory)

    def logged_heldout(self) -> RecordFile[Trajectory]:
        """Held-out trajectories, as they were read."""
        return self._file("read", "heldout.jsonl", Trajectory)

    def refused(self) -> RecordFile[Refusal]:
        return self._file("read", "refused.jsonl", Refusal)

    def skipped(self) -> RecordFile[SkippedTurn]:
        return self._file("profile", "skipped.jsonl", SkippedTurn)

    def profiled(self) -> dict[str, SampleGroup]:
        """Groups of the profile so far, by turn id; samples that were added later are part of them."""
        return {group.turn_id: group for group in joined(self.profile_groups())}

    def profile_groups(self) -> RecordFile[SampleGroup]:
        """The same as it is stored: samples that were added later are groups of their own."""
        return self._file("profile", "profiles.jsonl", SampleGroup)

    def demonstrations(self) -> RecordFile[DemonstrationScore]:
        """How likely the reference finds the demonstrated actions; empty where it could not score them."""
        return self._file("profile", "demonstrations.jsonl", DemonstrationScore)

    def selected(self, name: str | None = None) -> RecordFile[Selection]:
        """Rows of a selection, chosen or not; None is the run's own."""
        stage = selection_stage(name)
        return self._file(stage, outputs(stage)[0], Selection)

    def trained(self, stage: str = "train") -> RecordFile[SampleGroup]:
        """Groups of a training, by step and turn id."""
        return self._file(stage, f"{stage}/groups.jsonl", SampleGroup)

    def episodes_trained(self, stage: str = "train") -> RecordFile[EpisodeResult]:
        """Episodes that a training played."""
        return self._file(stage, f"{stage}/episodes.jsonl", EpisodeResult)

    def metrics(self, stage: str = "train") -> RecordFile[StepMetrics]:
        """Of a training."""
        return self._file(stage, f"{stage}/metrics.jsonl", StepMetrics)

    def turn_results(self, name: str) -> RecordFile[TurnResult]:
        """Of the evaluation of that name."""
        return self._results(name, "turns", TurnResult)

    def progress_results(self, name: str) -> RecordFile[ProgressResult]:
        return self._results(name, "progress", ProgressResult)

    def episode_results(self, name: str) -> RecordFile[EpisodeResult]:
        return self._results(name, "episodes", EpisodeResult)

    def retention_results(self, name: str) -> RecordFile[RetentionResult]:
        return self._results(name, "retention", RetentionResult)

    def answer_results(self, name: str) -> RecordFile[AnswerResult]:
        return self._results(name, "answers", AnswerResult)

    def trial_results(self, stage: str) -> RecordFile[TrialResult]:
        """Of a player at a benchmark: ``bench/tau2/after``."""
        return self._file(stage, outputs(stage)[0], TrialResult)

    def find_turn(self, turn_id: str) -> Turn | None:
        """A turn of the logs, held out or not, without alternatives; None if there is no such message."""
        name, _, index = turn_id.rpartition("#")
        for file in (self.logged(), self.logged_heldout()):
            if name in file and index.isascii() and index.isdecimal():
                return Turn(file.get(name), int(index))
        return None

    def _results(self, name: str, kind: str, model: type[R]) -> RecordFile[R]:
        return self._file(f"evaluations/{name}", f"evaluations/{name}.{kind}.jsonl", model)

    def _file(self, stage: str, name: str, model: type[R]) -> RecordFile[R]:
        """Of a stage that is still running, a torn last line is left out."""
        if name not in self._opened:
            is_finished = self.verify_records(stage)
            file = RecordFile(self.directory / name, model)
            self._opened[name] = require_whole(file) if is_finished else file
        return self._opened[name]

    def verify_records(self, stage: str) -> bool:
        """Whether a stage is finished; if so, its record files are looked at, and no others."""
        if stage not in self._records_verified:
            manifest = find_manifest(self.directory, stage)
            if manifest is None:
                require_no_strangers(self.directory, stage)
            if manifest is None or manifest.status != "complete":
                return False
            if stage not in self._verified:
                verify_outputs(self.directory, stage, manifest, lambda name: name.endswith(".jsonl"))
            self._records_verified.add(stage)
        return True
