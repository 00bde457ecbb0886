"""Group-relative advantages: published values, exact zeros, invariances (NUM-05)."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pivotrl.advantages import group_advantages
from pivotrl.records import Action, Completion, SampleGroup, Verdict

ESTIMATORS = ["leave_one_out", "group"]


def binary(num_successes, size=16):
    return [1.0] * num_successes + [0.0] * (size - num_successes)


@pytest.mark.parametrize(
    ("estimator", "num_successes", "success", "failure"),
    [
        ("leave_one_out", 1, 1.000, -0.258),
        ("leave_one_out", 2, 3.615, -0.379),
        ("leave_one_out", 8, 1.033, -1.033),
        ("leave_one_out", 15, 0.258, -1.000),
        ("group", 1, 3.873, -0.258),
        ("group", 2, 2.646, -0.378),
        ("group", 8, 1.000, -1.000),
        ("group", 15, 0.258, -3.873),
    ],
)
def test_the_published_values_for_groups_of_16(estimator, num_successes, success, failure):
    advantages = group_advantages(binary(num_successes), estimator)
    expected = [success] * num_successes + [failure] * (16 - num_successes)
    assert advantages == pytest.approx(expected, abs=5e-4)


def test_by_hand():
    """Rewards 1, 0, 0.5, 0.5: the others of a 0.5 have mean 0.5 and unbiased deviation 0.5. Those of 1 have mean 1/3
    and deviation sqrt(1/12), which lies below sqrt(1/6) and so counts for less."""
    first, second, third, fourth = group_advantages([1.0, 0.0, 0.5, 0.5])
    divisor = math.sqrt(1 / 6) ** math.sqrt(1 / 2)
    assert first == pytest.approx(2 / 3 / (divisor + 1e-6), rel=1e-12)
    assert second == pytest.approx(-2 / 3 / (divisor + 1e-6), rel=1e-12)
    assert third == fourth == 0.0
    assert group_advantages([1.0, 0.5, 0.0, 0.0])[2] == pytest.approx(-0.5 / (0.5 + 1e-6), rel=1e-12)
    size = 0.5 / math.sqrt(1 / 6)
    assert group_advantages([1.0, 0.0, 0.5], "group") == pytest.approx([size, -size, 0.0], rel=1e-5)


def test_pairs_stay_undivided_when_the_other_one_is_left_out():
    assert group_advantages([1.0, 0.0]) == [1.0, -1.0]
    assert group_advantages([0.25, 0.75]) == [-0.5, 0.5]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 1 / 3, 0.1 + 0.2])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 16])
def test_equal_rewards_give_exact_zeros(estimator, reward, size):
    assert group_advantages([reward] * size, estimator) == [0.0] * size


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("size", [2, 3, 8, 16])
def test_rounding_residue_is_not_blown_up(estimator, size):
    """0.1 + 0.2 and 0.3 differ by 6e-17; a bare division by their deviation would make that 1."""
    advantages = group_advantages([0.1 + 0.2] + [0.3] * (size - 1), estimator)
    assert max(map(abs, advantages)) < 1e-9


def test_completions_without_a_verdict_are_left_out_of_the_group():
    action = Action(content="a")
    completion = Completion(action=action, text="a", token_ids_T=(1,), logprobs_T=(0.0,), finish_reason="stop")
    verdicts = (Verdict.passed(), Verdict.unknown("timeout"), Verdict.failed("wrong"), Verdict.failed("wrong"))
    group = SampleGroup(turn_id="t#1", completions_G=(completion,) * 4, verdicts_G=verdicts)
    assert group.rewards == [1.0, 0.0, 0.0]
    assert group_advantages(group.rewards) == group_advantages([1.0, 0.0, 0.0])
    assert group_advantages(group.rewards) != group_advantages([1.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("num_successes", range(1, 16))
def test_leave_one_out_damps_the_lucky_and_keeps_the_sign(num_successes):
    advantages = group_advantages(binary(num_successes))
    assert all(a > 0 for a in advantages[:num_successes])
    assert all(a < 0 for a in advantages[num_successes:])
    plain = group_advantages(binary(num_successes), "group")
    if num_successes == 1:
        assert advantages[0] < plain[0] / 3
    mirrored = group_advantages([1.0 - reward for reward in binary(num_successes)])
    assert mirrored == pytest.approx([-a for a in advantages])


rewards = st.lists(st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.0, 1.0)), min_size=2, max_size=24)


@given(rewards)
def test_plain_advantages_sum_to_zero_with_unit_variance(rewards_G):
    advantages = group_advantages(rewards_G, "group")
    assert math.fsum(advantages) == pytest.approx(0.0, abs=1e-6)
    spread = max(rewards_G) - min(rewards_G)
    variance = math.fsum(a * a for a in advantages) / len(advantages)
    assert variance <= 1.0 + 1e-9
    if spread > 0.1:
        assert variance == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@given(rewards_G=rewards, seed=st.integers(0, 1000))
def test_order_of_the_samples_does_not_matter(estimator, rewards_G, seed):
    order = random.Random(seed).sample(range(len(rewards_G)), len(rewards_G))
    advantages = group_advantages(rewards_G, estimator)
    permuted = group_advantages([rewards_G[i] for i in order], estimator)
    assert permuted == pytest.approx([advantages[i] for i in order], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@given(rewards_G=rewards)
def test_a_better_reward_never_has_the_smaller_advantage_in_sign(estimator, rewards_G):
    advantages = group_advantages(rewards_G, estimator)
    assert all(math.isfinite(a) for a in advantages)
    mean = math.fsum(rewards_G) / len(rewards_G)
    if max(rewards_G) - min(rewards_G) <= 1e-6:
        assert advantages == [0.0] * len(rewards_G)
        return
    for reward, advantage in zip(rewards_G, advantages, strict=True):
        if abs(reward - mean) > 1e-9:
            assert advantage * (reward - mean) > 0


@pytest.mark.parametrize("estimator", ESTIMATORS)
@given(successes=st.integers(2, 10), shift=st.floats(-5.0, 5.0), scale=st.floats(0.5, 20.0))
def test_shift_and_scale_of_rewards_cancel(estimator, successes, shift, scale):
    """A lone success or failure is left out: its leave-one-out advantage is undivided by design, or nearly so."""
    rewards_G = [*binary(successes, 12), 0.5]
    moved = group_advantages([shift + scale * reward for reward in rewards_G], estimator)
    assert moved == pytest.approx(group_advantages(rewards_G, estimator), rel=1e-4, abs=1e-4)


near = st.builds(
    lambda base, gaps: [min(1.0, max(0.0, base + gap)) for gap in gaps],
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    st.lists(
        st.builds(lambda sign, size: sign * 10.0**size, st.sampled_from([-1, 0, 1]), st.floats(-17, 0)), min_size=2
    ),
)
"""Rewards about one another's size, with gaps of every order of magnitude."""


@given(st.one_of(rewards, near))
def test_every_advantage_is_bounded(rewards_G):
    plain, loo = group_advantages(rewards_G, "group"), group_advantages(rewards_G)
    assert max(map(abs, plain)) <= math.sqrt(len(rewards_G) - 1) + 1e-9
    assert max(map(abs, loo)) <= math.sqrt(2 * (len(rewards_G) - 1)) + 1e-9
    assert math.fsum(plain) == pytest.approx(0.0, abs=1e-6)


@given(st.integers(3, 24), st.floats(0.1, 1.0), st.floats(-16, -3), st.integers(0, 2**20))
def test_others_that_are_nearly_equal_count_as_equal_ones_do(size, gap, order, bits):
    """As their differences shrink, the advantage goes to the undivided difference, without a jump."""
    noise = 10.0**order
    rewards_G = [1.0 - gap, *(1.0 - noise * (bits >> i & 1) for i in range(size - 1))]
    found, undivided = group_advantages(rewards_G)[0], -gap
    root = math.sqrt(2 * size)
    assert abs(found - undivided) <= 2 * noise * root * math.log(root / gap) + 2e-6


@given(st.integers(2, 24), st.floats(-16, -2), st.integers(0, 2**24))
def test_a_spread_that_vanishes_takes_the_advantages_with_it(size, order, bits):
    for estimator in ESTIMATORS:
        rewards_G = [0.5 + 10.0**order * (bits >> i & 1) for i in range(size)]
        bound = 0.0 if order < -6.1 else math.sqrt(2 * size) * min(1.0, 10.0 ** (order + 6))
        assert max(map(abs, group_advantages(rewards_G, estimator))) <= bound


@pytest.mark.parametrize("estimator", ESTIMATORS)
@given(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=12), st.integers(0, 11))
def test_a_small_change_of_one_reward_is_a_small_change_of_the_advantages(estimator, rewards_G, place):
    """Where the group has a spread of its own; near none the divisor is small and all gaps are."""
    if max(rewards_G) - min(rewards_G) < 0.1:
        return
    moved = list(rewards_G)
    place %= len(moved)
    moved[place] += 1e-9 if moved[place] < 0.5 else -1e-9
    before, after = group_advantages(rewards_G, estimator), group_advantages(moved, estimator)
    assert after == pytest.approx(before, abs=1e-4)
