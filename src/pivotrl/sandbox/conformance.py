"""What every backend must do for an honest command."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pivotrl.sandbox.interface import KILL_SECONDS, Limits, Sandbox, SandboxFault, Session

SHORT = Limits(wall_seconds=0.6)


@dataclass(frozen=True)
class Check:
    """``fault`` is empty if the backend passes."""

    name: str
    fault: str = ""


@contextmanager
def environment() -> Iterator[Path]:
    """A small directory: a file, a program, a link, a directory, odd names."""
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        (top / "text").write_text("one\n")
        (top / "program").write_text("#!/bin/sh\necho ran\n")
        (top / "program").chmod(0o755)
        (top / "link").symlink_to("text")
        (top / "below" / "deep").mkdir(parents=True)
        (top / "below" / "deep" / "a b\n'c'").write_text("odd\n")
        yield top


def _sh(session: Session, script: str, **more: Any) -> Any:
    return session.run(["/bin/sh", "-c", script], **more)


def _exit_codes(sandbox: Sandbox) -> Iterator[tuple[Any, Any]]:
    with sandbox.open() as session:
        for script, code in (("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137)):
            yield _sh(session, script).exit_code, code
        yield session.run(["no-such-program"]).exit_code, 127
        for words in (["/usr"], ["echo", "a\0b"], ["echo", "x" * 200_000], ["echo", "\ud800"], []):
            yield session.run(words).exit_code, 126


def _streams(sandbox: Sandbox) -> Iterator[tuple[Any, Any]]:
    with sandbox.open() as session:
        done = _sh(session, "echo out; echo err >&2")
        yield (done.stdout, done.stderr, done.truncated, done.timed_out), (b"out\n", b"err\n", False, False)
        began = time.monotonic()
        yield session.run(["cat"]).stdout, b""
        yield time.monotonic() - began < 5.0, True
        content = bytes(range(256)) * 400
        yield session.run(["cat"], stdin=content).stdout, content
        yield _sh(session, r"printf '\377\376\000\033[31m'").stdout, b"\xff\xfe\0\x1b[31m"


def _arguments(sandbox: Sandbox) -> Iterator[tuple[Any, Any]]:
    words = ["", "a b", "'\"$x`", "new\nline", "häß", "x" * 100_000, "-n", "--", "caf\udce9"]
    with sandbox.open() as session:
        done = session.run(["printf", "%s|", *words])
        yield done.stdout, b"".join(os.fsencode(word) + b"|" for word in words)


def _work_directory(sandbox: Sandbox) -> Iterator[tuple[Any, Any]]:
    with sandbox.open() as session:
        here = _sh(session, "pwd").stdout
        yield _sh(session, "cd /tmp; touch there").exit_code, 0
        yield _sh(session, "pwd").stdout, here
        yield _sh(session, "ls -A; echo made > file; cat file").stdout, b"made\n"
        yield session.read("file", 100), b"made\n"
        yield list(session.changes()), ["file"]


def _restored(sandbox: Sandbox) -> Iterator[tuple[Any, Any]]:
    with environment() as top, sandbox.open(top) as session:
        yield (
            _sh(session, "./program; cat link; readlink link; cat below/deep/*; test -w text").stdout,
            (b"ran\none\ntext\nodd\n"),
        )
        yield session.changes(), {}
        _sh(session, "echo more >> text; rm -rf below program; mkdir new; echo x > new/file")
        yield sorted(path.name for path in top.iterdir()), ["below", "link", "program", "text"]
        yield (top / "text").read_text(), "one\n"


def _changes(sandbox: Sandbox) -> Iterator[tuple[Any, Any]]:
    cases = {
        "true": {},
        "touch text": {},
        "cat text > other; cat other > text": {"other"},
        "echo more >> text": {"text"},
        "chmod 600 text": {"text"},
        "rm link": {"link"},
        "ln -sf program link": {"link"},
        "mv text renamed": {"text", "renamed"},
        "rm -r below": {"below/deep/a b\n'c'"},
        "rm -r below; mkdir -p below/deep; echo odd > \"below/deep/a b\n'c'\"": set(),
        "rm -r below; echo x > below": {"below", "below/deep/a b\n'c'"},
        "mkdir -p new/er; mkfifo new/fifo": set(),
        "rm text; mkdir text; echo x > text/file": {"text", "text/file"},
        "mv below moved": {"below/deep/a b\n'c'", "moved/deep/a b\n'c'"},
        "ln text hard": {"hard"},
    }
    with environment() as top:
        for script, paths in cases.items():
            with sandbox.open(top) as session:
                yield (script, _sh(session, script).exit_code, set(session.changes())), (script, 0, set(paths))


def _change_kinds(sandbox: Sandbox) -> Iterator[tuple[Any, Any]]:
    with environment() as top, sandbox.open(top) as session:
        _sh(session, "rm text; echo x > new; cp new same; cp new mode; chmod 755 mode; ln -s new link2")
        found = session.changes()
        yield found["text"], "deleted"
        yield found["new"] == found["same"] != found["mode"], True
        yield found["link2"].startswith("link "), True
    with environment() as top, sandbox.open(top) as session:
        _sh(session, "ln -s new link2; rm text; echo x > new; cp new mode; cp new same; chmod 755 mode")
        yield session.changes(), found


def _reading(sandbox: Sandbox) -> Iterator[tuple[Any, Any]]:
    with environment() as top, sandbox.open(top) as session:
        _sh(session, "mkfifo fifo; ln -s below way")
        yield session.read("below/deep/a b\n'c'", 4), b"odd\n"
        for path in ("link", "missing", "below", "fifo", "way/deep", "../work/text", "/etc/passwd", "", "."):
            yield _raises(lambda path=path: session.read(path, 100)), FileNotFoundError  # type: ignore[misc]
        yield _raises(lambda: session.read("text", 3)), SandboxFault


def _limits(sandbox: Sandbox) -> Iterator[tuple[Any, Any]]:
    with sandbox.open(limits=SHORT) as session:
        began = time.monotonic()
        done = _sh(session, "echo kept; echo also >&2; touch file; sleep 60")
        yield time.monotonic() - began <= SHORT.wall_seconds + KILL_SECONDS, True
        yield (done.stdout, done.stderr, done.timed_out, done.exit_code), (b"kept\n", b"also\n", True, None)
        yield _sh(session, "ls").stdout, b"file\n"
        small = Limits(wall_seconds=5.0, output_bytes=1000)
        done = _sh(session, "echo first; seq 1000; echo last", limits=small)
        yield (done.truncated, len(done.stdout), done.exit_code), (True, 1000, 0)
        yield (done.stdout[:6], done.stdout[-5:]), (b"first\n", b"last\n")
        done = _sh(session, "head -c 1000 /dev/zero", limits=small)
        yield (done.truncated, len(done.stdout)), (False, 1000)
        done = _sh(session, "yes", limits=small)
        yield (done.truncated, done.exit_code, done.timed_out), (True, None, False)
        yield _sh(session, "ulimit -c", limits=replace(small, num_processes=8)).exit_code, 0


def _persistence(sandbox: Sandbox) -> Iterator[tuple[Any, Any]]:
    with sandbox.open() as session, sandbox.open() as other:
        _sh(session, "echo a > file; echo b > /tmp/file; echo c > /dev/shm/file; (sleep 60 &) ; export X=1")
        yield _sh(session, "cat file /tmp/file /dev/shm/file; echo $X").stdout, b"a\nb\nc\n\n"
        yield _sh(session, "cat /proc/[0-9]*/comm | grep -c sleep").stdout, b"0\n"
        yield _sh(other, "ls -A . /tmp /dev/shm").stdout, b".:\n\n/dev/shm:\n\n/tmp:\n"


def _tools(sandbox: Sandbox) -> Iterator[tuple[Any, Any]]:
    with environment() as top, sandbox.open(top) as session:
        yield _sh(session, "ls -l text | wc -l").stdout.strip(), b"1"
        yield _sh(session, "grep -rn one . | sed s/one/two/ | sort").stdout, b"./text:1:two\n"
        yield (
            session.run(["python3", "-c", "import os, tempfile; tempfile.TemporaryFile(); print(6 * 7)"]).stdout,
            b"42\n",
        )
        yield _sh(session, "sleep 0.01 & wait; echo $?").stdout, b"0\n"
        yield (
            _sh(session, "find . -type f -newer nothing 2>/dev/null; stat -c %s text; date > /dev/null").stdout,
            b"4\n",
        )


def _many_at_once(sandbox: Sandbox) -> Iterator[tuple[Any, Any]]:
    def one(number: int) -> bytes:
        with sandbox.open() as session:
            _sh(session, f"echo {number} > file")
            return bytes(_sh(session, "cat file").stdout)

    with ThreadPoolExecutor(4) as pool:
        yield list(pool.map(one, range(8))), [f"{number}\n".encode() for number in range(8)]


def _closing(sandbox: Sandbox) -> Iterator[tuple[Any, Any]]:
    session = sandbox.open()
    session.close()
    session.close()
    yield _raises(lambda: session.run(["true"])), SandboxFault


CHECKS: dict[str, Callable[[Sandbox], Iterator[tuple[Any, Any]]]] = {
    "exit codes": _exit_codes,
    "streams and stdin": _streams,
    "arguments": _arguments,
    "work directory": _work_directory,
    "environment restored": _restored,
    "changes": _changes,
    "kinds of change": _change_kinds,
    "reading": _reading,
    "limits": _limits,
    "what persists": _persistence,
    "common programs": _tools,
    "many at once": _many_at_once,
    "closing": _closing,
}
"""Each yields pairs (found, wanted)."""


def run_conformance(sandbox: Sandbox) -> list[Check]:
    """Run every check; one that breaks the sandbox is a fault, not an exception."""
    return [Check(name, _fault(check, sandbox)) for name, check in CHECKS.items()]


def _fault(check: Callable[[Sandbox], Iterator[tuple[Any, Any]]], sandbox: Sandbox) -> str:
    try:
        for found, wanted in check(sandbox):
            if found != wanted:
                return f"{found!r:.300} instead of {wanted!r:.300}"
    except (SandboxFault, OSError, KeyError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _raises(call: Callable[[], object]) -> type[BaseException] | None:
    try:
        call()
    except (FileNotFoundError, SandboxFault) as error:
        return type(error)
    return None
