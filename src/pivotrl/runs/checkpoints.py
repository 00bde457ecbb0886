"""Checkpoints of a training: folders ``step_NNNNNN``. Only the newest is kept."""

from __future__ import annotations

import re
from pathlib import Path

from pivotrl.protocols import Policy
from pivotrl.storage.folders import remove_folder

_CHECKPOINT = re.compile(r"step_\d+")


def save_checkpoint(policy: Policy, folder: Path, step: int) -> None:
    """Write ``step_NNNNNN`` and remove older ones."""
    folder.mkdir(parents=True, exist_ok=True)
    policy.save(folder / f"step_{step:06d}")
    keep_newest(folder)  # only after the new one is complete on disk


def keep_newest(folder: Path) -> None:
    """Remove all but the newest checkpoint."""
    for older in _checkpoints(folder)[:-1]:
        remove_folder(older)


def _checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a training, the newest last."""
    found = {path: _CHECKPOINT.fullmatch(path.name) for path in folder.glob("step_*") if path.is_dir()}
    return sorted((path for path, name in found.items() if name), key=lambda path: int(path.name[5:]))


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
