"""Checkpoints of a training: folders ``step_NNNNNN``. Only the newest is kept, unless all are asked for."""

from __future__ import annotations

import re
from pathlib import Path

from pivotrl.protocols import InputError, Policy
from pivotrl.storage.folders import remove_folder
from pivotrl.storage.record_files import sha256_of_file, sha256_of_json

_CHECKPOINT = re.compile(r"step_\d+")


def save_checkpoint(policy: Policy, folder: Path, step: int, keeps_all: bool = False) -> None:
    """Write ``step_NNNNNN`` and remove older ones."""
    folder.mkdir(parents=True, exist_ok=True)
    policy.save(folder / f"step_{step:06d}")
    if not keeps_all:
        keep_newest(folder)  # only after the new one is complete on disk


def keep_newest(folder: Path) -> None:
    """Remove all but the newest checkpoint."""
    for older in _checkpoints(folder)[:-1]:
        remove_folder(older)


def _checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a training, the newest last."""
    found = {path: _CHECKPOINT.fullmatch(path.name) for path in folder.glob("step_*") if path.is_dir()}
    return sorted((path for path, name in found.items() if name), key=lambda path: int(path.name[5:]))


def remove_later(folder: Path, step: int) -> None:
    """Remove all checkpoints if one has more steps, so that a training ends at ``step`` and not beyond it."""
    found = _checkpoints(folder)
    if found and int(found[-1].name[5:]) > step:
        for checkpoint in found:
            remove_folder(checkpoint)


def find_checkpoint(folder: Path, named: str) -> Path:
    """The checkpoint after that many steps; or the folder itself, ``.../step_NNNNNN``, if it is named by its path.

    Raises:
        InputError: there is none; the message lists those that exist.
    """
    path = folder / f"step_{int(named):06d}" if named.isascii() and named.isdecimal() else Path(named)
    if path.is_dir() and _CHECKPOINT.fullmatch(path.resolve().name):
        return path
    steps = ", ".join(str(int(one.name[5:])) for one in _checkpoints(folder)) or "none"
    raise InputError(
        f"{path} is no checkpoint; {folder} holds those after these steps: {steps}. A training keeps all of them with "
        "--keep-checkpoints all"
    )


def checkpoint_sha256(path: Path) -> str:
    """Of the content of a checkpoint's files."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return sha256_of_json([(file.relative_to(path).as_posix(), sha256_of_file(file)) for file in files])


def restore(policy: Policy, folder: Path) -> int:
    """Load the newest checkpoint and return its number of steps, or 0 if there is none.

    Raises:
        InputError: the newest checkpoint is damaged; we never fall back to an older one.
    """
    found = _checkpoints(folder)
    if not found:
        return 0
    policy.load(found[-1])
    return int(found[-1].name[5:])
