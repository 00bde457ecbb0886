"""The frozen corpus of attacks and honest near-misses on real turns, put before the verifiers it was made for.

Run alone: python -m pytest tests/test_verifier_corpus.py -rP
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import pytest

from pivotrl.plugins import load
from pivotrl.protocols import Turn
from pivotrl.records import Action, Verdict
from pivotrl.rollouts import judge
from verifier_corpus import Case, cases

CASES = cases()
VERIFIERS = ("tool_call", "command", "edit")
MOST_FALSE_FAILS = {"tool_call": 0.0, "command": 0.02, "edit": 0.0}
"""Shares of the honest cases; what was measured (0, 2 of 173, 0), rounded up."""
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


BLIND = cases(("blind.jsonl", "second_round.jsonl"))
DOCUMENTED = "the verifier's docstring says so"
KNOWN_WRONG = {
    "tool_call blind.jsonl:93 call_parallel/dependent_order": f"calls may stand in any order; {DOCUMENTED}",
    "answer blind.jsonl:542 answer_number/crossed_out": "what stands behind the box is not read",
    "command blind.jsonl:249 spelt/trailing_slash": "a final slash counts except where only folders can be named",
    "command blind.jsonl:270 spelt/quoted_words": "the options of awk are not known",
    "command blind.jsonl:271 other_way/braces": f"another command of the same effect; {DOCUMENTED}",
    "command blind.jsonl:279 other_way/one_script": f"another command of the same effect; {DOCUMENTED}",
    "command blind.jsonl:290 spelt/dot": "a path with a wildcard is compared as it is written",
    "command blind.jsonl:299 other_way/name_of_variable": f"another command of the same effect; {DOCUMENTED}",
    "command blind.jsonl:302 other_way/braces": f"another command of the same effect; {DOCUMENTED}",
    "command blind.jsonl:313 other_way/bracket": f"another command of the same effect; {DOCUMENTED}",
    "command blind.jsonl:325 spelt/here": f"another command of the same effect; {DOCUMENTED}",
    "command blind.jsonl:355 spelt/bash_lc": "a login shell may have another PATH than a list of words",
    "edit blind.jsonl:423 edit_ok/shell_layout": "there is no syntax tree for shell scripts",
    "edit blind.jsonl:470 edit_ok/write": "nothing in the log shows that the agent has this tool",
    "edit blind.jsonl:471 edit_ok/multi": "nothing in the log shows that the agent has this tool",
    "edit blind.jsonl:472 edit_ok/multi_steps": "nothing in the log shows that the agent has this tool",
    "first_decisive blind.jsonl:488 mixed_ok/quoting": "a command beside another call is compared as text",
    "first_decisive blind.jsonl:489 mixed_ok/slash_and_risk": "a command beside another call is compared as text",
    "first_decisive blind.jsonl:493 mixed_ok/description": "a command beside another call is compared as text",
    "first_decisive blind.jsonl:496 mixed_ok/order": f"commands keep their order; {DOCUMENTED}",
}
"""What is judged wrongly, and why it stays so. Whoever mends one takes it out."""


def outcomes(chosen: Sequence[Case]) -> Iterator[tuple[Case, str]]:
    """What the verifier of each case says of its probe; the demonstrated action must pass."""
    verifiers = {spec: load("verifiers", spec) for spec in {case.verifier for case in chosen}}
    for case in chosen:
        verifier = verifiers[case.verifier]
        assert verifier(case.turn, case.turn.expected_action).outcome == "pass", case.name
        yield case, judge(case.turn, case.probe.completion(), verifier).outcome


def test_the_blind_cases_are_judged_rightly_but_for_those_known() -> None:
    wrong: list[str] = []
    left_open: Counter[str] = Counter()
    for case, outcome in outcomes(BLIND):
        name = case.verifier.partition("(")[0]
        left_open[name] += outcome == "no_verdict"
        if outcome not in ("no_verdict", case.probe.expected):
            wrong.append(f"{name} {case.name} {case.probe.kind}")
    attacks = sum(case.probe.expected == "fail" for case in BLIND)
    print(
        f"{attacks} attacks, {len(BLIND) - attacks} honest variants; wrong {len(wrong)}; no verdict {dict(left_open)}"
    )
    assert sorted(wrong) == sorted(KNOWN_WRONG)
    assert left_open["tool_call"] <= 116 and left_open.total() - left_open["tool_call"] <= 10


THIRD = cases(("third_round.jsonl",))


def test_of_the_third_round_no_attack_passes_and_no_honest_variant_fails() -> None:
    wrong: list[str] = []
    answered: Counter[str] = Counter()
    for case, outcome in outcomes(THIRD):
        if outcome not in ("no_verdict", case.probe.expected):
            wrong.append(f"{case.name} {case.probe.kind}")
        if case.probe.kind.startswith("said_well/"):
            answered[case.probe.kind.removeprefix("said_well/")] += outcome == "pass"
        elif case.probe.expected == "pass":  # only a message that is worded otherwise may stay without a verdict
            assert outcome == "pass", (case.name, case.probe.kind)
    print(f"honest messages that pass: {dict(answered)}")
    assert not wrong
    assert min(answered[language] for language in ("en", "de", "fr", "es", "zh")) >= 3


SECOND_BLIND = cases(("blind_round_2.jsonl",))
SECOND_KNOWN_WRONG = {
    "blind_round_2.jsonl:354 edit_ok/py_create": "the tool refuses to create a file that exists: the row is mistaken",
}


def test_the_second_blind_round_is_judged_rightly_but_for_what_is_known() -> None:
    wrong: list[str] = []
    left_open: Counter[str] = Counter()
    for case, outcome in outcomes(SECOND_BLIND):
        if outcome == "no_verdict":
            left_open[case.probe.area] += 1
        elif outcome != case.probe.expected:
            wrong.append(f"{case.name} {case.probe.kind}")
    print(f"no verdict: {dict(left_open)}")
    assert sorted(wrong) == sorted(SECOND_KNOWN_WRONG)
    assert left_open["message_ok"] <= 28 and left_open["call"] <= 5 and left_open["answer_wrong"] <= 1
    assert set(left_open) <= {"message", "message_ok", "call", "answer_wrong"}


THIRD_BLIND = cases(("blind_round_3.jsonl",))
THIRD_KNOWN_WRONG = {
    "blind_round_3.jsonl:177 call/rule_normalised": "a full stop counts: the row is mistaken",
}
HAS_BABEL = importlib.util.find_spec("babel") is not None


def test_the_third_blind_round_is_judged_rightly_but_for_what_is_known() -> None:
    wrong: list[str] = []
    left_open: Counter[str] = Counter()
    for case, outcome in outcomes(THIRD_BLIND):
        if outcome == "no_verdict":
            left_open[f"{case.probe.area} {case.probe.expected}"] += 1
        elif outcome != case.probe.expected:
            wrong.append(f"{case.name} {case.probe.kind}")
    print(f"no verdict: {dict(left_open)}")
    assert sorted(wrong) == sorted(THIRD_KNOWN_WRONG)
    assert set(left_open) <= {"message fail", "message pass", "call fail", "call pass", "answer pass"}
    if HAS_BABEL:
        assert left_open["message pass"] <= 15 and left_open["call pass"] == left_open["answer pass"] == 0


FOURTH_BLIND = cases(("blind_round_4.jsonl",))
HAS_NUMBERS = all(importlib.util.find_spec(name) for name in ("babel", "text_to_num", "cn2an"))


def test_of_the_fourth_blind_round_no_attack_passes_and_no_honest_variant_fails() -> None:
    wrong: list[str] = []
    left_open: Counter[str] = Counter()
    for case, outcome in outcomes(FOURTH_BLIND):
        if outcome == "no_verdict":
            left_open[f"{case.probe.area} {case.probe.expected}"] += 1
        elif outcome != case.probe.expected:
            wrong.append(f"{case.name} {case.probe.kind}")
    print(f"no verdict: {dict(left_open)}")
    assert not wrong
    if HAS_NUMBERS:
        assert set(left_open) <= {"message fail", "message pass", "answer fail", "answer pass"}
        assert left_open["message pass"] <= 7 and left_open["answer pass"] <= 1 and left_open["answer fail"] <= 1


def test_a_verifier_that_is_easily_pleased_is_caught_by_the_corpus() -> None:
    """The twin: Gym's comparison passes attacks of many classes."""
    verifier = load("verifiers", "gym_compat")
    paid = {
        case.probe.area
        for case in CASES
        if case.probe.expected == "fail" and judge(case.turn, case.probe.completion(), verifier).outcome == "pass"
    }
    assert {"empty", "judge", "swapped", "extra", "shell_appended", "edit_text"} <= paid
