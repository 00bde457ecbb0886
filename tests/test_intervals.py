"""Intervals against scipy, against simulated coverage, and at the edges (EVA-01, 02, 03, 12)."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pivotrl.intervals import clustered_mean, holm, paired_difference, wilson


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "total"), [(0, 1), (1, 1), (0, 20), (3, 20), (20, 20), (499, 1000)])
def test_wilson_is_scipys(successes, total, level):
    expected = stats.binomtest(successes, total).proportion_ci(level, method="wilson")
    assert wilson(successes, total, level) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("rate", [0.0, 1.0])
@pytest.mark.parametrize("clusters", [range(30), [i // 5 for i in range(30)], [0] * 30])
def test_no_interval_has_width_zero_at_the_edges(rate, clusters):
    estimate = clustered_mean([rate] * 30, list(clusters))
    assert estimate.mean == rate
    assert estimate.high - estimate.low > 0.05
    assert 0.0 <= estimate.low <= estimate.high <= 1.0
    paired = paired_difference([rate] * 30, [rate] * 30, list(clusters))
    assert paired.low < -0.01 < 0.01 < paired.high
    assert paired.p_value == 1.0


def test_fewer_independent_clusters_give_wider_intervals():
    values = [0.0] * 10 + [1.0] * 10
    single = clustered_mean(values, range(20))
    whole = clustered_mean(values, [i // 5 for i in range(20)])
    assert single.mean == whole.mean == 0.5
    assert whole.high - whole.low > 1.3 * (single.high - single.low)
    assert (single.num_items, single.num_clusters, whole.num_clusters) == (20, 20, 4)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("num_clusters", [2, 3, 4, 5, 8, 71, 500])
def test_without_resampling_the_interval_is_students_t(num_clusters, level):
    values = np.random.default_rng(num_clusters).normal(5.0, 2.0, num_clusters)
    estimate = clustered_mean(values, range(num_clusters), level, num_resamples=0)
    expected = stats.t.interval(level, num_clusters - 1, values.mean(), stats.sem(values))
    assert (estimate.low, estimate.high) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("values", [[1, 1, 1, 0, 1, 0, 0, 0, 1, 1, 0, 0], [0.2, 0.9, 1, 1, 0.5, 0, 0, 0.1, 1, 1, 0, 0]])
def test_clustered_rates_get_wilsons_interval_at_the_effective_sample_size(values):
    """The bounds solve (mean - p)^2 = t^2 p (1 - p) / n_eff, with n_eff from the spread of the cluster means."""
    mean = np.mean(values)
    variance = stats.sem(np.reshape(values, (4, 3)).mean(axis=1)) ** 2
    factor = stats.t.ppf(0.975, 3) ** 2 / (mean * (1 - mean) / variance)
    expected = np.sort(np.roots([1 + factor, -2 * mean - factor, mean**2]))
    estimate = clustered_mean(values, np.repeat(range(4), 3).tolist())
    assert (estimate.low, estimate.high) == pytest.approx(expected, rel=1e-9)


def test_paired_rates_get_students_interval_after_one_gain_and_one_loss_are_added():
    before, after = [0, 0, 1, 1, 0, 1, 0, 0, 1], [1, 1, 1, 0, 0, 1, 1, 0.5, 1]
    gains = np.append(np.subtract(after, before), [1.0, -1.0])
    expected = stats.t.interval(0.95, 8, gains.mean(), stats.sem(gains))
    result = paired_difference(before, after, range(9))
    assert (result.low, result.high) == pytest.approx(expected, rel=1e-9)


def clustered_binary(generator, num_clusters, rate, correlation):
    """Beta-binomial clusters of 1 to 9 items."""
    sizes = generator.integers(1, 10, size=num_clusters)
    rates = np.full(num_clusters, rate)
    if correlation:
        scale = (1 - correlation) / correlation
        rates = generator.beta(rate * scale, (1 - rate) * scale, size=num_clusters)
    clusters = np.repeat(np.arange(num_clusters), sizes)
    return (generator.random(len(clusters)) < rates[clusters]).astype(float), clusters.tolist()


@pytest.mark.parametrize("correlation", [0.0, 0.3])
@pytest.mark.parametrize("rate", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("num_clusters", [20, 70, 200])
def test_coverage_of_a_clustered_rate(num_clusters, rate, correlation):
    generator, num_runs = np.random.default_rng(7), 500
    covered = 0
    for _ in range(num_runs):
        estimate = clustered_mean(*clustered_binary(generator, num_clusters, rate, correlation))
        covered += estimate.low <= rate <= estimate.high
    assert 0.91 <= covered / num_runs <= 0.98


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("num_clusters", [20, 70, 200])
def test_coverage_of_single_items(num_clusters, rate):
    """Exact: a binomial sum over what Wilson answers at each count."""
    counts = np.arange(num_clusters + 1)
    intervals = [clustered_mean([1.0] * k + [0.0] * (num_clusters - k), range(num_clusters)) for k in counts]
    covered = np.array([e.low <= rate <= e.high for e in intervals])
    assert 0.91 <= (stats.binom.pmf(counts, num_clusters, rate) * covered).sum() <= 0.98


@pytest.mark.parametrize(("num_clusters", "skewed"), [(20, False), (70, False), (70, True)])
def test_coverage_of_unbounded_values(num_clusters, skewed):
    """The studentised bootstrap; log-normal clusters are where the percentile bootstrap falls to 88 %."""
    generator, num_runs = np.random.default_rng(3), 200
    clusters = np.repeat(np.arange(num_clusters), 3).tolist()
    covered = 0
    for run in range(num_runs):
        centre = generator.normal(size=(num_clusters, 1)) + 0.5 * generator.normal(size=(num_clusters, 3))
        values, mean = (np.exp(centre), math.exp(0.5 + 0.125)) if skewed else (centre, 0.0)
        estimate = clustered_mean(values.ravel(), clusters, num_resamples=300, seed=run)
        covered += estimate.low <= mean <= estimate.high
    assert 0.91 <= covered / num_runs <= 0.98


def paired_clusters(generator, num_clusters, rate_better, rate_worse, correlation):
    sizes = generator.integers(1, 10, size=num_clusters)
    clusters = np.repeat(np.arange(num_clusters), sizes)
    rates = np.array([rate_better, rate_worse, 1 - rate_better - rate_worse])
    if correlation:
        rates = generator.dirichlet(rates * (1 - correlation) / correlation, size=num_clusters)[clusters]
    uniform = generator.random(len(clusters))
    cumulative = np.cumsum(np.broadcast_to(rates, (len(clusters), 3)), axis=1)
    better, worse = uniform < cumulative[:, 0], (uniform >= cumulative[:, 0]) & (uniform < cumulative[:, 1])
    same = (generator.random(len(clusters)) < 0.5).astype(float)
    before = np.where(better, 0.0, np.where(worse, 1.0, same))
    after = np.where(better, 1.0, np.where(worse, 0.0, same))
    return before, after, clusters.tolist()


@pytest.mark.parametrize("correlation", [0.0, 0.3])
@pytest.mark.parametrize(("better", "worse"), [(0.2, 0.2), (0.4, 0.1), (0.1, 0.02)])
@pytest.mark.parametrize("num_clusters", [20, 70, 200])
def test_coverage_of_a_paired_difference(num_clusters, better, worse, correlation):
    generator, num_runs = np.random.default_rng(11), 200
    covered = 0
    for _ in range(num_runs):
        data = paired_clusters(generator, num_clusters, better, worse, correlation)
        result = paired_difference(*data, num_resamples=1)
        covered += result.low <= better - worse <= result.high
    assert 0.91 <= covered / num_runs <= 0.985


@pytest.mark.parametrize("correlation", [0.0, 0.3])
@pytest.mark.parametrize("num_clusters", [8, 70])
def test_two_equal_methods_are_seldom_called_different(num_clusters, correlation):
    generator, num_runs = np.random.default_rng(5), 300
    false_alarms = 0
    for run in range(num_runs):
        data = paired_clusters(generator, num_clusters, 0.15, 0.15, correlation)
        false_alarms += paired_difference(*data, num_resamples=200, seed=run).p_value <= 0.05
    assert false_alarms / num_runs <= 0.07


@pytest.mark.parametrize(("better", "worse"), [(1, 0), (5, 0), (3, 2), (9, 2), (12, 0), (6, 6)])
def test_sign_flips_of_single_items_are_mcnemar_exactly(better, worse):
    before = [0.0] * better + [1.0] * worse + [1.0, 0.0, 1.0]
    after = [1.0] * better + [0.0] * worse + [1.0, 0.0, 1.0]
    result = paired_difference(before, after, range(len(before)))
    assert result.p_value == pytest.approx(stats.binomtest(better, better + worse).pvalue, abs=1e-12)
    assert (result.num_better, result.num_worse) == (better, worse)


@pytest.mark.parametrize(("better", "worse"), [(20, 10), (40, 12), (60, 0)])
def test_random_sign_flips_are_mcnemar_nearly_and_never_zero(better, worse):
    before, after = [0.0] * better + [1.0] * worse, [1.0] * better + [0.0] * worse
    p_value = paired_difference(before, after, range(better + worse)).p_value
    expected = stats.binomtest(better, better + worse).pvalue
    assert p_value == pytest.approx(expected, abs=4 * math.sqrt(expected / 10_000) + 2e-4)
    assert p_value >= 1 / 10_001


def test_exact_flips_agree_with_scipys_permutation_test():
    before, after = np.array([0.3, 2.0, 1.5, 0.7, 3.0, 1.0]), np.array([0.9, 1.4, 2.5, 0.8, 4.5, 1.1])
    expected = stats.permutation_test((after - before,), lambda x, axis: x.mean(axis), permutation_type="samples")
    result = paired_difference(before, after, range(6))
    assert result.p_value == pytest.approx(expected.pvalue, abs=1e-12)
    assert result.difference == pytest.approx((after - before).mean())
    assert (result.mean_before, result.mean_after) == pytest.approx((before.mean(), after.mean()))


def test_clusters_flip_as_wholes():
    """Ten equal gains in one cluster are one observation."""
    result = paired_difference([0.0] * 10, [1.0] * 10, ["task"] * 10)
    assert result.p_value == 1.0
    assert (result.low, result.high) == (-1.0, 1.0)
    assert paired_difference([0.0] * 10, [1.0] * 10, range(10)).p_value == pytest.approx(2 / 2**10)


def test_blocks_of_resamples_leave_the_answer_alone(monkeypatch):
    values, clusters = np.random.default_rng(0).normal(size=60) * 3, [i // 2 for i in range(60)]
    whole = clustered_mean(values, clusters, num_resamples=500), paired_difference(values, -values, clusters)
    monkeypatch.setattr("pivotrl.intervals._BLOCK_NUMBERS", 700)
    assert (clustered_mean(values, clusters, num_resamples=500), paired_difference(values, -values, clusters)) == whole


@pytest.mark.parametrize("scale", [1.0, 0.1, 40.0])
def test_order_of_items_and_names_of_clusters_change_nothing(scale):
    generator = random.Random(1)
    items = [(generator.random() * scale, generator.random() * scale, i // 4) for i in range(60)]
    shuffled = generator.sample(items, len(items))
    renamed = [(b, a, f"task {(c * 7) % 15}") for b, a, c in items]

    def answers(rows):
        before, after, clusters = zip(*rows, strict=True)
        return (
            clustered_mean(before, clusters, num_resamples=200),
            paired_difference(before, after, clusters, num_resamples=200),
        )

    assert answers(items) == answers(shuffled) == answers(renamed)


def test_the_seed_alone_fixes_the_answer():
    values = np.random.default_rng(0).lognormal(size=40)
    assert clustered_mean(values, range(40), seed=1) == clustered_mean(values, range(40), seed=1)
    assert clustered_mean(values, range(40), seed=1) != clustered_mean(values, range(40), seed=2)


def test_swapping_before_and_after_mirrors_the_answer():
    data = paired_clusters(np.random.default_rng(2), 30, 0.3, 0.1, 0.2)
    there, back = paired_difference(*data), paired_difference(data[1], data[0], data[2])
    assert (there.difference, there.low, there.high) == pytest.approx((-back.difference, -back.high, -back.low))
    assert (there.num_better, there.num_worse) == (back.num_worse, back.num_better)
    assert there.p_value == pytest.approx(back.p_value, abs=0.02)


unit = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.0, 1.0))
wild = st.floats(-1e6, 1e6)
rows = st.one_of(
    *(st.lists(st.tuples(value, value, st.integers(0, 4)), min_size=1, max_size=30) for value in (unit, wild))
)


@settings(max_examples=150, deadline=None)
@given(rows)
def test_no_answer_is_nan_and_each_interval_holds_its_mean(rows):
    before, after, clusters = zip(*rows, strict=True)
    bounded = all(0.0 <= value <= 1.0 for value in before + after)
    if not bounded and len(set(clusters)) == 1:
        return
    estimate = clustered_mean(before, clusters, num_resamples=50)
    paired = paired_difference(before, after, clusters, num_resamples=50)
    numbers = [*vars(estimate).values(), *vars(paired).values()]
    assert all(math.isfinite(number) for number in numbers)
    assert estimate.low <= estimate.mean <= estimate.high
    assert paired.low <= paired.difference <= paired.high
    assert 0.0 < paired.p_value <= 1.0
    if bounded:
        assert 0.0 <= estimate.low < estimate.high <= 1.0
        assert -1.0 <= paired.low < paired.high <= 1.0


def test_values_without_bounds_are_treated_alike_wherever_they_fall():
    """Nats that happen to lie in [0, 1]: the interval moves and scales with them."""
    before, after = np.random.default_rng(4).random((2, 30))
    clusters = [number // 2 for number in range(30)]
    near = clustered_mean(before, clusters, num_resamples=300, bounded=False)
    far = clustered_mean(5.0 + 3.0 * before, clusters, num_resamples=300)
    assert (far.low, far.high) == pytest.approx((5.0 + 3.0 * near.low, 5.0 + 3.0 * near.high))
    paired = paired_difference(before, after, clusters, num_resamples=300, bounded=False)
    scaled = paired_difference(3.0 * before, 3.0 * after, clusters, num_resamples=300)
    assert (scaled.low, scaled.high) == pytest.approx((3.0 * paired.low, 3.0 * paired.high))
    with pytest.raises(ValueError, match="one cluster gives no interval"):
        clustered_mean([0.2, 0.3], ["a", "a"], bounded=False)


def test_constant_values_have_no_spread_beyond_the_unit_interval():
    estimate = clustered_mean([3.7] * 12, range(12))
    assert (estimate.low, estimate.high) == pytest.approx((3.7, 3.7))
    result = paired_difference([3.7] * 12, [3.7] * 12, range(12))
    assert (result.low, result.high, result.p_value) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson(0, 0), "empty"),
        (lambda: wilson(-1, 5), r"successes must lie in 0\.\.5, not -1"),
        (lambda: wilson(6, 5), "not 6"),
        (lambda: wilson(1, 2, level=1.0), "level"),
        (lambda: clustered_mean([], []), "empty set"),
        (lambda: clustered_mean([1.0], []), "1 values, 0 clusters"),
        (lambda: clustered_mean([1.0, math.nan], [0, 1]), "item 1 has no finite value"),
        (lambda: clustered_mean([2.0, 3.0], ["a", "a"]), "one cluster gives no interval"),
        (lambda: clustered_mean([0.5, 0.7], [0, 1], level=95), "level must lie between 0 and 1, not 95"),
        (lambda: paired_difference([], [], []), "empty set"),
        (lambda: paired_difference([1.0], [1.0, 0.0], [0]), "1 values before and 2 after"),
        (lambda: paired_difference([1.0, None], [1.0, 1.0], [0, 1]), r"item 1 has no finite value \(None\)"),
        (lambda: paired_difference([1.0, 1.0], [None, 1.0], [0, 1]), "item 0"),
        (lambda: holm({"a": 1.5}), "'a' must lie in"),
        (lambda: holm({"a": math.nan}), "'a' must lie in"),
    ],
)
def test_what_has_no_answer_is_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_holm_by_hand():
    adjusted = holm({"d": 0.04, "a": 0.01, "c": 0.03, "b": 0.005})
    assert adjusted == pytest.approx({"d": 0.06, "a": 0.03, "c": 0.06, "b": 0.02})
    assert list(adjusted) == ["d", "a", "c", "b"]
    assert holm({}) == {}
    assert holm({"a": 0.7, "b": 0.9}) == {"a": 1.0, "b": 1.0}


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12))
def test_holm_lies_between_the_raw_and_the_bonferroni_value(p_values):
    named = {str(i): p for i, p in enumerate(p_values)}
    adjusted = holm(named)
    for name, p_value in named.items():
        assert p_value <= adjusted[name] <= min(1.0, len(named) * p_value) + 1e-15 or adjusted[name] == max(
            min(1.0, (len(named) - rank) * p) for rank, p in enumerate(sorted(p_values)) if p <= p_value
        )
    assert sorted(named, key=lambda n: (named[n], adjusted[n])) == sorted(named, key=lambda n: (adjusted[n], named[n]))
