"""Rows of SWE-bench, SWE-Gym, SWE-rebench, SWE-smith or NeMo Gym as environments, on local clones.

The agent acts as in ``repair``: with ``bash``, ``str_replace_editor`` and ``submit``, or with ``bash`` alone. The
reward is 1 if every test of FAIL_TO_PASS and PASS_TO_PASS passes.
"""

from __future__ import annotations

import functools
import shlex
import tempfile
from pathlib import Path
from typing import Any, Literal

from pivotrl.environments.swe.clones import PACKAGES, patch_of, prepared
from pivotrl.environments.swe.grading import GOOD, Graded, grade
from pivotrl.environments.swe.rows import Instance, load_instances
from pivotrl.judging.replay import replayed
from pivotrl.options import AtLeast1, Positive
from pivotrl.protocols import InputError, NotRestorable, Turn
from pivotrl.sandbox import Limits, Sandbox, SandboxFault, open_sandbox
from pivotrl.sandbox.interface import MEBIBYTE
from pivotrl.sandbox.repositories.editor import WORK_DIR
from pivotrl.sandbox.repositories.task import SUBMITTED, Manner, RepositoryTask
from pivotrl.sandbox.work_dir import SHELL

_OUTPUT_BYTES = 16_384
_NUM_PROCESSES = 256
_TRIED = "tried"
"""In the folder of an instance: its tests were seen to run there."""


class SweTask(RepositoryTask):
    """One row. ``folder`` is as :func:`prepared` makes it; for the other arguments see the base class.

    Args:
        test_limits: limits of the tests.
    """

    def __init__(
        self,
        instance: Instance,
        folder: Path,
        manner: Manner,
        sandbox: Sandbox,
        limits: Limits,
        max_turns: int,
        test_limits: Limits,
    ) -> None:
        super().__init__(instance.id, instance.issue, folder, manner, sandbox, limits, max_turns)
        self.instance, self._test_limits = instance, test_limits
        self.tags = {"repo": instance.repo}
        self.metadata = {"domain": "software", "manner": manner, "repo": instance.repo}
        self.shell = (*SHELL[:-3], f"PYTHONPATH={WORK_DIR}/{PACKAGES}:{WORK_DIR}", *SHELL[-3:])

    def graded(self) -> Graded:
        """The outcome of each test on the files as they are now.

        Raises:
            SandboxFault: the sandbox failed.
        """
        with tempfile.TemporaryDirectory() as name:
            self.copy_files(Path(name))
            return grade(self.instance, self.folder, Path(name), self.shell, self._sandbox, self._test_limits)

    def patch(self) -> str:
        """What the agent changed.

        Raises:
            SandboxFault: the sandbox failed.
            UnicodeDecodeError: it is no text in UTF-8.
        """
        with tempfile.TemporaryDirectory() as name:
            self.copy_files(Path(name))
            return patch_of(self.folder / "files", Path(name))

    def elsewhere(self, folder: Path) -> SweTask:
        common = self._manner, self._sandbox, self._limits, self._max_turns, self._test_limits
        return SweTask(self.instance, folder, *common)

    def reward(self) -> float | None:
        try:
            return float(self.graded().resolves(self.instance))
        except SandboxFault:
            return None


def gold_commands(instance: Instance) -> list[str]:
    """Commands that apply the gold patch and hand in.

    Raises:
        InputError: the row has none that could be told from its defect.
    """
    if instance.gold:
        apply = f"printf %s {shlex.quote(instance.gold)} | git apply --whitespace=nowarn -"
    elif instance.bug:
        apply = f"printf %s {shlex.quote(instance.bug)} | git apply --whitespace=nowarn -R -"
    else:
        raise InputError(f"{instance.id} has no gold patch")
    return [apply, f"echo {SUBMITTED}"]


class SweTasks:
    """The rows by their ids. For the arguments see :func:`make_environments`."""

    def __init__(self, instances: list[Instance], clones: Path, manner: Manner, image: str | None, **options: Any):
        self._instances = {instance.id: instance for instance in instances}
        self._clones, self._manner, self._image, self._options = clones, manner, image, options

    def tasks(self) -> list[str]:
        return list(self._instances)

    def make(self, task: str) -> SweTask:
        """Raises:
        InputError: there is no clone or commit, a patch does not apply, or the sandbox cannot be had.
        """
        instance, options = self._instances[task], self._options
        packages = Path(options["packages"]) if options["packages"] else None
        folder = prepared(instance, self._clones, packages, options["folder"])
        backend = options["backend"]
        if backend == "docker" and (image := self._image or instance.image):
            backend = f"docker:{image}"
        memory, disk = options["memory_mib"] * MEBIBYTE, options["disk_mib"] * MEBIBYTE
        limits, test_limits = (
            Limits(seconds, memory, _NUM_PROCESSES, output_bytes=_OUTPUT_BYTES, disk_bytes=disk)
            for seconds in (options["command_seconds"], options["test_seconds"])
        )
        max_turns = options["max_turns"]
        made = SweTask(instance, folder, self._manner, _sandbox(backend), limits, max_turns, test_limits)
        if options["tests"] == "here" and not (folder / _TRIED).is_file():
            _try(made)
            (folder / _TRIED).touch()
        return made


def _try(task: SweTask) -> None:
    """Run the tests on the repository as it is, once: what does not run there would count as the agent's failure.

    Raises:
        InputError: the tests do not run here, or they say something else than the row.
    """
    task.reset()
    try:
        found, instance = task.graded(), task.instance
    except SandboxFault as error:
        raise InputError(f"{instance.id}: the sandbox failed before the tests ran: {error}") from error
    finally:
        task.close()
    if found.reason:
        raise InputError(
            f"{instance.id}: pytest does not come to its end on the repository as it is ({found.reason}); give what it "
            "needs, pytest among it, as packages=, a folder made by pip install --target, or play it in its image"
        )
    if passing := [name for name in instance.fail_to_pass if found.outcomes.get(name) in GOOD]:
        raise InputError(f"{instance.id}: {passing[0]} of FAIL_TO_PASS passes here before anything is repaired")
    failing = [name for name in instance.pass_to_pass if found.outcomes.get(name) not in GOOD]
    if failing:
        how = found.outcomes.get(failing[0], "did not run")
        raise InputError(
            f"{instance.id}: {len(failing)} of {len(instance.pass_to_pass)} tests of PASS_TO_PASS do not pass here "
            f"before anything is repaired, such as {failing[0]} ({how}); give the packages that the repository needs "
            "as packages=, or play it in its image"
        )


def make_environments(
    *,
    rows: str,
    clones: str,
    packages: str | None = None,
    manner: Manner = "tools",
    backend: str = "bwrap",
    image: str | None = None,
    skip_others: bool = False,
    tests: Literal["here", "elsewhere"] = "here",
    command_seconds: Positive = 60.0,
    test_seconds: Positive = 600.0,
    memory_mib: AtLeast1 = 2048,
    disk_mib: AtLeast1 = 1024,
    max_turns: AtLeast1 = 75,
    folder: str | None = None,
) -> SweTasks:
    """Issues in repositories, from the rows of a file.

    Args:
        rows: a JSON, JSONL or Parquet file.
        clones: the folder of local clones, each named ``owner__name``, ``owner/name``, ``name`` or as the instance; or
            of folders that are no repositories and hold the files at the base commit.
        packages: a folder of Python packages that the repositories need, pytest among them, made by ``pip install
            --target``. Without it the sandbox's Python must have them.
        manner: ``tools``: bash, str_replace_editor and submit. ``bash``: bash alone.
        backend: sandbox backend; ``docker`` uses the image that the row names.
        image: another image for all rows.
        skip_others: leave out rows whose tests are not named in pytest's manner, instead of refusing the file.
        tests: where the tests of the rows run. elsewhere: others judge the patch, so they need not run here.
        command_seconds, test_seconds: time limits of a command, and of all tests together.
        memory_mib, disk_mib: limits of each command, in MiB.
        max_turns: the episode ends after this number of actions, and the repository at that point is judged.
        folder: where prepared repositories are kept; None: below the user's cache directory.

    Raises:
        InputError: the file cannot be used, or there are no clones.
    """
    instances = load_instances(Path(rows))
    others = [each.id for each in instances if not all("::" in name for name in each.fail_to_pass + each.pass_to_pass)]
    if tests == "elsewhere":
        others = []
    if others and not skip_others:
        raise InputError(
            f"{rows}: the tests of {len(others)} of {len(instances)} rows, such as {others[0]}, are not named in "
            "pytest's manner (file::test), so only their own image can run them; skip_others=True leaves them out"
        )
    instances = [each for each in instances if each.id not in set(others)]
    if not instances:
        raise InputError(f"{rows} holds no rows that can be played here")
    for name, place in (("clones", clones), ("packages", packages)):
        if place is not None and not Path(place).is_dir():
            raise InputError(f"swe: {name}={place!r} is not a folder")
    options: dict[str, Any] = {"packages": packages, "backend": backend, "command_seconds": command_seconds}
    options |= {"test_seconds": test_seconds, "memory_mib": memory_mib, "disk_mib": disk_mib}
    options |= {"max_turns": max_turns, "folder": folder, "tests": tests}
    return SweTasks(instances, Path(clones), manner, image, **options)


def restore(
    turn: Turn,
    *,
    rows: str,
    clones: str,
    packages: str | None = None,
    manner: Manner | None = None,
    backend: str = "bwrap",
    image: str | None = None,
    skip_others: bool = False,
    command_seconds: float = 60.0,
    test_seconds: float = 600.0,
    memory_mib: int = 2048,
    disk_mib: int = 1024,
    max_turns: int = 75,
    folder: str | None = None,
) -> SweTask:
    """The task after replaying the actions before the turn. For options see :func:`make_environments`.

    Raises:
        NotRestorable: ``unknown_task``; ``replay_differs``; ``sandbox_failed``.
        InputError: as for the environments.
    """
    told = turn.trajectory.metadata.get("manner")
    options: dict[str, Any] = {"packages": packages, "backend": backend, "image": image, "skip_others": skip_others}
    options |= {"command_seconds": command_seconds, "test_seconds": test_seconds, "memory_mib": memory_mib}
    options |= {"disk_mib": disk_mib, "max_turns": max_turns, "folder": folder}
    how: Manner = manner or ("tools" if told == "tools" else "bash")
    environments = make_environments(rows=rows, clones=clones, manner=how, **options)
    if turn.trajectory.task_id not in environments.tasks():
        raise NotRestorable("unknown_task", turn.trajectory.task_id)
    environment = environments.make(turn.trajectory.task_id)
    return replayed(environment, turn)


@functools.cache
def _sandbox(backend: str) -> Sandbox:
    return open_sandbox(backend, work_dir=WORK_DIR)
