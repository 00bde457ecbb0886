"""One stage of a run: started, resumed, finished, and never mixed with other settings."""

from __future__ import annotations

import calendar
import json
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import Manifest
from pivotrl.runs.layout import REPLACED, outputs
from pivotrl.runs.manifest import (
    again,
    find_manifest,
    manifest_path,
    outputs_of,
    require_no_strangers,
    verify_outputs,
    write_manifest,
)
from pivotrl.storage.record_files import package_versions, timestamp

CONTINUED = "continued_from"
"""The option that notes what a continued stage was made with before."""
TRACKER = "tracker"
"""The option that notes who watches the stage."""
_NAMED = ("select", "train", "evaluations/")


class Stage:
    """The manifest of a stage that starts or resumes.

    A finished stage with the same options and inputs is skipped (``done``) if its files are intact. A stage with other
    options or inputs is refused with a list of the differences. Times add up over resumptions.

    Args:
        name: of :mod:`pivotrl.runs.layout`, such as ``train`` or ``evaluations/after``.
        told: names of options that are recorded but may differ, such as the path of a file whose content is an input.
        policy: who acts, see :func:`pivotrl.protocols.describe_policy`.
        is_verified: whether :func:`require_same` has already checked the files of a finished stage.
        plugins: the command line's names of the plugins, see :func:`pivotrl.plugins.describing.spec_of`.
        observer: is notified when the stage begins and when it is complete.

    Raises:
        InputError: the directory holds this stage with other options or inputs, or a file of the finished stage is
            damaged.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        options: Mapping[str, Any],
        inputs: Mapping[str, str],
        told: Collection[str] = (),
        policy: Mapping[str, Any] | None = None,
        is_verified: bool = False,
        plugins: Mapping[str, str | None] | None = None,
        observer: Observer = SILENT,
    ) -> None:
        self._observer, told = observer, {*told, TRACKER}
        self.directory, self.name, self.path = directory, name, manifest_path(directory, name)
        self._start, now = time.monotonic(), timestamp()
        self.is_moved = False
        """Whether the stage resumes with a changed value of an option that may differ."""
        fresh = _manifest(name, options, inputs, policy).model_copy(
            update={"plugins": dict(plugins or {}), "started_at": now, "resumed_at": now}
        )
        old = find_manifest(directory, name)
        if observer.specs or (old is not None and TRACKER in old.options):
            fresh = fresh.model_copy(update={"options": {**fresh.options, TRACKER: list(observer.specs)}})
        if old is None:
            require_no_strangers(directory, name)
            fresh = fresh.model_copy(update={"id": uuid.uuid4().hex})
            self.manifest = write_manifest(self.path, fresh)
        else:
            _refuse(directory, name, _differences(old, fresh, told))
            if old.status == "complete":
                if not is_verified:
                    verify_outputs(directory, name, old)
                self.manifest = old
            else:
                noted = {option: fresh.options[option] for option in told if option in fresh.options}
                moved = {option for option, value in noted.items() if old.options.get(option) != value}
                self.is_moved = bool(moved - {TRACKER})
                update = {
                    "options": {**old.options, **noted},
                    "resumed_at": now,
                    "wall_seconds": seconds_spent(directory, name, old),
                }
                self.manifest = write_manifest(self.path, old.model_copy(update=update))
        self.done = self.manifest.status == "complete"
        if not self.done:
            observer.opened(directory)
            observer.started(name, self.manifest)

    def finish(self, counts: dict[str, Any], num_rollout_turns: int = 0) -> None:
        """Record the counts and the hash of every file of the stage."""
        self._write(
            status="complete",
            counts=counts,
            outputs=outputs_of(self.directory, outputs(self.name)),
            num_rollout_turns=num_rollout_turns,
            finished_at=timestamp(),
        )
        self.done = True
        self._observer.finished(self.name, self.manifest)

    def pause(self) -> None:
        """Save the time spent so far, when the stage is interrupted."""
        self._write()

    def _write(self, **update: Any) -> None:
        spent = round(self.manifest.wall_seconds + time.monotonic() - self._start, 3)
        changed = self.manifest.model_copy(update={**update, "wall_seconds": spent, "resumed_at": ""})
        self.manifest = write_manifest(self.path, changed)

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self.done and not isinstance(error, OSError):
            self.pause()


def require_same(
    directory: Path,
    name: str,
    options: Mapping[str, Any],
    inputs: Mapping[str, str],
    used_by: Sequence[str] = (),
    verifies: bool = True,
) -> None:
    """Refuse early, before anything is loaded or checked, what :class:`Stage` would refuse: judged by the options and
    inputs that are already known.

    Args:
        used_by: stages made from this one, to name in the message.
        verifies: whether to check the files of a finished stage, too.

    Raises:
        InputError: as :class:`Stage`.
    """
    old = find_manifest(directory, name)
    if old is None:
        return
    new = _manifest(name, options, inputs)
    known = old.model_copy(
        update={
            "options": {option: value for option, value in old.options.items() if option in new.options},
            "inputs": {source: value for source, value in old.inputs.items() if source in new.inputs},
        }
    )
    _refuse(directory, name, _differences(known, new, ()), used_by)
    if verifies and old.status == "complete":
        verify_outputs(directory, name, old)


def reopen(directory: Path, name: str, changed: Mapping[str, Any]) -> None:
    """Let a stage go on, finished or not, with other values of these options. The options note what they were, as a
    list under ``continued_from``.

    The caller has checked that nothing else differs.
    """
    old = find_manifest(directory, name)
    assert old is not None
    was = {option: old.options.get(option) for option in changed} | {"finished_at": old.finished_at}
    options = {**old.options, **changed, CONTINUED: [*old.options.get(CONTINUED, ()), was]}
    update = {
        **{"status": "running", "options": options, "outputs": None, "finished_at": "", "resumed_at": ""},
        "wall_seconds": seconds_spent(directory, name, old),
    }
    write_manifest(manifest_path(directory, name), old.model_copy(update=update))


def _manifest(
    name: str, options: Mapping[str, Any], inputs: Mapping[str, str], policy: Mapping[str, Any] | None = None
) -> Manifest:
    return Manifest(
        stage=name,
        status="running",
        options=json.loads(json.dumps(options, default=str)),
        inputs=dict(inputs),
        policy=json.loads(json.dumps(policy or {}, default=str)),
        versions=package_versions(),
    )


def _refuse(directory: Path, name: str, differences: Sequence[str], used_by: Sequence[str] = ()) -> None:
    if differences:
        command, listed = again(directory, name), "\n  ".join(differences)
        made = f"\nMade from it: {', '.join(used_by)}." if used_by else ""
        beside = " To keep both, name the new one with --name." if name.startswith(_NAMED) else ""
        raise InputError(
            f"{manifest_path(directory, name)} was made with other settings:\n  {listed}{made}\n"
            f"Use the same settings, or start it again with `{command}` and yours: existing files are moved to "
            f"{directory / REPLACED}, not deleted.{beside}"
        )


def seconds_spent(directory: Path, stage: str, manifest: Manifest) -> float:
    """Seconds of work; for a killed stage, up to its last write."""
    if manifest.status == "complete" or not manifest.resumed_at:
        return manifest.wall_seconds
    began = calendar.timegm(time.strptime(manifest.resumed_at, "%Y-%m-%dT%H:%M:%SZ"))
    files = (directory / name for name in outputs(stage))
    last = max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)
    return round(manifest.wall_seconds + max(0.0, last - began), 3)


def _differences(old: Manifest, new: Manifest, told: Collection[str]) -> list[str]:
    found = [
        f"{name}: was {old.options.get(name)!r}, now {new.options.get(name)!r}"
        for name in sorted(old.options.keys() | new.options.keys())
        if name not in told and old.options.get(name) != new.options.get(name)
    ]
    for name in sorted(old.inputs.keys() | new.inputs.keys()):
        if _same_input(name, old, new):
            continue
        if name == "policy" and (facts := policy_differences(old.policy, new.policy)):
            found += facts
        else:
            place = f" ({new.options[name]})" if name in told and new.options.get(name) else ""
            found.append(f"{name}{place}: was {old.inputs.get(name)!r}, now {new.inputs.get(name)!r}")
    found += [
        f"version of {package}: was {old.versions[package]}, now {new.versions[package]}"
        for package in ("pivotrl", "torch", "transformers")
        if package in old.versions and package in new.versions and old.versions[package] != new.versions[package]
    ]
    return found


def _same_input(name: str, old: Manifest, new: Manifest) -> bool:
    if old.inputs.get(name) == new.inputs.get(name):
        return True
    if old.checksum:
        return False
    # Older versions named inputs by their path, and some not at all; every input that they named must still exist.
    return name not in old.inputs or (name not in new.inputs and old.inputs[name] in new.inputs.values())


def policy_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The facts in which two policies differ, as manifests describe them; none where one is not described."""
    was, now = old.get("identity", {}), new.get("identity", {})
    if not was or not now:
        return []
    return [
        f"policy, {fact}: was {was.get(fact)!r}, now {now.get(fact)!r}"
        for fact in sorted(was.keys() | now.keys())
        if was.get(fact) != now.get(fact)
    ]
