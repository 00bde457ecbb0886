"""Run every attempt in the sandbox and its control on the host."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from pivotrl.sandbox.attacks import files, kernel, network, processes, resources
from pivotrl.sandbox.attacks.attempt import AttackResult, Attempt, Ran
from pivotrl.sandbox.attacks.calls import answering
from pivotrl.sandbox.attacks.planted_secrets import CANARY, Bait
from pivotrl.sandbox.interface import KILL_SECONDS, Finished, Sandbox, SandboxFault


def all_attempts(addresses: Iterable[str] = tuple(network.PLACES)) -> list[Attempt]:
    """``addresses``: what the bait listens to; a machine without IPv6 has fewer."""
    return [
        *files.attempts(),
        *network.attempts(addresses),
        *processes.attempts(),
        *kernel.attempts(),
        *resources.attempts(),
    ]


def run_attacks(
    sandbox: Sandbox,
    *,
    chosen: Callable[[Attempt], bool] = lambda attempt: True,
    progress: Callable[[AttackResult, int], None] = lambda result, total: None,
) -> list[AttackResult]:
    """Every attempt that is ``chosen``, in order. Takes a minute or two.

    Args:
        progress: called after each attempt with its result and the number of attempts.

    Raises:
        SandboxFault: the sandbox stopped working. An attempt that only breaks its own session is blocked.
    """
    results = []
    with Bait() as bait:
        attempts = [attempt for attempt in all_attempts(bait.addresses) if chosen(attempt)]
        if sandbox.identity.get("own_kernel"):
            attempts = [attempt for attempt in attempts if not attempt.of_this_kernel]
        for attempt in attempts:
            results.append(_try(sandbox, attempt, bait))
            progress(results[-1], len(attempts))
    return results


def _try(sandbox: Sandbox, attempt: Attempt, bait: Bait) -> AttackResult:
    bait.reset()
    control_ok = bool(_control(attempt, bait))
    bait.reset()
    evidence, told = _attack(sandbox, attempt, bait)
    outcome = "breach" if evidence else "blocked" if control_ok else "not_controlled"
    return AttackResult(attempt.name, attempt.category, outcome, control_ok, evidence or told)  # type: ignore[arg-type]


def _attack(sandbox: Sandbox, attempt: Attempt, bait: Bait) -> tuple[str, str]:
    """(what shows a breach, the last line that the script wrote)"""
    words = ["python3", "-I", "-S", "-c", attempt.script, *(word.format(**bait.names) for word in attempt.arguments)]
    with sandbox.open(bait.environment, attempt.limits) as session:
        began = time.monotonic()
        try:
            finished = session.run(words)
        except SandboxFault as fault:
            finished = Finished(None, b"", str(fault).encode(), False, False, 0.0)
        finished = replace(finished, wall_seconds=time.monotonic() - began)  # ours, not what the sandbox says
        lines = (finished.stdout + finished.stderr).decode(errors="replace").split("\n")
        told = next((line for line in reversed(lines) if line.strip()), "")
        return attempt.judge(bait, Ran(finished, attempt.limits, session)), ascii(told[-120:])[1:-1]


def _control(attempt: Attempt, bait: Bait) -> str:
    """What the judge sees when nothing holds the script."""
    arguments = attempt.arguments if attempt.control_arguments is None else attempt.control_arguments
    script = (answering(attempt.control_calls) if attempt.control_calls else "") + attempt.script
    words = [bait.python, "-I", "-S", "-c", script, *(word.format(**bait.names) for word in arguments)]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", CANARY: os.environ[CANARY]}
    began = time.monotonic()
    process = subprocess.Popen(  # type: ignore[call-overload] # noqa: S603 - our own script
        words,
        cwd=bait.scratch,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **bait.user,
    )
    try:
        output, errors = process.communicate(timeout=attempt.limits.wall_seconds + KILL_SECONDS + 0.1)
    except subprocess.TimeoutExpired as expired:
        output, errors = expired.stdout or b"", expired.stderr or b""
    finished = Finished(process.poll(), output, errors, False, False, time.monotonic() - began)
    try:
        return attempt.judge(bait, Ran(finished, attempt.limits))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        while pid := bait.survivor():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        process.communicate()
