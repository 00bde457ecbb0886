"""What an attempt is, and how it is judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pivotrl.sandbox.attacks.planted_secrets import Bait
from pivotrl.sandbox.interface import KILL_SECONDS, Finished, Limits, SandboxFault, Session

Category = Literal["files", "namespaces", "network", "processes", "kernel", "resources"]
CATEGORIES: tuple[Category, ...] = ("files", "namespaces", "network", "processes", "kernel", "resources")
REACHED = "REACHED"
"""What a script writes when the kernel let it through."""
ORDINARY = Limits(wall_seconds=5.0)


@dataclass(frozen=True)
class Ran:
    """One attempt after it ran; without a session when it ran on the host, as a control."""

    finished: Finished
    limits: Limits
    session: Session | None = None


Judge = Callable[[Bait, Ran], str]
"""What shows the breach, in the state of the host; empty: nothing."""


@dataclass(frozen=True)
class Attempt:
    """A script that tries to get out, and what on the host would show that it did."""

    name: str
    category: Category
    script: str
    """Python, run as ``python3 -c SCRIPT ARGUMENTS``."""
    judge: Judge
    arguments: tuple[str, ...] = ()
    """With the names of :attr:`Bait.names` in braces."""
    control_arguments: tuple[str, ...] | None = None
    """For the control, which runs on the host, where the real ones would do harm."""
    control_calls: tuple[str, ...] = ()
    """Or: the control answers these system calls with an error that no kernel gives, instead of making them."""
    limits: Limits = ORDINARY
    of_this_kernel: bool = False
    """Left out where the sandbox has a kernel of its own, in which it does no harm."""


@dataclass(frozen=True)
class AttackResult:
    """``not_controlled``: nothing happened, but nothing would have been seen either."""

    name: str
    category: Category
    outcome: Literal["blocked", "breach", "not_controlled"]
    control_ok: bool
    detail: str = ""


# --- judges -------------------------------------------------------------------------------------------------------


def leaked(bait: Bait, ran: Ran) -> str:
    """The output contains a secret of the host."""
    text = ran.finished.stdout + ran.finished.stderr
    return next((f"the secret {name} came out" for name, secret in bait.secrets.items() if secret in text), "")


def written(bait: Bait, ran: Ran) -> str:
    """The files of the host are not what they were."""
    return bait.difference()


def created(bait: Bait, ran: Ran) -> str:
    """A file with the bait's name appeared in one of the host's directories."""
    return next((f"{path} was created" for path in bait.marks() if bait.unlink(path)), "")


def heard(bait: Bait, ran: Ran) -> str:
    """A listener of the host was spoken to."""
    return ", ".join(bait.heard())


def killed(bait: Bait, ran: Ran) -> str:
    """The bait process is gone or was stopped or traced."""
    return bait.harm(patience_seconds=0.3)


def shared(bait: Bait, ran: Ran) -> str:
    """The processes of the host can be reached, or one was."""
    return killed(bait, ran) or ("the host's processes" if REACHED.encode() in ran.finished.stderr else "")


def claimed(bait: Bait, ran: Ran) -> str:
    """The script says so: for what leaves no trace outside. Its control shows that it can say so."""
    line = next((x for x in ran.finished.stdout.decode(errors="replace").splitlines() if x.startswith(REACHED)), "")
    return line[:200]


def late(bait: Bait, ran: Ran) -> str:
    """The command ran past its time, or left a process behind."""
    seconds = ran.finished.wall_seconds
    if seconds > ran.limits.wall_seconds + KILL_SECONDS:
        return f"{seconds:.2f} s, with a limit of {ran.limits.wall_seconds:g} s"
    return f"process {pid} is left" if (pid := bait.survivor()) else ""


def kept_too_much(bait: Bait, ran: Ran) -> str:
    """More output than allowed, or cut output that does not say so."""
    size = max(len(ran.finished.stdout), len(ran.finished.stderr))
    if size > ran.limits.output_bytes:
        return f"{size:,} bytes were kept"
    over = ran.finished.stdout.startswith(b"long") and not ran.finished.truncated
    return "cut output is not flagged" if over else ""


def read_out(path: str) -> Judge:
    """The session hands out a secret of the host as if it were the sandbox's file."""

    def judge(bait: Bait, ran: Ran) -> str:
        if ran.session is None:  # the control: what a reader that follows links would find
            target = Path(bait.scratch, path)
            return "a careless reader finds it" if target.exists() and bait.is_secret(target.read_bytes()) else ""
        try:
            data = ran.session.read(path, 1 << 20)
        except (FileNotFoundError, SandboxFault):
            data = b""
        changed = "".join(f"{name}{what}" for name, what in ran.session.changes().items()).encode()
        return "read() handed it out" if bait.is_secret(data) or bait.is_secret(changed) else ""

    return judge
