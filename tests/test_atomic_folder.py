"""A folder appears whole or not at all, wherever its writer is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pivotrl.runs.lock import RunLock
from pivotrl.storage.folders import atomic_folder, remove_folder, remove_leftovers, scratch_path

OLD, NEW = {"a": "old", "b": "old"}, {"a": "new", "deep/c": "new"}


def write(folder: Path, content: dict[str, str]) -> None:
    with atomic_folder(folder) as scratch:
        for name, text in content.items():
            (scratch / name).parent.mkdir(exist_ok=True)
            (scratch / name).write_text(text)


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def killed_at(number: int, work: Callable[[], None]) -> bool:
    """Do the work in a process that is killed before its n-th rename, sync, or removal; whether it got so far."""
    pid = os.fork()
    if pid == 0:
        count = 0

        def before(real: Callable[..., object]) -> Callable[..., object]:
            def call(*given: object, **named: object) -> object:
                nonlocal count
                count += 1
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*given, **named)

            return call

        for name in ("rename", "fsync", "unlink", "rmdir", "mkdir", "open"):
            setattr(os, name, before(getattr(os, name)))
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def test_a_folder_is_old_or_new_wherever_its_writer_is_killed_and_nothing_else_stays(tmp_path: Path) -> None:
    target, number, seen = tmp_path / "run" / "policy", 0, set()
    while True:
        write(target, OLD)
        number += 1
        was_killed = killed_at(number, lambda: write(target, NEW))
        remove_leftovers(tmp_path)
        assert [path.name for path in target.parent.iterdir()] == ["policy"]
        assert files(target) in (OLD, NEW)
        seen.add(files(target)["a"])
        if not was_killed:
            break
    assert number > 10
    assert seen == {"old", "new"}


def test_a_removed_folder_is_never_seen_in_part(tmp_path: Path) -> None:
    target, number = tmp_path / "step", 0
    while True:
        write(target, OLD)
        number += 1
        if not killed_at(number, lambda: remove_folder(target)):
            break
        assert not target.exists() or files(target) == OLD
    remove_leftovers(tmp_path)
    assert number > 3
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_older_folder_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "policy", OLD)
    with pytest.raises(OSError, match="full"), atomic_folder(tmp_path / "policy") as scratch:
        (scratch / "a").write_text("half")
        raise OSError("full")
    real = Path.rename

    def refuse_the_last(path: Path, place: Path) -> Path:
        if place == tmp_path / "policy" and path.suffix == ".tmp":
            raise OSError("full")
        return real(path, place)

    monkeypatch.setattr(Path, "rename", refuse_the_last)
    with pytest.raises(OSError, match="full"):
        write(tmp_path / "policy", NEW)
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]
    assert files(tmp_path / "policy") == OLD


def test_the_holder_of_the_lock_removes_what_dead_writers_left_and_spares_the_rest(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    dead, own, other = pid, os.getpid(), os.getppid()
    for name in (f".m.json.{dead}.tmp", f".m.json.{own}.tmp", f".m.json.{other}.tmp", ".notes", ".x.tmp", "a.1.tmp"):
        (tmp_path / name).write_text("part")
    left = tmp_path / "train" / "checkpoints" / f".step_000004.{dead}.tmp"
    left.mkdir(parents=True)
    (left / "table.json").write_text("{")
    with RunLock(tmp_path):
        kept = {path.name for path in tmp_path.rglob("*")}
    assert kept == {f".m.json.{other}.tmp", ".notes", ".x.tmp", "a.1.tmp", ".lock", "train", "checkpoints"}


def test_scratch_names_are_found_again(tmp_path: Path) -> None:
    for kind in ("tmp", "old"):
        scratch_path(tmp_path / "a.b", kind).mkdir()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.b"]  # what was being replaced is put back


def test_leftovers_are_removed_while_another_process_moves_folders(tmp_path: Path) -> None:
    """An export into the run's directory holds no lock. `rglob` would fail when a folder that it listed is gone."""
    ends = threading.Event()

    def moves() -> None:
        while not ends.is_set():
            for number in range(20):
                (tmp_path / f"a{number}" / "b").mkdir(parents=True, exist_ok=True)
            for number in range(20):
                (tmp_path / f"a{number}" / "b").rmdir()
                (tmp_path / f"a{number}").rmdir()

    mover = threading.Thread(target=moves)
    mover.start()
    try:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            remove_leftovers(tmp_path)
    finally:
        ends.set()
        mover.join()
