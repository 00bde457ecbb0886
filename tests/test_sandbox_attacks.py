"""Nothing gets out of the sandbox, and the suite that says so sees what gets out of a worse one.

Run alone: python -m pytest tests/test_sandbox_attacks.py
"""

import os
import shutil
from collections import Counter
from typing import Any

import pytest

from pivotrl.sandbox.attacks import CATEGORIES, AttackResult, all_attempts, run_attacks
from pivotrl.sandbox.conformance import Check
from pivotrl.sandbox.doctor import SandboxRecord, examine_sandbox
from sandbox_runs import as_user, attack, is_quick, sandbox
from sandbox_twin import ReasonableSandbox

pytestmark = pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


CANNOT_BE_CONTROLLED = {"a 32-bit call by int 0x80"}
"""Where the kernel was built without 32-bit calls."""


def assert_held(results: list[Any]) -> None:
    """No breach, and every attempt would have been seen."""
    found = [result if isinstance(result, AttackResult) else AttackResult(**result) for result in results]
    assert not [result for result in found if result.outcome == "breach"]
    assert {result.name for result in found if not result.control_ok} <= CANNOT_BE_CONTROLLED


def test_there_are_enough_attempts_of_every_kind() -> None:
    attempts = all_attempts()
    counts = Counter(attempt.category for attempt in attempts)
    assert len({attempt.name for attempt in attempts}) == len(attempts) >= 120
    assert all(counts[category] >= 20 for category in CATEGORIES)


def test_a_sample_of_the_attacks_is_held() -> None:
    results = attack(sandbox(), whole=False)
    assert {result.category for result in results} == set(CATEGORIES)
    assert_held(results)


@needs_root
def test_a_sample_of_the_attacks_is_held_for_an_ordinary_user() -> None:
    found = as_user("sample")
    assert found["identity"]["started_as"] == "user" and len(found["results"]) > 15
    assert_held(found["results"])


TWIN_FALLS = {
    "call io_uring_setup": "kernel surface",
    "socket family netlink": "a family that is not namespaced",
    "environment of the first process": "the launcher's environment is bwrap's",
    "attach to the first process": "and so is its memory",
    "disk: many files in .": "limits on a file are not limits on files",
    "output: long": "output without a cap",
}


def test_a_reasonable_sandbox_does_not_hold() -> None:
    results = {r.name: r for r in run_attacks(ReasonableSandbox(), chosen=lambda a: a.name in TWIN_FALLS)}
    assert {name for name, result in results.items() if result.outcome == "breach"} == set(TWIN_FALLS)


@needs_root
def test_started_by_root_a_reasonable_sandbox_can_write_the_hosts_settings() -> None:
    names = {f"open /proc/sys/{name}" for name in ("kernel/core_pattern", "vm/overcommit_memory", "kernel/panic")}
    results = run_attacks(ReasonableSandbox(), chosen=lambda attempt: attempt.name in names)
    assert {result.name for result in results if result.outcome == "breach"} == names


@pytest.mark.slow
def test_the_doctor_finds_a_sound_sandbox() -> None:
    record = examine_sandbox()
    assert record.is_sound and len(record.attacks) >= 300
    assert_held(list(record.attacks))


@pytest.mark.slow
def test_every_attack_is_held_without_control_groups() -> None:
    assert_held(attack(sandbox(use_cgroup=False), whole=True))


@pytest.mark.slow
@needs_root
def test_every_attack_is_held_for_an_ordinary_user() -> None:
    assert_held(as_user("whole")["results"])


@pytest.mark.slow
def test_no_attack_gets_out_of_gvisor() -> None:
    if not shutil.which("runsc"):
        pytest.skip("runsc is not installed")
    results = run_attacks(
        sandbox("gvisor"), chosen=lambda attempt: is_quick(attempt) and attempt.category != "resources"
    )
    assert not [result for result in results if result.outcome == "breach"]


@pytest.mark.parametrize(
    ("fault", "outcome", "sound"),
    [("", "blocked", True), ("", "not_controlled", True), ("", "breach", False), ("b instead of a", "blocked", False)],
)
def test_a_fault_or_a_breach_makes_a_sandbox_unsound(fault: str, outcome: Any, sound: bool) -> None:
    result = AttackResult("read by dots", "files", outcome, outcome != "not_controlled")
    record = SandboxRecord({}, (Check("exit codes", fault),), (result,))
    assert record.is_sound == sound and record.counts["files"] == {outcome: 1}
