"""A task in Harbor's layout, played in our sandbox instead of a container."""

from __future__ import annotations

import functools
import json
import math
import shlex
import shutil
import tempfile
from pathlib import Path

from pivotrl.environments.shell.task import ShellTask
from pivotrl.reading.formats.harbor_tasks import HarborTask
from pivotrl.reading.formats.shell_tasks import Task
from pivotrl.sandbox import Limits, Sandbox, SandboxFault, open_sandbox
from pivotrl.sandbox.work_dir import SHELL

_ROOT = "/task"
"""Work directory of the check; the paths that Harbor promises lead into it."""
_REWARDS = ("logs/verifier/reward.txt", "logs/verifier/reward.json")


class HarborShellTask(ShellTask):
    """The agent works in the image's WORKDIR. ``tests/test.sh`` runs at the end, over the files in it, in a session of
    its own; what the agent left elsewhere (``/tmp``) is not there."""

    def __init__(
        self, harbor: HarborTask, backend: str, folder: Path, sandbox: Sandbox, limits: Limits, max_turns: int
    ) -> None:
        super().__init__(Task(id=harbor.id, prompt=harbor.instruction), folder, sandbox, limits, max_turns)
        self.tags = dict(harbor.tags)
        self.workdir, self._harbor, self._backend = harbor.workdir, harbor, backend

    @classmethod
    def of(cls, harbor: HarborTask, backend: str, limits: Limits, max_turns: int) -> HarborShellTask:
        """Raises:
        InputError: the sandbox cannot be used.
        """
        sandbox = _sandbox(backend, harbor.workdir)
        return cls(harbor, backend, Path(_staged(harbor).name), sandbox, limits, max_turns)

    def _like(self, folder: Path) -> HarborShellTask:
        return HarborShellTask(self._harbor, self._backend, folder, self._sandbox, self._limits, self._max_turns)

    def _reward(self) -> float | None:
        """What the task's own tests write; None if they do not finish, or write no number."""
        workdir = self.workdir.strip("/")
        links = {path: f"{_ROOT}{path}" for path in (self.workdir, "/tests", "/logs")}
        with tempfile.TemporaryDirectory() as name:
            self._copy_files(Path(name, workdir))
            shutil.copytree(self._harbor.folder / "tests", Path(name, "tests"))
            Path(name, "logs", "verifier").mkdir(parents=True)
            sandbox = _check_sandbox(self._backend, tuple(links.items()))
            limits = Limits(wall_seconds=self._harbor.check_seconds)
            with sandbox.open(Path(name), limits) as session:
                finished = session.run(
                    [*SHELL, f"cd {shlex.quote(self.workdir)} && bash /tests/test.sh"], limits=limits
                )
                if finished.exit_code is None:
                    return None
                for path in _REWARDS:
                    try:
                        return _number(session.read(path, 4096).decode(errors="replace"))
                    except (FileNotFoundError, SandboxFault):
                        continue
        return None


def _number(text: str) -> float | None:
    """A number alone, or the ``reward`` of a JSON object."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if isinstance(value, dict):
        value = value.get("reward")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


@functools.cache
def _staged(harbor: HarborTask) -> tempfile.TemporaryDirectory[str]:
    """The agent's first files, written once in this process and removed at its end."""
    made = tempfile.TemporaryDirectory(prefix="pivotrl-task-")
    harbor.stage(Path(made.name, "files"))
    for path in (Path(made.name), *Path(made.name).rglob("*")):
        path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o644))  # the sandbox's user must read them
    return made


@functools.cache
def _sandbox(backend: str, workdir: str) -> Sandbox:
    return open_sandbox(backend, work_dir=workdir)


@functools.cache
def _check_sandbox(backend: str, links: tuple[tuple[str, str], ...]) -> Sandbox:
    return open_sandbox(backend, work_dir=_ROOT, links=dict(links))
