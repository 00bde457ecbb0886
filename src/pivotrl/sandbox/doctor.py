"""Check whether the sandbox holds, before model-written code runs in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pivotrl.sandbox import open_sandbox
from pivotrl.sandbox.attacks import CATEGORIES, AttackResult, run_attacks
from pivotrl.sandbox.conformance import Check, run_conformance


@dataclass(frozen=True)
class SandboxRecord:
    """The findings, for the terminal and for manifests."""

    identity: dict[str, Any]
    checks: tuple[Check, ...]
    attacks: tuple[AttackResult, ...]

    @property
    def is_sound(self) -> bool:
        """No fault and no breach."""
        return not any(check.fault for check in self.checks) and not self.breaches

    @property
    def breaches(self) -> tuple[AttackResult, ...]:
        return tuple(result for result in self.attacks if result.outcome == "breach")

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Category -> outcome -> number of attempts."""
        return {name: dict(Counter(r.outcome for r in self.attacks if r.category == name)) for name in CATEGORIES}


def examine_sandbox(
    backend: str = "bwrap",
    *,
    require_cgroup: bool = False,
    progress: Callable[[AttackResult, int], None] = lambda result, total: None,
) -> SandboxRecord:
    """Conformance checks, then every attack. About two minutes; changes nothing on this machine.

    Args:
        progress: called after each attack with its result and the number of attacks.

    Raises:
        InputError: as :func:`pivotrl.sandbox.open_sandbox`.
        SandboxFault: the sandbox stopped working during the checks.
    """
    sandbox = open_sandbox(backend, require_cgroup=require_cgroup)
    checks = tuple(run_conformance(sandbox))
    return SandboxRecord(sandbox.identity, checks, tuple(run_attacks(sandbox, progress=progress)))
