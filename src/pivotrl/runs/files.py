"""Access to the files of a run: every file is verified here before it is opened."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pivotrl.protocols import InputError, Turn
from pivotrl.reading.alternatives import with_alternatives
from pivotrl.records import Manifest, Record, SampleGroup, Selection, Trajectory
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
        return joined(read_records(self.directory / "profiles.jsonl", SampleGroup))

    def selections(self, name: str | None = None) -> list[Selection]:
        """Every row of a selection, chosen or not."""
        stage = selection_stage(name)
        self.finished(stage)
        return read_records(self.directory / outputs(stage)[0], Selection)

    def turns(self, turn_ids: Iterable[str]) -> list[Turn]:
        """Turns to train on, by id and in that order."""
        by_id = {trajectory.id: trajectory for trajectory in self.trajectories()}
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

    def file(self, stage: str, name: str, model: type[R]) -> RecordFile[R]:
        """A record file of a stage that need not be finished, empty where there is none.

        Of a stage that is still running, a torn last line is left out.
        """
        is_finished = self.verify_records(stage)
        file = RecordFile(self.directory / name, model)
        return require_whole(file) if is_finished else file

    def records(self, stage: str, name: str, model: type[R]) -> list[R]:
        """What stands in :meth:`file`."""
        return list(self.file(stage, name, model))

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
