"""Selection: exactly the filters of the paper and of the published run, with a reason for every dropped turn."""

from __future__ import annotations

import pytest

from pivotrl.protocols import NoPivots
from pivotrl.records import Action, Completion, SampleGroup, Verdict
from pivotrl.rollouts import continuation_turns
from pivotrl.selection import SelectionOptions, require_pivots, select, signal_variance


def group(name: str, *rewards: float | None) -> SampleGroup:
    completion = Completion(
        action=Action(content="x"), text="x", token_ids_T=(1,), logprobs_T=(0.0,), finish_reason="stop"
    )
    verdicts = tuple(
        Verdict.unknown("judge_down")
        if r is None
        else Verdict(outcome="pass" if r > 0 else "fail", reward=r, reason="r")
        for r in rewards
    )
    return SampleGroup(turn_id=name, completions_G=(completion,) * len(rewards), verdicts_G=verdicts)


GROUPS = [
    group("easy", 1, 1, 1, 1),
    group("hopeless", 0, 0, 0, 0),
    group("mixed", 1, 0, 0, 0),
    group("half", 1, 0, 1, 0),
    group("mostly", 1, 1, 1, 0),
    group("unknown", None, None, None, None),
    group("partly", None, 1, 0, None),
    group("exactly", 1, 1, 1, 0, 0),
]


def chosen(**options: object) -> list[str]:
    return [row.turn_id for row in select(GROUPS, SelectionOptions(**options)) if row.selected]


def test_the_paper_keeps_mixed_turns_strictly_below_the_threshold() -> None:
    assert chosen(rule="mixed", max_mean=0.6) == ["mixed", "half", "partly"]


def test_the_published_run_keeps_all_fail_turns_and_the_threshold_itself() -> None:
    assert chosen(rule="mean_only", max_mean=0.6) == ["hopeless", "mixed", "half", "partly", "exactly"]


def test_all_takes_every_turn_with_a_verdict() -> None:
    assert chosen(rule="all") == ["easy", "hopeless", "mixed", "half", "mostly", "partly", "exactly"]


def test_random_takes_as_many_as_the_paper_would_and_stays_the_same() -> None:
    first = chosen(rule="random")
    assert len(first) == 3 and first == chosen(rule="random")
    assert any(chosen(rule="random", selection_seed=seed) != first for seed in range(1, 5))
    assert "unknown" not in first


def test_every_dropped_turn_keeps_its_reason() -> None:
    reasons = {row.turn_id: row.reason for row in select(GROUPS, SelectionOptions(max_pivots=1))}
    assert reasons["easy"] == "always_pass"
    assert reasons["hopeless"] == "always_fail"
    assert reasons["mostly"] == "too_easy"
    assert reasons["unknown"] == "no_verdict"
    assert sorted(reasons[name] for name in ("mixed", "half", "partly")) == ["not_drawn", "not_drawn", "pivot"]


def test_a_turn_without_a_verdict_is_never_a_zero() -> None:
    row = next(row for row in select(GROUPS) if row.turn_id == "partly")
    assert (row.reward_mean, row.reward_variance, row.num_scored) == (0.5, 0.25, 2)


def test_equal_rewards_that_rounding_would_spread_are_not_mixed() -> None:
    rows = select([group("third", *[1 / 3] * 7)], SelectionOptions())
    assert [row.reason for row in rows] == ["always_pass"]


def test_an_empty_selection_explains_itself() -> None:
    rows = select([group(f"a{i}", 0, 0) for i in range(5)] + [group("b", 1, 1)])
    with pytest.raises(NoPivots, match=r"0 of 6 turns are pivots: 5 always fail, 1 always succeed"):
        require_pivots(rows)


def continued(name: str, *rewards_N: tuple[float, ...]) -> SampleGroup:
    """A group whose rewards are means over continuations."""
    base = group(name, *(sum(rewards) / len(rewards) for rewards in rewards_N))
    completions = tuple(
        c.model_copy(update={"action": Action(content=str(i))}) for i, c in enumerate(base.completions_G)
    )
    verdicts = tuple(
        v.model_copy(update={"details": {"rewards": list(rewards)}})
        for v, rewards in zip(base.verdicts_G, rewards_N, strict=True)
    )
    return base.model_copy(update={"completions_G": completions, "verdicts_G": verdicts})


def test_a_turn_whose_actions_differ_by_the_noise_of_their_continuations_alone_is_no_pivot() -> None:
    noisy = continued("noisy", (1, 0, 0, 0), (0, 1, 0, 1), (0, 0, 1, 0), (1, 0, 1, 0))
    clear = continued("clear", (1, 1, 1, 1), (0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 0, 0))
    rows = {row.turn_id: row for row in select([noisy, clear])}
    assert rows["noisy"].reason == "only_noise" and rows["noisy"].reward_variance == 0.0 < (noisy.variance or 0.0)
    assert rows["clear"].reason == "pivot" and (rows["clear"].reward_variance or 0.0) > 0.1


STRANGE = ["many", None, 3, [], ["1", "0"], [1.0, None], [True, False], [float("nan"), 1.0], [float("inf"), 1.0]]


@pytest.mark.parametrize("rewards", [*STRANGE, [10**400, 1]], ids=lambda value: str(value)[:12])
def test_details_that_are_no_rewards_leave_the_variance_as_it_is(rewards: object) -> None:
    base = group("own", 1, 0, 1, 0)
    verdicts = tuple(v.model_copy(update={"details": {"rewards": rewards}}) for v in base.verdicts_G)
    completions = tuple(
        c.model_copy(update={"action": Action(content=str(i))}) for i, c in enumerate(base.completions_G)
    )
    own = base.model_copy(update={"verdicts_G": verdicts, "completions_G": completions})
    assert signal_variance(own) == base.variance
    assert [row.reason for row in select([own])] == ["pivot"]


def test_details_that_are_no_count_are_not_counted() -> None:
    said = ["3", None, 2.0, True, [4], 5]
    base = group("own", *[1.0] * len(said))
    verdicts = tuple(
        v.model_copy(update={"details": {"num_rollout_turns": n}}) for v, n in zip(base.verdicts_G, said, strict=True)
    )
    assert continuation_turns([base.model_copy(update={"verdicts_G": verdicts})]) == 5
