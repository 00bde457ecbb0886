"""What several verifiers together say, which of them are asked, and what stands of it in a manifest.

Run alone: python -m pytest tests/test_combinators.py
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from pivotrl import plugins
from pivotrl.plugins.describing import describe
from pivotrl.protocols import InputError, Turn, Verifier
from pivotrl.records import Action, Message, ToolCall, Trajectory, Verdict
from pivotrl.rollouts import turns_bought
from pivotrl.verifiers import all_of, any_of, exact, first_decisive, tool_call

PASS, FAIL, NONE = Verdict.passed("p"), Verdict.failed("f"), Verdict.unknown("n")
HALF_PASS, HALF_FAIL = Verdict.passed("hp", reward=0.5), Verdict.failed("hf", reward=0.25)
ALL = (PASS, FAIL, NONE, HALF_PASS, HALF_FAIL)
X = Action(content="x")


def turn(expected: Action = X) -> Turn:
    message = Message(role="assistant", content=expected.content, tool_calls=expected.tool_calls)
    return Turn(Trajectory(id="t", task_id="t", messages=(Message(role="user", content="?"), message)), 1)


def says(verdict: Verdict, asked: list[str] | None = None) -> Verifier:
    def verify(turn: Turn, action: Action) -> Verdict:
        if asked is not None:
            asked.append(verdict.reason)
        return verdict

    return verify


def ask(combination: Callable[..., Verifier], *verdicts: Verdict, **options: Any) -> tuple[Verdict, list[str]]:
    asked: list[str] = []
    verifier = combination(verifiers=tuple(says(verdict, asked) for verdict in verdicts), **options)
    return verifier(turn(), X), asked


@pytest.mark.parametrize("combination", [first_decisive.verify, any_of.verify, all_of.verify])
def test_what_the_parts_bought_and_the_rewards_of_the_one_taken_are_kept(combination: Callable[..., Verifier]) -> None:
    silent = Verdict.unknown("n", num_rollout_turns=3)
    played = Verdict.passed("reaches_threshold", 0.5, num_rollout_turns=7, rewards=[1.0, 0.0])
    found, asked = ask(combination, silent, played)
    assert asked == ["n", "reaches_threshold"] and turns_bought([found]) == 10
    if found.outcome == "pass":
        assert found.details["rewards"] == [1.0, 0.0]
    strange = Verdict.passed("p", num_rollout_turns="3", rewards="many")
    assert turns_bought([ask(combination, strange)[0]]) == 0


def test_the_rewards_kept_are_those_that_the_reward_is_the_mean_of() -> None:
    low = Verdict.passed("p", 0.25, rewards=[0.5, 0.0])
    found, _ = ask(all_of.verify, low, Verdict.failed("f", 0.5, rewards=[1.0, 0.0]))
    assert (found.outcome, found.reward, found.details["rewards"]) == ("fail", 0.25, [0.5, 0.0])
    found, _ = ask(all_of.verify, Verdict.passed("p", 0.25), Verdict.failed("f", 0.5, rewards=[1.0, 0.0]))
    assert found.reward == 0.25 and "rewards" not in found.details


@pytest.mark.parametrize("verdicts", itertools.product(ALL, repeat=3))
def test_the_outcome_and_reward_follow_from_the_parts(verdicts: tuple[Verdict, ...]) -> None:
    outcomes, rewards = [v.outcome for v in verdicts], [v.reward for v in verdicts if v.reward is not None]

    found, _ = ask(any_of.verify, *verdicts)
    if "pass" in outcomes:
        best = max(v.reward or 0.0 for v in verdicts if v.outcome == "pass")
        assert (found.outcome, found.reward) == ("pass", best)
    elif "no_verdict" in outcomes:
        assert (found.outcome, found.reward) == ("no_verdict", None)
    else:
        assert (found.outcome, found.reward) == ("fail", max(rewards))

    found, asked = ask(all_of.verify, *verdicts)
    seen = [v for v in verdicts[: len(asked)] if v.reward is not None]
    if "fail" in outcomes:
        assert (found.outcome, found.reward) == ("fail", min(v.reward for v in seen if v.reward is not None))
    elif "no_verdict" in outcomes:
        assert (found.outcome, found.reward) == ("no_verdict", None)
    else:
        assert (found.outcome, found.reward) == ("pass", min(rewards))

    found, asked = ask(first_decisive.verify, *verdicts)
    decisive = next((v for v in verdicts if v.outcome != "no_verdict"), None)
    expected = (decisive.outcome, decisive.reward, decisive.reason) if decisive else ("no_verdict", None, "undecided")
    assert (found.outcome, found.reward, found.reason) == expected
    assert [part["reason"] for part in found.details["parts"]] == asked


@pytest.mark.parametrize(
    ("combination", "verdicts", "asked"),
    [
        (first_decisive.verify, (NONE, PASS, FAIL), ["n", "p"]),
        (first_decisive.verify, (FAIL, PASS), ["f"]),
        (any_of.verify, (FAIL, PASS, NONE), ["f", "p"]),
        (any_of.verify, (HALF_PASS, PASS), ["hp", "p"]),  # there may be a higher reward
        (all_of.verify, (PASS, NONE, FAIL, PASS), ["p", "n", "f"]),
        (all_of.verify, (HALF_FAIL, FAIL), ["hf", "f"]),
    ],
)
def test_none_is_asked_that_cannot_change_anything(
    combination: Callable[..., Verifier], verdicts: tuple[Verdict, ...], asked: list[str]
) -> None:
    assert ask(combination, *verdicts)[1] == asked


@pytest.mark.parametrize(
    ("verdicts", "reasons", "expected"),
    [
        ((FAIL, PASS), ("f",), ("pass", "p")),
        ((FAIL, HALF_FAIL), ("f",), ("fail", "hf")),
        ((FAIL, PASS), ("other",), ("fail", "f")),
        ((FAIL, NONE), ("f",), ("no_verdict", "undecided")),  # open, and nobody could say: not a fail
        ((NONE, FAIL), ("f",), ("fail", "f")),  # the last one's stands
        ((FAIL,), ("f",), ("fail", "f")),
        ((FAIL, PASS), "f", ("pass", "p")),
    ],
)
def test_a_fail_that_is_open_to_another_view_goes_on(
    verdicts: tuple[Verdict, ...], reasons: Any, expected: tuple[str, str]
) -> None:
    found, _ = ask(first_decisive.verify, *verdicts, go_on_after=reasons)
    assert (found.outcome, found.reason) == expected


def test_a_part_that_breaks_breaks_the_whole() -> None:
    def breaks(turn: Turn, action: Action) -> Verdict:
        raise OSError("gone")

    for combination in (any_of.verify, all_of.verify, first_decisive.verify):
        with pytest.raises(OSError, match="gone"):
            combination(verifiers=(breaks, says(PASS)))(turn(), X)


NESTED = "first_decisive(verifiers=('all_of(verifiers=(\"exact\",\"tool_call(ignore_case=True)\"))', 'tool_call'))"


def test_specs_nest_and_a_manifest_tells_all_of_it() -> None:
    verifier = plugins.load("verifiers", NESTED)
    call = ToolCall(name="look", arguments='{"city": "Paris"}')
    good, bad = Action(tool_calls=(call,)), Action(tool_calls=(call.model_copy(update={"name": "see"}),))
    assert verifier(turn(good), good).outcome == "pass" and verifier(turn(good), bad).outcome == "fail"
    inner = (
        "pivotrl.verifiers.all_of:AllOf(verifiers=(pivotrl.verifiers.exact:verify, "
        "pivotrl.verifiers.tool_call:verify(ignore_case=True)))"
    )
    assert describe(verifier) == (
        "pivotrl.verifiers.first_decisive:FirstDecisive(go_on_after=(), "
        f"verifiers=({inner}, pivotrl.verifiers.tool_call:verify))"
    )
    in_python = first_decisive.verify(
        verifiers=[
            all_of.verify(verifiers=[exact.verify, functools.partial(tool_call.verify, ignore_case=True)]),
            tool_call.verify,
        ]
    )
    assert describe(in_python) == describe(verifier)


@pytest.mark.parametrize("name", ["any_of", "all_of", "first_decisive"])
@pytest.mark.parametrize(
    ("verifiers", "message"),
    [
        ("()", "must be a list of verifiers"),
        ("'exact'", "must be a list of verifiers"),
        ("(3,)", "must be a list of verifiers"),
        ("('nonesuch',)", "no verifier called 'nonesuch'"),
        ("('exact(oops=1)',)", "exact has no option 'oops'"),
        ("('any_of',)", "any_of needs the option 'verifiers'"),
    ],
)
def test_a_combination_that_cannot_work_is_refused_when_it_is_made(name: str, verifiers: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        plugins.load("verifiers", f"{name}(verifiers={verifiers})")
