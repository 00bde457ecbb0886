"""Regression to the mean: what fresh samples say of selected turns is right within its interval; what the samples that
selected them say is not."""

from __future__ import annotations

import numpy as np
import pytest

from pivotrl.records import SampleGroup, Verdict
from pivotrl.selection import Facts, SelectionOptions
from pivotrl.selection.second_draw import SecondDraw, second_draw
from test_selection_statistics import completion, group

Rates = np.ndarray


def rates_of(generator: np.random.Generator, count: int) -> Rates:
    """Four turns of ten never pass, two always do."""
    kind, rates = generator.random(count), generator.beta(1, 2, count)
    return np.where(kind < 0.4, 0.0, np.where(kind > 0.8, 1.0, rates))


def drawn(generator: np.random.Generator, rate: float, count: int) -> list[float]:
    return [float(reward) for reward in generator.random(count) < rate]


SAMPLE, VERDICTS = completion(), {0.0: Verdict.failed("r"), 1.0: Verdict.passed()}


def world(seed: int, num_turns: int = 200, num_samples: int = 8) -> list[SampleGroup]:
    generator = np.random.default_rng(seed)
    return [
        SampleGroup.model_construct(  # tens of thousands of them
            turn_id=f"t{place}#1",
            completions_G=(SAMPLE,) * num_samples,
            verdicts_G=tuple(VERDICTS[reward] for reward in drawn(generator, rate, num_samples)),
        )
        for place, rate in enumerate(rates_of(generator, num_turns))
    ]


def truth(draw_size: int, max_mean: float) -> dict[str, float]:
    """Of turns that the paper's rule selects by one draw: what a second draw of the same size shows on average."""
    generator = np.random.default_rng(99)
    rates = rates_of(generator, 1_000_000)
    passes = generator.binomial(draw_size, rates)
    kept = rates[(passes > 0) & (passes < draw_size) & (passes / draw_size < max_mean)]
    return {
        "mixed": float(np.mean(1 - kept**draw_size - (1 - kept) ** draw_size)),
        "mean": float(np.mean(kept)),
        "variance": float(np.mean(kept * (1 - kept))) * (draw_size - 1) / draw_size,  # of a population, eq. 4
    }


def test_the_intervals_hold_the_truth_and_the_samples_that_selected_miss_it() -> None:
    true, options = truth(4, 0.6), SelectionOptions()
    covered: dict[str, list[bool]] = {name: [] for name in true}
    naive: dict[str, list[bool]] = {name: [] for name in true}
    for seed in range(500):
        found = second_draw(world(seed), options)
        for name, value in true.items():
            compared = getattr(found, name)
            covered[name].append(compared.fresh.low <= value <= compared.fresh.high)
            naive[name].append(compared.fresh.low <= compared.selecting <= compared.fresh.high)
    for name in true:
        assert 0.93 <= np.mean(covered[name]) <= 0.98, name
    assert np.mean(naive["mixed"]) == np.mean(naive["variance"]) == 0  # the twin: every turn looked mixed


def test_the_naive_numbers_are_those_of_the_samples_that_selected() -> None:
    found = second_draw(world(0), SelectionOptions())
    assert found.mixed is not None and found.mixed.selecting == 1.0
    assert (found.num_selecting, found.num_fresh, found.num_ways) == (4, 4, 2)
    assert found.variance is not None and found.variance.selecting > found.variance.fresh.high


def test_a_selection_that_does_not_look_at_outcomes_does_not_regress() -> None:
    found = second_draw(world(1, 2000), SelectionOptions(rule="all"))
    for compared in (found.mixed, found.mean, found.variance):
        assert compared is not None and compared.fresh.low < compared.selecting < compared.fresh.high


def adaptive(seed: int, num_turns: int) -> tuple[list[SampleGroup], Rates]:
    """Four samples of every turn, four more of those that look mixed."""
    generator = np.random.default_rng(seed)
    rates, groups = rates_of(generator, num_turns), []
    for place, rate in enumerate(rates):
        rewards = drawn(generator, rate, 4)
        if 0 < sum(rewards) < 4:
            rewards += drawn(generator, rate, 4)
        groups.append(group(f"t{place}#1", *rewards))
    return groups, rates


def test_an_adaptive_profile_is_looked_at_in_its_second_round_alone() -> None:
    found = second_draw(adaptive(0, 4000)[0], SelectionOptions())
    assert (found.num_selecting, found.num_fresh, found.num_ways) == (4, 4, 1)
    assert found.mixed is not None and found.mixed.fresh.low <= truth(4, 0.6)["mixed"] <= found.mixed.fresh.high


def test_halves_of_an_adaptive_profile_would_flatter() -> None:
    """The twin: only turns with a second round, cut into halves both ways."""
    twice = [one for one in adaptive(0, 4000)[0] if len(one.completions_G) == 8]
    found = second_draw(twice, SelectionOptions())
    assert found.mixed is not None and found.mixed.fresh.low > truth(4, 0.6)["mixed"]


def test_turns_of_one_task_count_as_one_cluster() -> None:
    profile = world(0)
    alone = second_draw(profile, SelectionOptions())
    together = second_draw(profile, SelectionOptions(), Facts(tasks=dict.fromkeys((g.turn_id for g in profile), "one")))
    assert alone.mixed is not None and together.mixed is not None
    assert alone.mixed.fresh.mean == together.mixed.fresh.mean
    assert alone.mixed.fresh.num_clusters > 50 and together.mixed.fresh.num_clusters == 1


@pytest.mark.parametrize(
    ("profile", "why_not"),
    [
        ([], "too few samples"),
        ([group("t#1", 1, 0, 1)], "too few samples"),
        ([group("t#1", 1, 0, 1, 0), group("u#1", 1)], "too few samples"),
        ([group("t#1", 0, 0, 0, 0)], "2 samples of each turn select none"),
        ([group("t#1", None, None, None, None)], "2 samples of each turn select none"),
        ([group("t#1", 1, 0, None, None), group("u#1", 0, 0, 0, 0)], "none of the selected turns has two fresh"),
    ],
    ids=["empty", "three samples", "one sample", "nothing selected", "no verdict", "no fresh verdict"],
)
def test_where_there_is_no_second_draw_it_says_so(profile: list[SampleGroup], why_not: str) -> None:
    found = second_draw(profile, SelectionOptions())
    assert why_not in found.why_not and found.mixed is None
    assert isinstance(found, SecondDraw) and found.as_json()["mixed"] is None


def test_turns_without_fresh_verdicts_are_left_out_and_counted() -> None:
    profile = [group("t#1", 1, 0, None, None), group("u#1", 1, 0, 1, 0)]
    found = second_draw(profile, SelectionOptions())
    assert (found.num_turns, found.num_unknown) == (3, 1)
    assert found.mixed is not None and found.mixed.fresh.num_items == 2
