"""Faults of the machine at a chosen file event of a forked run: SIGKILL, a full disk, a disk that fails once.

A file event is what a process does to files under the run's folder: opening one for writing, a write, a sync, a rename,
a new folder, a removal. A write that is struck is done by half.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import math
import os
import re
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import safetensors.torch

Kind = Literal["kill", "full", "fails"]
_AUDITED = {"open": "open", "os.mkdir": "mkdir", "os.rename": "rename", "os.remove": "unlink", "os.rmdir": "rmdir"}
NEEDS_SPACE = ("open", "mkdir", "write", "sync", "save")
"""Events that a full disk refuses."""


@dataclass(frozen=True)
class Fault:
    """What happens, and at which file event (from 1)."""

    kind: Kind
    number: int


@functools.cache
def _holders(num_modules: int) -> list[tuple[Any, str]]:
    """Where ``save_file`` of safetensors is known by a name. Looked up in the parent, since it takes a while."""
    found = [(module, dict(vars(module))) for module in list(sys.modules.values()) if hasattr(module, "__dict__")]
    return [(module, name) for module, names in found for name, value in names.items() if value is _save_file]


_save_file = safetensors.torch.save_file


@dataclass
class Watch:
    """Counts the file events of this process under a folder, and strikes at one of them. It stays until the process
    ends, so it belongs into a fork."""

    folder: Path
    log: int
    fault: Fault | None = None
    events: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    is_full: bool = False

    def start(self) -> None:
        sys.addaudithook(self._audit)
        for name, event in (("write", "write"), ("fsync", "sync"), ("fdatasync", "sync"), ("ftruncate", "truncate")):
            setattr(os, name, self._on_descriptor(getattr(os, name), event))
        self._watch_safetensors()

    def tell(self, *words: object) -> None:
        os.pwrite(self.log, (" ".join(map(str, words)) + "\n").encode(), os.fstat(self.log).st_size)

    def _audit(self, event: str, given: tuple[Any, ...]) -> None:
        if event not in _AUDITED:
            return
        is_opening = event == "open"
        if is_opening and not (isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            return
        folder = given[-1] if event in ("os.remove", "os.rmdir") and isinstance(given[-1], int) else -1
        self._strike(_AUDITED[event], self._place(given[0], folder))

    def _on_descriptor(self, real: Callable[..., Any], event: str) -> Callable[..., Any]:
        def call(descriptor: int, *given: Any) -> Any:
            def by_half() -> None:
                if event == "write":
                    real(descriptor, given[0][: len(given[0]) // 2])

            self._strike(event, self._place(descriptor), by_half)
            if event != "sync":
                return real(descriptor, *given)
            if real.__name__ == "fdatasync":  # not done: what a killed process has written is there without it
                self.tell("committed")
            return None

        return call

    def _watch_safetensors(self) -> None:
        """Its files are written outside Python; here by us, so that they can be struck in the middle."""

        def save(tensors: Any, path: Any, metadata: Any = None) -> None:
            data = safetensors.torch.save(tensors, metadata)
            self._strike("save", self._place(path), lambda: Path(path).write_bytes(data[: len(data) // 2]))
            with open(path, "wb") as file:  # noqa: PTH123 - counted by its own event
                file.write(data)

        for module, name in _holders(len(sys.modules)):
            setattr(module, name, save)

    def _place(self, place: Any, folder: int = -1) -> str | None:
        """The path under the folder, without the number of the process; None elsewhere."""
        if isinstance(place, int):
            path = Path(f"/proc/self/fd/{place}").readlink()
        elif folder >= 0:
            path = Path(f"/proc/self/fd/{folder}").readlink() / os.fsdecode(place)
        else:
            path = Path(os.fsdecode(place))
        if not path.is_relative_to(self.folder) or path.name == ".lock":
            return None
        return str(path.relative_to(self.folder)).replace(f".{os.getpid()}", "")

    def _strike(self, event: str, place: str | None, by_half: Callable[[], object] = lambda: None) -> None:
        if place is None:
            return
        self.events.append(event)
        self.places.append(place)
        fault = self.fault
        is_now = fault is not None and len(self.events) == fault.number
        if not (is_now or (self.is_full and event in NEEDS_SPACE)):
            return
        assert fault is not None
        if fault.kind == "full":
            self.is_full = True
            if event not in NEEDS_SPACE:
                return
        if is_now:
            self.fault = None if fault.kind == "fails" else fault  # what is done by half is no event of its own
            by_half()
        if fault.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        number = errno.ENOSPC if fault.kind == "full" else errno.EIO
        raise OSError(number, os.strerror(number))


@dataclass
class Attempt:
    """How one process fared."""

    code: int
    """0: ended. 4: told of a disk that refuses. 1: anything else. Below 0: killed by that signal."""
    said: str
    bought: Counter[str]
    in_flight: Counter[str]
    """Bought after the last record was committed, and in episodes that had not ended: those play side by side, and each
    is stored as it ends."""
    events: list[str]
    places: list[str]
    """Where each event was, under the folder."""
    cpu_seconds: float = 0.0


def attempt(
    work: Callable[[Path, Callable[..., None]], None],
    folder: Path,
    log: Path,
    fault: Fault | None = None,
    seconds: float | None = None,
) -> Attempt:
    """Do the work in a fork of this process.

    Args:
        work: called with the folder and with what is to be told of each sample that is bought.
        log: written outside the folder.
        fault: strikes at a file event.
        seconds: SIGKILL after so much processor time, wherever it is: on a busy machine it gets as far as elsewhere.
    """
    descriptor = os.open(log, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    stored_before = _episode_turns(folder)
    _holders(len(sys.modules))
    pid = os.fork()
    if pid == 0:
        code = 1
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        watch = Watch(folder, descriptor, fault)
        watch.start()
        try:
            work(folder, lambda name: watch.tell("bought", name))
            code = 0
        except OSError as error:
            watch.tell("refused:", error)
            code = 4
        except BaseException:
            watch.tell(traceback.format_exc())
        finally:
            watch.tell("events", json.dumps([watch.events, watch.places]))
            os._exit(code)
    if seconds is not None:
        while (left := seconds - _processor_seconds(pid)) > 0:
            time.sleep(max(left, 0.0005))
        os.kill(pid, signal.SIGKILL)
    _, status, used = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    os.close(descriptor)
    done = _read(log.read_text(errors="replace"), code)
    done.cpu_seconds = used.ru_utime + used.ru_stime
    played = Counter({name: count for name, count in done.bought.items() if name.startswith("episode-")})
    done.in_flight |= played - (_episode_turns(folder) - stored_before)
    return done


def _processor_seconds(pid: int) -> float:
    """Of the main thread of a process so far; infinite if it has ended."""
    if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
        return math.inf
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _episode_turns(folder: Path) -> Counter[str]:
    """The turns of all stored episodes, as they are told when they are bought; a torn last line is no record."""
    found = Counter[str]()
    for path in folder.rglob("*.episodes.jsonl"):
        for line in path.read_bytes().split(b"\n"):
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                name = f"{row['environment']}/{row['task_id']}~{row.get('number', 0)}"
                found.update(f"episode-{name}#{turn['index']} seed {row['seed']}" for turn in row["turns"])
    return found


def _read(text: str, code: int) -> Attempt:
    bought, in_flight, said = Counter[str](), Counter[str](), list[str]()
    events, places = list[str](), list[str]()
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "bought":
            bought[rest] += 1
            in_flight[rest] += 1
        elif word == "committed":
            in_flight.clear()
        elif word == "events":
            events, places = json.loads(rest)
        else:
            said.append(line)
    return Attempt(code, "\n".join(said), bought, in_flight, events, places)


_TIMES = re.compile(
    r'"(?:id|time/\w+|started_at|resumed_at|finished_at|\w*seconds?|_crc32|checksum|train/metrics.jsonl|'
    r'evaluations/\w+.episodes.jsonl)": ?(?:"[^"]*"|\{[^}]*\}|[\d.e+-]+|null)'
)
_LOGPROBS = re.compile(r'("logprobs_T":)(\[[^\]]*\])')


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a run, times left out. The report and the key that is drawn at random: that they are there."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            found[name] = b"folder"
        elif name in (".lock", ".redaction_key", "report.html", "report.json"):
            found[name] = b""
        elif name.endswith(("manifest.json", "metrics.jsonl", "check.json")):
            found[name] = _TIMES.sub("", path.read_text()).encode()
        elif name.startswith("evaluations/") and name.endswith("episodes.jsonl"):
            found[name] = _LOGPROBS.sub(_rounded, _TIMES.sub("", path.read_text())).encode()
        else:
            found[name] = path.read_bytes()
    return found


def _rounded(found: re.Match[str]) -> str:
    """Which episodes are played side by side after a fault depends on it, and on some processors their rounding too."""
    return found[1] + json.dumps([round(value, 3) for value in json.loads(found[2])])


def bought_again(whole: Attempt, attempts: Sequence[Attempt]) -> Counter[str]:
    """Samples that were bought more often than by an undisturbed run and were not in flight at any fault."""
    bought, spared = Counter[str](), Counter[str]()
    for one in attempts:
        bought += one.bought
    for one in attempts[:-1]:
        spared += one.in_flight
    return bought - whole.bought - spared
