"""The sandbox does for an honest command what it promises, and refuses where it cannot.

Run alone: python -m pytest tests/test_sandbox.py
"""

import contextlib
import errno
import gc
import os
import platform
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from pivotrl.protocols import InputError
from pivotrl.sandbox import Limits, SandboxFault, cgroups, open_sandbox, owner_mapping, seccomp
from pivotrl.sandbox import bwrap as bwrap_backend
from pivotrl.sandbox.conformance import CHECKS, run_conformance
from pivotrl.sandbox.local import LocalSandbox
from sandbox_runs import NOBODY, as_user, environment, sandbox, user_python

needs_bwrap = pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def bwrap() -> Iterator[LocalSandbox]:
    if not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    found = sandbox()
    yield found
    found.close()


# --- an honest command --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHECKS)
def test_conformance(bwrap: LocalSandbox, name: str) -> None:
    for found, wanted in CHECKS[name](bwrap):
        assert found == wanted


@pytest.mark.slow
@needs_bwrap
def test_conformance_without_control_groups() -> None:
    assert not [check for check in run_conformance(sandbox(use_cgroup=False)) if check.fault]


@pytest.mark.slow
@needs_bwrap
@needs_root
def test_conformance_for_an_ordinary_user() -> None:
    found = as_user("conformance")
    assert found["identity"]["level"] == "profile 2, rlimits only"
    assert not [check for check in found["results"] if check["fault"]]


@pytest.mark.slow
def test_conformance_of_gvisor() -> None:
    if not shutil.which("runsc"):
        pytest.skip("runsc is not installed")
    faults = {check.name for check in run_conformance(sandbox("gvisor")) if check.fault}
    # Its arguments are JSON; and Debian's runsc of 2022 cannot answer the statx of a newer ls.
    assert faults <= {"arguments", "common programs", "work directory", "what persists", "limits"}


def test_the_directory_of_another_owner_is_the_commands_own(bwrap: LocalSandbox, tmp_path: Path) -> None:
    (tmp_path / "closed").write_text("closed\n")
    (tmp_path / "closed").chmod(0o600)
    with bwrap.open(tmp_path) as session:
        assert session.restore == "overlay"
        assert session.run(["sh", "-c", "cat closed && echo more >> closed"]).stdout == b"closed\n"
        assert list(session.changes()) == ["closed"]
    assert (tmp_path / "closed").read_text() == "closed\n"


@needs_root
def test_a_copy_serves_where_an_overlay_is_not_to_be_had(
    bwrap: LocalSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("kept", "changed", "gone"):
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("/nowhere")
    script = ["sh", "-c", "echo x >> changed; rm gone; ln -sf kept link; mkdir d; echo y > d/new"]
    with bwrap.open(tmp_path) as session:
        session.run(script)
        wanted = session.changes()

    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "not on this file system")

    monkeypatch.setattr(owner_mapping, "clone", refuse)
    with bwrap.open(tmp_path) as session:
        assert session.restore == "copy"
        session.run(script)
        assert session.changes() == wanted and set(wanted) == {"changed", "gone", "link", "d/new"}


def test_files_too_large_to_compare_are_no_equality(bwrap: LocalSandbox) -> None:
    with bwrap.open(limits=Limits(disk_bytes=4 * MEBIBYTE)) as session:
        session.run(["sh", "-c", "for i in 1 2 3 4 5; do truncate -s 4M big$i; done"])
        with pytest.raises(SandboxFault, match="too large to hash"):
            session.changes()


def test_the_work_directory_can_be_the_recorded_one() -> None:
    if not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    with open_sandbox(work_dir="/testbed/app").open() as session:
        assert session.run(["sh", "-c", "echo x > /testbed/app/file; pwd"]).stdout == b"/testbed/app\n"
        assert list(session.changes()) == ["file"]


# --- what ends, ends ----------------------------------------------------------------------------------------------

ORCHESTRATOR = """
from pivotrl.sandbox import Limits
from sandbox_runs import sandbox
with sandbox().open() as session:
    print(session._group.paths if session._group else [], flush=True)
    session.run(["sh", "-c", "(setsid sleep 61.25 &) ; sleep 61.25"], limits=Limits(wall_seconds=60))
"""


def processes(word: str) -> list[str]:
    """Command lines that hold the word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if any(word.encode() in w for w in words) and int(path.parent.name) != os.getpid():
                found.append(" ".join(w.decode(errors="replace") for w in words))
    return found


def wait_for(what: Callable[[], object], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (done := bool(what())) and time.monotonic() < deadline:
        time.sleep(0.01)
    return done


@needs_bwrap
def test_nothing_outlives_an_orchestrator_that_is_killed() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen([sys.executable, "-c", ORCHESTRATOR], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout
        groups = process.stdout.readline()
        assert wait_for(lambda: len(processes("61.25")) >= 3, 10.0)
        process.kill()
        assert wait_for(lambda: not processes("61.25"), 10)
        assert wait_for(lambda: not processes(str(process.pid)), 10)
    if b"pivotrl" in groups:
        places = cgroups.find()
        assert places and not [path for d in places.directories for path in d.glob(f"pivotrl.{process.pid}.*")]


def test_a_keeper_that_is_killed_is_no_verdict(bwrap: LocalSandbox) -> None:
    session = bwrap.open()
    os.kill(session._pid, signal.SIGKILL)
    with pytest.raises(SandboxFault):
        session.run(["true"])
    session.close()
    with bwrap.open() as session:
        assert session.run(["true"]).exit_code == 0


def test_the_helper_process_is_started_again(bwrap: LocalSandbox) -> None:
    with bwrap.open():
        bwrap._keepers._process.kill()
        bwrap._keepers._process.wait()
    with bwrap.open() as session:
        assert session.run(["true"]).exit_code == 0


def test_a_forked_process_gets_helpers_of_its_own(bwrap: LocalSandbox) -> None:
    with bwrap.open():
        if (pid := os.fork()) == 0:
            try:
                with bwrap.open() as session:
                    os._exit(session.run(["sh", "-c", "exit 7"]).exit_code or 0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    with bwrap.open() as session:
        assert session.run(["true"]).exit_code == 0


def test_sessions_leave_nothing_behind(bwrap: LocalSandbox, tmp_path: Path) -> None:
    def state() -> tuple[object, ...]:
        folders = bwrap._places.directories if bwrap._places else ()
        groups = sorted(str(path) for folder in folders for path in folder.glob(f"pivotrl.{os.getpid()}.*"))
        return Path("/proc/self/mountinfo").read_text(), groups

    def opened() -> set[tuple[str, str]]:
        gc.collect()
        found = set()
        for path in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):  # that of this loop
                found.add((path.name, str(path.readlink())))
        return found

    with bwrap.open(tmp_path) as session:
        session.run(["true"])
    before, open_before = state(), opened()
    for _ in range(5):
        with bwrap.open(tmp_path) as session:
            session.run(["sh", "-c", "yes"], limits=Limits(wall_seconds=0.3))
        assert wait_for(lambda pid=session._pid: not Path(f"/proc/{pid}").exists(), 10)  # type: ignore[misc]
    assert state() == before
    assert opened() <= open_before  # what earlier tests left may go meanwhile


def test_without_control_groups_the_memory_of_all_processes_counts() -> None:
    if not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    hog = "for i in 1 2 3 4; do (head -c 40M /dev/zero | tail | sleep 20 &) ; done; sleep 20"
    limits = Limits(wall_seconds=20.0, memory_bytes=100 * MEBIBYTE)
    with sandbox(use_cgroup=False).open(limits=limits) as session:
        finished = session.run(["sh", "-c", hog])
    assert finished.exit_code is None and not finished.timed_out and finished.wall_seconds < 15


def test_control_groups_of_version_2_are_taken_where_both_controllers_are_handed_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    own = tmp_path / "user.slice" / "app.slice" / "mine.scope"
    own.mkdir(parents=True)
    for path, handed in (
        (own, ""),
        (own.parent, "memory pids"),
        (own.parents[1], "cpu memory pids"),
        (tmp_path, "cpu"),
    ):
        (path / "cgroup.subtree_control").write_text(handed)
    place = cgroups._second({"": "user.slice/app.slice/mine.scope"})
    assert place == own.parent
    group = cgroups.Group(cgroups.Places(2, (place,)))
    group.limit(Limits(memory_bytes=100, disk_bytes=20, num_processes=5), 3)
    assert {path.name: path.read_text() for path in group.paths[0].iterdir()} == {"pids.max": "8", "memory.max": "120"}
    (own.parent / "cgroup.subtree_control").write_text("memory")
    (own.parents[1] / "cgroup.subtree_control").write_text("pids")
    assert cgroups._second({"": "user.slice/app.slice/mine.scope"}) is None


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "words"),
    [("bwrap", "apt install bubblewrap"), ("gvisor", "apt install runsc"), ("docker", "docs.docker.com")],
)
def test_a_missing_program_is_named_and_nothing_takes_its_place(
    backend: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=words):
        open_sandbox(backend)


def test_docker_without_a_daemon_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("docker"):
        pytest.skip("docker is not installed")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    with pytest.raises(InputError, match="daemon"):
        open_sandbox("docker")


@pytest.mark.parametrize("backend", ["none", "local", "bwrap:image", ""])
def test_unknown_backends_are_refused(backend: str) -> None:
    with pytest.raises(InputError, match="bwrap, gvisor, docker"):
        open_sandbox(backend)


@pytest.mark.parametrize("work_dir", ["work", "/", "/usr/work", "/proc", "/a/../etc", "/a//b/", ""])
def test_a_work_directory_over_the_systems_is_refused(work_dir: str) -> None:
    with pytest.raises(InputError, match="work_dir"):
        open_sandbox(work_dir=work_dir)


def test_files_that_are_no_directory_are_refused(bwrap: LocalSandbox, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "missing"):
        with pytest.raises(InputError, match="not a directory"):
            bwrap.open(path)


@needs_bwrap
@needs_root
def test_a_user_without_control_groups_is_refused_when_one_is_required() -> None:
    code = "from pivotrl.sandbox import open_sandbox; open_sandbox(require_cgroup=True)"
    done = subprocess.run([user_python(), "-c", code], capture_output=True, text=True, env=environment(), **NOBODY)
    assert done.returncode and "InputError" in done.stderr and "systemd-run --user" in done.stderr


@needs_bwrap
def test_a_sandbox_below_the_profile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    full = bwrap_backend.arguments

    def without_filter(work_dir: str, links: Mapping[str, str]) -> list[str]:
        words = full(work_dir, links)
        at = words.index("--seccomp")
        return words[:at] + words[at + 2 :]

    monkeypatch.setattr(bwrap_backend, "arguments", without_filter)
    with pytest.raises(InputError, match="Seccomp:2"):
        open_sandbox()


@needs_bwrap
def test_further_paths_lead_into_the_work_directory_and_nowhere_else() -> None:
    with open_sandbox(work_dir="/task", links={"/tests": "/task/tests", "/srv/app": "/task/app"}).open() as session:
        finished = session.run(
            ["/bin/sh", "-c", "mkdir app tests; echo 1 > /srv/app/x; cat app/x; ls /tests; touch /srv/y"]
        )
    assert finished.stdout == b"1\n" and b"Read-only" in finished.stderr
    for path in ("/etc/x", "/usr", "/proc/1", "relative", "/a/../etc"):
        with pytest.raises(InputError, match="outside the system's own directories"):
            open_sandbox(links={path: "/work"})
    with pytest.raises(InputError, match="cannot have /tests; take bwrap"):
        open_sandbox("docker", links={"/tests": "/work"})


# --- the filter ---------------------------------------------------------------------------------------------------

ALLOWED, KILLED = 0x7FFF0000, 0x80000000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def answer(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the kernel makes of the filter."""
    program = list(struct.iter_unpack("=HBBI", seccomp.program(machine)))
    values = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number, architecture or ARCHITECTURES[machine], 0, *values)
    at = loaded = 0
    while True:
        code, yes, no, value = program[at]
        at += 1
        if code == 0x20:
            (loaded,) = struct.unpack_from("=I", data, value)
        elif code == 0x06:
            return int(value)
        else:
            test = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[code]
            at += yes if test else no


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_filter_answers_as_it_should(machine: str) -> None:
    def error(code: int) -> int:
        return 0x00050000 | code

    column = list(ARCHITECTURES).index(machine)
    for name, numbers in seccomp.FORBIDDEN.items():
        if numbers[column] is not None:
            assert answer(machine, numbers[column]) == error(errno.EPERM), name
    assert answer(machine, 435) == error(errno.ENOSYS)
    socket_call, pair, clone, personality, ioctl = {
        "x86_64": (41, 53, 56, 135, 16),
        "aarch64": (198, 199, 220, 92, 29),
    }[machine]
    for family in range(50):
        wanted = ALLOWED if family in (1, 2, 10) else error(errno.EAFNOSUPPORT)
        assert answer(machine, socket_call, family) == answer(machine, pair, family) == wanted
    assert answer(machine, clone, 0x003D0F00) == answer(machine, clone, 0x01200011) == ALLOWED
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert answer(machine, clone, flag | 17) == error(errno.EPERM)
    assert answer(machine, personality, 0xFFFFFFFF) == ALLOWED
    assert answer(machine, personality, 0x0040000) == error(errno.EPERM)
    assert answer(machine, ioctl, 0, 0x5401) == ALLOWED
    assert answer(machine, ioctl, 0, 0x5412) == answer(machine, ioctl, 0, 0x541C) == error(errno.EPERM)
    assert answer(machine, ioctl, 0, 0x5412 | 7 << 32) == error(errno.EPERM)  # the kernel takes the low half
    assert answer(machine, 600) == error(errno.ENOSYS)
    for number in {"x86_64": (0, 1, 2, 9, 59, 202, 257, 281, 439), "aarch64": (56, 63, 64, 221, 222, 98, 439)}[machine]:
        assert answer(machine, number) == ALLOWED
    assert answer(machine, 0, architecture=0x40000003) == KILLED
    assert machine != "x86_64" or answer(machine, 0x40000000) == error(errno.ENOSYS)


def test_other_machines_are_refused() -> None:
    with pytest.raises(InputError, match="riscv64"):
        seccomp.program("riscv64")
    assert seccomp.number("mount", "x86_64") == 165 and platform.machine()
