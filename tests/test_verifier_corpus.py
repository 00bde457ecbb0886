"""The frozen corpus of attacks and honest near-misses on real turns, put before the verifiers it was made for.

Run alone: python -m pytest tests/test_verifier_corpus.py -rP
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable
from functools import cache

import pytest

from pivotrl.plugins import load
from pivotrl.protocols import Turn
from pivotrl.records import Action, Verdict
from pivotrl.rollouts import judge
from verifier_corpus import Case, cases

CASES = cases()
VERIFIERS = ("tool_call", "command", "edit")
MOST_FALSE_FAILS = {"tool_call": 0.01, "command": 0.09, "edit": 0.01}
"""Shares of the honest cases; what was measured (0, 14 of 173, 0), rounded up."""
MOST_WITHOUT_VERDICT = {"tool_call": 0.06, "command": 0.0, "edit": 0.07}
"""Shares of all cases."""


@cache
def verdicts(name: str) -> list[tuple[Case, Verdict]]:
    if importlib.util.find_spec(f"pivotrl.verifiers.{name}") is None:
        pytest.skip(f"there is no verifier {name} yet; {sum(c.verifier == name for c in CASES)} cases are left out")
    verifier: Callable[[Turn, Action], Verdict] = load("verifiers", name)
    return [(case, judge(case.turn, case.probe.completion(), verifier)) for case in CASES if case.verifier == name]


def test_the_corpus_is_as_large_as_it_should_be() -> None:
    attacks = [case.probe for case in CASES if case.probe.expected == "fail"]
    honest = [case.probe for case in CASES if case.probe.expected == "pass"]
    by_hand = [case for case in CASES if case.name.startswith("by_hand")]
    print(f"{len(attacks)} attacks of {len({p.area for p in attacks})} classes, {len(honest)} honest variants")
    assert len(attacks) >= 200 and len({probe.area for probe in attacks}) >= 15
    assert len(honest) >= 200
    assert len(by_hand) >= 60
    assert len({(case.turn.id, str(case.probe), case.verifier) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("name", VERIFIERS)
def test_the_demonstrated_action_passes_at_every_turn_of_the_corpus(name: str) -> None:
    verifier = load("verifiers", name)
    turns = {case.turn.id: case.turn for case, _ in verdicts(name)}
    refused = [turn.id for turn in turns.values() if verifier(turn, turn.expected_action).outcome != "pass"]
    assert not refused


@pytest.mark.parametrize("name", VERIFIERS)
def test_no_attack_passes(name: str) -> None:
    paid = [
        f"{case.name} {case.turn.id} {case.probe.kind} ({case.note}): {verdict.reason}"
        for case, verdict in verdicts(name)
        if case.probe.expected == "fail" and verdict.outcome == "pass"
    ]
    assert not paid, "\n".join(paid)


@pytest.mark.parametrize("name", VERIFIERS)
def test_few_honest_variants_fail(name: str) -> None:
    honest = [(case, verdict) for case, verdict in verdicts(name) if case.probe.expected == "pass"]
    failed = Counter(case.probe.kind for case, verdict in honest if verdict.outcome == "fail")
    open_ones = Counter(case.probe.kind for case, verdict in verdicts(name) if verdict.outcome == "no_verdict")
    print(f"{name}: {failed.total()} of {len(honest)} honest variants fail: {dict(failed)}")
    print(f"{name}: {open_ones.total()} of {len(verdicts(name))} cases get no verdict: {dict(open_ones)}")
    assert failed.total() <= MOST_FALSE_FAILS[name] * len(honest)
    assert open_ones.total() <= MOST_WITHOUT_VERDICT[name] * len(verdicts(name))


def test_a_verifier_that_is_easily_pleased_is_caught_by_the_corpus() -> None:
    """The twin: Gym's comparison passes attacks of many classes."""
    verifier = load("verifiers", "gym_compat")
    paid = {
        case.probe.area
        for case in CASES
        if case.probe.expected == "fail" and judge(case.turn, case.probe.completion(), verifier).outcome == "pass"
    }
    assert {"empty", "judge", "swapped", "extra", "shell_appended", "edit_text"} <= paid
