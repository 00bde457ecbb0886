"""One repair task as an environment."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pivotrl.environments.repair.hidden_tests import judge
from pivotrl.environments.repair.tasks import RepairTask
from pivotrl.sandbox import Limits, Sandbox, SandboxFault
from pivotrl.sandbox.repositories.task import Manner, RepositoryTask


class Repair(RepositoryTask):
    """One task. ``task`` and ``folder`` are as :func:`made_task` returns them; for the others see the base class."""

    def __init__(
        self, task: RepairTask, folder: Path, manner: Manner, sandbox: Sandbox, limits: Limits, max_turns: int
    ) -> None:
        super().__init__(task.id, task.issue, folder, manner, sandbox, limits, max_turns)
        self.repair = task
        self.tags = {"level": f"{task.level} defect{'s' * (task.level > 1)}"}
        self.metadata = {"domain": "software", "manner": manner, "level": task.level, "defects": list(task.kinds)}

    def elsewhere(self, folder: Path) -> Repair:
        return Repair(self.repair, folder, self._manner, self._sandbox, self._limits, self._max_turns)

    def reward(self) -> float | None:
        passed = self.judged()
        return None if passed is None else float(all(passed))

    def judged(self) -> tuple[bool, ...] | None:
        """Whether each hidden test passes on the files as they are now: that of the function with the defects, then
        those of the other functions. None where there is no knowing."""
        try:
            with tempfile.TemporaryDirectory() as name:
                self.copy_files(Path(name))
                return judge(self._sandbox, Path(name), self.repair.hidden).passed
        except SandboxFault:
            return None
