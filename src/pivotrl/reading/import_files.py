"""The files that an import writes; each task goes to one side of the split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pivotrl.records import Dropped, Refusal, Trajectory
from pivotrl.storage.record_files import RecordFile, encode_line, write_file


@dataclass(frozen=True)
class Imported:
    record: Trajectory | Refusal | Dropped
    is_heldout: bool = False
    share: float = 0.0
    """The task's number from 0 to 1; the lowest are held out."""


class ImportFiles:
    def __init__(self, directory: Path) -> None:
        self.train = RecordFile(directory / "trajectories.jsonl", Trajectory)
        self.heldout = RecordFile(directory / "heldout.jsonl", Trajectory)
        self.dropped = RecordFile(directory / "dropped.jsonl", Dropped)
        self.refused = RecordFile(directory / "refused.jsonl", Refusal)
        self.train_tasks: set[str] = set()
        self.heldout_tasks: set[str] = set()
        self._shares: dict[str, float] = {}

    def write(self, batch: list[Imported]) -> None:
        kept = [(item.record, item.is_heldout) for item in batch if isinstance(item.record, Trajectory)]
        self._shares |= {item.record.task_id: item.share for item in batch if isinstance(item.record, Trajectory)}
        for file, tasks, is_heldout in (
            (self.train, self.train_tasks, False),
            (self.heldout, self.heldout_tasks, True),
        ):
            own = [trajectory for trajectory, side in kept if side == is_heldout]
            tasks.update(trajectory.task_id for trajectory in own)
            file.append([trajectory for trajectory in own if trajectory.id not in file])
        dropped = [item.record for item in batch if isinstance(item.record, Dropped)]
        self.dropped.append([item for item in dropped if item.trajectory_id not in self.dropped])
        refused = {item.record.place: item.record for item in batch if isinstance(item.record, Refusal)}
        self.refused.append([item for place, item in refused.items() if place not in self.refused])

    def balance(self) -> None:
        """Of few tasks, the share may hold out none or all. At least one is trained on, and with two or more at least
        one is held out: the one that lies nearest to the border."""
        if not self.heldout_tasks and len(self.train_tasks) > 1:
            task = min(self.train_tasks, key=lambda name: (self._shares[name], name))
            self.train, self.heldout = _moved(task, self.train, self.heldout)
            moved_from, moved_to = self.train_tasks, self.heldout_tasks
        elif not self.train_tasks and self.heldout_tasks:
            task = max(self.heldout_tasks, key=lambda name: (self._shares[name], name))
            self.heldout, self.train = _moved(task, self.heldout, self.train)
            moved_from, moved_to = self.heldout_tasks, self.train_tasks
        else:
            return
        moved_from.remove(task)
        moved_to.add(task)


def _moved(
    task_id: str, source: RecordFile[Trajectory], target: RecordFile[Trajectory]
) -> tuple[RecordFile[Trajectory], RecordFile[Trajectory]]:
    """Both files after moving the trajectories of a task from one to the other."""
    rows = list(source)
    target.append([row for row in rows if row.task_id == task_id and row.id not in target])
    if left := [row for row in rows if row.task_id != task_id]:
        write_file(source.path, b"".join(map(encode_line, left)))
    else:
        source.path.unlink()
    return RecordFile(source.path, Trajectory), target
