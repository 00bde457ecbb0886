"""The work directory of a session: the tool that runs commands in it, what changed in it, a copy of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pivotrl.protocols import NotRestorable
from pivotrl.records import Message, Tool, ToolCall
from pivotrl.sandbox.interface import Limits, SandboxFault, Session

BASH = Tool(
    name="bash",
    description="Run a command in a new shell that starts in the work directory.",
    parameters={
        "type": "object",
        "properties": {"command": {"type": "string"}},
        "required": ["command"],
        "additionalProperties": False,
    },
)
SHELL = ("/usr/bin/env", "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1", "PYTHONHASHSEED=0", "bash", "--norc", "-c")
"""Byte code depends on the time, and hashes are random by default: both would make every state differ."""
_FIND = ("find", ".", "/tmp", "/dev/shm")  # noqa: S108 - paths inside the sandbox
_NO_GIT = ("-not", "-path", "./.git/*")
_OUTSIDE = (
    *("!", "(", "-path", "./*", "(", "-type", "f", "-o", "-type", "l", ")", ")"),
    *("-printf", "%y %m %p %l\\0", "-type", "f", "-exec", "sha256sum", "-z", "{}", "+"),
)
"""Lists what a session's own changes leave out: directories, and files outside the work directory."""
_ROTATED = bytes.maketrans(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
    b"nopqrstuvwxyzabcdefghijklmNOPQRSTUVWXYZABCDEFGHIJKLM1234567890",
)


class Ran(NamedTuple):
    """What a command did."""

    output: str
    """Standard output, then standard error."""
    exit_code: int | None
    fault: str
    """``time_limit``, ``output_truncated``, ``killed`` (memory), or empty."""
    told: str
    """The fault in words."""
    data: bytes
    """The output before it was decoded."""


def run(session: Session, shell: Sequence[str], command: str, limits: Limits) -> Ran:
    """Raises:
    SandboxFault: the sandbox failed.
    """
    finished = session.run([*shell, command], limits=limits)
    data = finished.stdout + finished.stderr
    fault, told = "", ""
    if finished.timed_out:
        fault, told = "time_limit", f"killed after {limits.wall_seconds:g} s"
    elif finished.truncated:
        fault, told = "output_truncated", f"output cut to {len(data)} bytes"
    elif finished.exit_code is None:
        fault, told = "killed", "killed: it took too much memory"
    return Ran(data.decode(errors="backslashreplace"), finished.exit_code, fault, told, data)


def state(session: Session, limits: Limits, ignores_git: bool = False) -> dict[str, Any]:
    """Files and links in the work directory that changed, and everything outside it.

    Args:
        ignores_git: leave out what is below ``.git``, which holds times.

    Raises:
        NotRestorable: the state is too large or unreadable, or the sandbox failed.
    """
    try:
        outside = session.run([*_FIND, *(_NO_GIT if ignores_git else ()), *_OUTSIDE], limits=limits)
        changed = session.changes()
    except SandboxFault as error:
        raise NotRestorable("sandbox_failed", str(error)) from error
    if ignores_git:
        changed = {path: what for path, what in changed.items() if not path.startswith(".git/")}
    if outside.exit_code != 0 or outside.truncated or any("unreadable" in what for what in changed.values()):
        raise NotRestorable("state_not_readable", outside.stderr.decode(errors="replace")[:200])
    return {"changed": changed, "outside": sorted(outside.stdout.decode(errors="backslashreplace").split("\0"))}


def copy(session: Session, files: Path | None, folder: Path, max_bytes: int) -> None:
    """Copy the work directory as it is now; it began with ``files``, or empty. Of what changed only regular files come
    along, since a link may lead anywhere.

    Raises:
        SandboxFault: the sandbox failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if files is not None:
        shutil.copytree(files, folder, symlinks=True, dirs_exist_ok=True)
    changed = sorted(session.changes().items())
    for path, _ in changed:
        if (folder / path).is_dir() and not (folder / path).is_symlink():
            shutil.rmtree(folder / path)  # a file now
        else:
            (folder / path).unlink(missing_ok=True)
    for path, what in changed:
        if what == "deleted":
            continue
        try:
            data = session.read(path, max_bytes)
        except FileNotFoundError:
            continue
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
        (folder / path).chmod(int(what.split()[-1], 8) | 0o400)


def alter(folder: Path, ignores_git: bool = False) -> None:
    """Give every file another and longer content: letters and digits replaced, the last line several times."""
    plain = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    plain = [path for path in plain if not (ignores_git and ".git" in path.parts)]
    for number, path in enumerate(sorted(plain), start=1):
        lines = path.read_bytes().translate(_ROTATED).splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            lines.insert(0, lines[-1] + b"\n")
        path.write_bytes(b"".join(lines + lines[-1:] * number))


def answers(calls: Sequence[ToolCall], texts: Sequence[str]) -> tuple[Message, ...]:
    """The answers to the agent: a tool message for each call, or a user message for a text without calls."""
    if not calls:
        return tuple(Message(role="user", content=text) for text in texts)
    return tuple(
        Message(role="tool", content=text, tool_call_id=call.id) for call, text in zip(calls, texts, strict=True)
    )
