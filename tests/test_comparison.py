"""Comparisons: trials resume, arms share what they may share, validation chooses, and intervals cover."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from comparing import make_setting
from pivotrl import InputError
from pivotrl.comparison.arms import ARMS, Arm, First, arms_named
from pivotrl.comparison.choosing import adjusted, best_within, equal_score, harm_at, least_harm, score_within
from pivotrl.comparison.grids import crossed, read_points, run_grid
from pivotrl.comparison.page import conclude, write_comparison
from pivotrl.comparison.points import BASE, Costs, Point
from pivotrl.comparison.predicting import predicts
from pivotrl.comparison.reaching import crossing, ratio
from pivotrl.comparison.table import Config, Table, split_of
from pivotrl.comparison.trials import Trial, run_base, run_trial
from pivotrl.evaluation.differences import crossed_difference
from pivotrl.intervals import student_p_value, student_quantile
from pivotrl.records import SampleGroup
from pivotrl.storage.record_files import read_records

ALIKE = ("imitation", "pivots", "random", "all", "pivots_exact")


def without_seconds(points: list[Point]) -> list[Point]:
    return [p.model_copy(update={"costs": p.costs.model_copy(update={"seconds": 0.0})}) for p in points]


def test_a_trial_that_stops_at_a_checkpoint_ends_like_one_that_does_not(tmp_path: Path) -> None:
    whole = run_trial(make_setting(), tmp_path / "whole", Trial("pivots", 20.0, 0, (2, 5)))
    run_trial(make_setting(), tmp_path / "parts", Trial("pivots", 20.0, 0, (2,)), keep_weights=True)
    parts = run_trial(make_setting(), tmp_path / "parts", Trial("pivots", 20.0, 0, (2, 5)))
    assert without_seconds(parts) == without_seconds(whole)
    assert [point.step for point in whole] == [0, 2, 5]
    assert whole[0].costs.rollout_turns == whole[0].costs.profile_turns == 36 * 4
    assert whole[1].values["turns/sampled"] != whole[2].values["turns/sampled"]


def test_an_earlier_checkpoint_that_is_added_later_is_not_measured_with_later_weights(tmp_path: Path) -> None:
    whole = run_trial(make_setting(), tmp_path / "whole", Trial("pivots", 20.0, 0, (2, 5)))
    run_trial(make_setting(), tmp_path / "parts", Trial("pivots", 20.0, 0, (5,)), keep_weights=True)
    parts = run_trial(make_setting(), tmp_path / "parts", Trial("pivots", 20.0, 0, (2, 5)))
    assert without_seconds(sorted(parts, key=lambda point: point.step)) == without_seconds(whole)


def test_finished_trials_buy_nothing_again(tmp_path: Path) -> None:
    trials = crossed(dict.fromkeys(ALIKE, (0.5, 2.0)), (0,), (3,))
    run_grid(make_setting, tmp_path, trials)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jsonl")}
    run_grid(make_setting, tmp_path, trials)
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jsonl")}
    assert len(read_points(tmp_path)) == len(trials) + 1 + sum(bool(trial.what.rule) for trial in trials)


def test_a_grid_says_a_notice_once(tmp_path: Path) -> None:
    trials = crossed({"imitation": (500.0,)}, (0, 1, 2), (1,))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run_grid(make_setting, tmp_path, trials)
    assert [str(one.message).count("the learning rate 500") for one in told].count(1) == 1


def test_two_processes_give_the_points_of_one(tmp_path: Path) -> None:
    trials = crossed(dict.fromkeys(("imitation", "pivots"), (1.0,)), (0, 1), (2,))
    run_grid(make_setting, tmp_path / "one", trials)
    run_grid(make_setting, tmp_path / "two", trials, num_workers=2)
    assert without_seconds(read_points(tmp_path / "one")) == without_seconds(read_points(tmp_path / "two"))


ENDLESS = """
import os
import time
from pathlib import Path
from pivotrl.cli import guarded
from pivotrl.comparison.grids import run_grid
from pivotrl.comparison.trials import Trial

def make_setting(cell):
    Path(str(os.getpid())).touch()
    time.sleep(600)

if __name__ == "__main__":
    with guarded():
        run_grid(make_setting, Path("grid"), [Trial("pivots", 1.0, 0, (1,))], num_workers=2)
"""


def test_a_grid_that_is_told_to_end_ends_with_its_workers(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    grid = subprocess.Popen([sys.executable, "endless.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("[0-9]*"))) < 2:  # both work
        assert time.monotonic() < deadline and grid.poll() is None
        time.sleep(0.05)
    grid.send_signal(signal.SIGTERM)
    _, told = grid.communicate(timeout=60)  # ends when the last process that holds the pipe has
    assert grid.returncode == 130 and "everything finished is kept" in told


def test_arms_of_a_seed_pay_for_the_same_profile(tmp_path: Path) -> None:
    points = {name: run_trial(make_setting(), tmp_path, Trial(name, 1.0, 0, (2,)))[-1] for name in ALIKE}
    profile = read_records(tmp_path / "profiles" / "seed0" / "profiles.jsonl", SampleGroup)
    assert len(profile) == 36
    for name, point in points.items():
        profiled = 0 if name == "imitation" else 36 * 4
        assert point.costs.profile_turns == profiled
        if name in ("pivots", "random", "all"):  # the exact reward leaves less than a batch of pivots
            assert point.costs.rollout_turns == profiled + 2 * 8 * 4


def test_the_exact_arm_judges_the_same_samples_more_strictly(tmp_path: Path) -> None:
    seen: dict[str, set[str]] = {}
    for name in ("all", "all_exact", "pivots", "pivots_exact"):
        run_trial(make_setting(), tmp_path, Trial(name, 1.0, 0, (9,)))
        groups = read_records(tmp_path / name / "1" / "seed0" / "train" / "groups.jsonl", SampleGroup)
        seen[name] = {group.turn_id for group in groups}
        if name.startswith("all"):
            reasons = {verdict.reason for group in groups for verdict in group.verdicts_G}
            assert ("equivalent" in reasons) == (name == "all")
    assert seen["all"] == seen["all_exact"]
    assert seen["pivots"] != seen["pivots_exact"]


def test_an_arm_may_begin_with_another(tmp_path: Path) -> None:
    then = Arm("imitation, then PivotRL", rule="mixed", first=First(ARMS["imitation"], 2.0, 3))
    trial = Trial("then", 1.0, 0, (2, 4), arm=then)
    whole = run_trial(make_setting(), tmp_path / "whole", trial)
    run_trial(make_setting(), tmp_path / "parts", Trial("then", 1.0, 0, (2,), arm=then), keep_weights=True)
    assert without_seconds(run_trial(make_setting(), tmp_path / "parts", trial)) == without_seconds(whole)
    alone = run_trial(make_setting(), tmp_path / "alone", Trial("pivots", 1.0, 0, (2, 4)))
    assert [point.step for point in whole] == [0, 2, 4]
    assert alone[0].values != whole[0].values  # its start is the policy after imitation
    assert whole[1].costs.rollout_turns == alone[1].costs.rollout_turns  # imitation samples nothing


def test_unknown_arms_and_a_missing_exact_verifier_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no arm 'pivot'"):
        arms_named(["pivot"])
    setting = make_setting()
    object.__setattr__(setting, "exact_verifier", None)
    with pytest.raises(InputError, match="accepts the demonstrated action alone"):
        run_trial(setting, tmp_path, Trial("pivots_exact", 1.0, 0, (1,)))


# --- statistics -----------------------------------------------------------------------------------------------------


def table(
    value: Callable[[str, float, int, int, int], dict[str, float]], arms: dict[str, list[tuple[float, int]]], seeds: int
) -> Table:
    """Points whose values are ``value(arm, rate, step, seed, task)``: measure -> number."""
    points = []
    for arm, configs in {BASE: [(0.0, 0)], **arms}.items():
        for rate, step in configs:
            for seed in range(seeds):
                values: dict[str, dict[str, float]] = {}
                for task in range(40):
                    for measure, number in value(arm, rate, step, seed, task).items():
                        values.setdefault(measure, {})[f"task{task}"] = number
                costs = Costs(rollout_turns=100 * step)
                points.append(Point(arm=arm, rate=rate, seed=seed, step=step, costs=costs, values=values))
    return Table(points)


def test_student_against_scipy() -> None:
    for freedom in (1, 2, 3, 7, 30):
        for value in (0.0, 0.3, -1.9, 4.0):
            assert student_p_value(value, freedom) == pytest.approx(2 * stats.t.sf(abs(value), freedom), abs=1e-9)
        assert student_quantile(0.95, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-6)


@pytest.mark.parametrize(("of_seeds", "of_tasks"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.3), (0.3, 0.3)])
@pytest.mark.parametrize("num_seeds", [3, 10])
def test_the_interval_covers_new_seeds_and_new_tasks(of_seeds: float, of_tasks: float, num_seeds: int) -> None:
    """A/A: without a true difference at most about 5 % of intervals miss 0. Twin: tasks alone would miss far more."""
    generator, missed, missed_by_tasks = np.random.default_rng(1), 0, 0
    for _ in range(1000):
        gain_ST = (
            of_seeds * generator.normal(size=(num_seeds, 1))
            + of_tasks * generator.normal(size=(1, 40))
            + generator.normal(size=(num_seeds, 40))
        )
        found = crossed_difference(gain_ST)
        missed += found.low > 0 or found.high < 0
        assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)
        missed_by_tasks += stats.ttest_1samp(gain_ST.mean(axis=0), 0).pvalue < 0.05
    assert missed <= 75
    if of_seeds and num_seeds == 3:
        assert missed_by_tasks > 200


def test_the_variance_is_that_of_two_way_random_effects() -> None:
    gain_ST = np.random.default_rng(3).normal(size=(6, 30)) + np.arange(6)[:, None] + np.arange(30) / 9
    found = crossed_difference(gain_ST)
    rows, columns = gain_ST.mean(axis=1), gain_ST.mean(axis=0)
    residual_ST = gain_ST - rows[:, None] - columns + gain_ST.mean()
    between_rows = 30 * rows.var(ddof=1)
    between_columns = 6 * columns.var(ddof=1)
    within = (residual_ST**2).sum() / (5 * 29)
    variance = (between_rows + between_columns - within) / (6 * 30)  # mean squares of a crossed design
    freedom = variance**2 / ((between_rows / 180) ** 2 / 5 + (between_columns / 180) ** 2 / 29)
    half = stats.t.ppf(0.975, math.floor(freedom)) * math.sqrt(variance)
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half))


def test_scores_that_never_differ_have_an_interval_of_some_width() -> None:
    found = crossed_difference(np.zeros((3, 20)), bounded=True)
    assert found.low < 0 < found.high and found.p_value == 1.0
    assert crossed_difference(np.zeros((3, 20))).p_value == 1.0
    with pytest.raises(ValueError, match="finite"):
        crossed_difference(np.full((2, 2), np.nan))


def test_validation_chooses_and_test_is_not_the_best_of_many() -> None:
    """60 configs that are worth nothing: the best on validation looks good there, and is worth nothing on test."""
    generator = np.random.default_rng(5)
    noise = {}

    def value(arm: str, rate: float, step: int, seed: int, task: int) -> dict[str, float]:
        key = arm, rate, step, seed, task
        return {"turns/greedy": noise.setdefault(key, float(generator.random() < 0.5)), "nll": 0.0}

    configs = [(float(rate), step) for rate in range(1, 11) for step in range(1, 7)]
    found = table(value, {"pivots": configs}, 3)
    chosen = best_within(found, "pivots", "turns/greedy", "nll", 0.1)
    seen = found.gain(chosen, "turns/greedy", [0, 1, 2], "validation").mean()
    honest = found.gain(chosen, "turns/greedy", [0, 1, 2], "test").mean()
    assert seen > 0.1 and abs(honest) < 0.12 and honest < seen


def _plain(arm: str, rate: float, step: int, seed: int, task: int) -> dict[str, float]:
    """a gains 0.1 a step and harms little; b gains 0.2 a step and harms four times as much."""
    slope, harm = {"a": (0.1, 0.01), "b": (0.2, 0.04), BASE: (0.0, 0.0)}[arm]
    return {"turns/greedy": 0.2 + slope * step, "nll": 2.0 + harm * step + 0.001 * seed}


def test_equal_harm_and_equal_score() -> None:
    found = table(_plain, {"a": [(1.0, s) for s in (1, 2, 3, 4)], "b": [(1.0, s) for s in (1, 2, 3, 4)]}, 3)
    assert best_within(found, "a", "turns/greedy", "nll", 0.041) == Config("a", 1.0, 4)
    assert best_within(found, "b", "turns/greedy", "nll", 0.041) == Config("b", 1.0, 1)
    assert best_within(found, "b", "turns/greedy", "nll", 0.01) == Config(BASE, 0.0, 0)
    assert least_harm(found, "b", "turns/greedy", "nll", 0.55) == Config("b", 1.0, 2)
    assert least_harm(found, "a", "turns/greedy", "nll", 0.9) is None
    at_harm = score_within(found, "a", "b", "turns/greedy", "nll", 0.041)
    assert at_harm is not None and at_harm.difference.mean == pytest.approx(0.2)
    assert equal_score(found, "a", "b", "turns/greedy") == pytest.approx(0.6)
    at_score = harm_at(found, "a", "b", "turns/greedy", "nll", 0.59)
    assert at_score is not None and at_score.difference.mean == pytest.approx(0.04 - 0.08)
    assert harm_at(found, "a", "b", "turns/greedy", "nll", 0.95) is None
    assert adjusted({"x": at_harm, "y": at_score})["x"] <= 1.0


def test_only_seeds_that_every_config_has_count() -> None:
    found = table(_plain, {"a": [(1.0, 1), (2.0, 1)]}, 3)
    points = [p for p in found._points.values() if (p.arm, p.rate, p.seed) != ("a", 2.0, 1)]
    assert Table(points).seeds("a") == [0, 2]
    with pytest.raises(InputError, match="before training"):
        Table([p for p in points if p.arm != BASE])


def test_the_split_is_by_name_and_about_even() -> None:
    halves = [split_of(f"task{number}") for number in range(1000)]
    assert 450 < halves.count("test") < 550
    assert halves == [split_of(f"task{number}") for number in range(1000)]


def test_crossings_by_hand() -> None:
    cost, score = np.array([0.0, 100.0, 200.0]), np.array([0.2, 0.4, 0.3])
    assert crossing(cost, score, 0.3) == pytest.approx(50.0)
    assert crossing(cost, score, 0.1) == 0.0
    assert math.isinf(crossing(cost, score, 0.5))


def test_the_ratio_of_costs_at_a_score() -> None:
    found = table(_plain, {"a": [(1.0, s) for s in (1, 2, 3, 4)], "b": [(1.0, s) for s in (1, 2, 3, 4)]}, 3)
    told = ratio(found, "b", "a", "turns/greedy", 0.5, "rollout turns", num_resamples=50)
    assert told is not None
    assert (told.first.cost, told.second.cost) == pytest.approx((150.0, 300.0))
    assert (told.low, told.ratio, told.high) == pytest.approx((2.0, 2.0, 2.0))
    assert ratio(found, "b", "a", "turns/greedy", 0.9, "rollout turns") is None


def test_arms_that_sample_are_compared_by_what_they_pay(tmp_path: Path) -> None:
    """Pivots reach in 2 updates what end-to-end RL reaches in 4; imitation samples nothing."""
    arms = {arm: [(1.0, s) for s in (1, 2, 3, 4)] for arm in ("imitation", "pivots", "end_to_end")}
    found = table(lambda arm, *rest: _plain("b" if arm == "pivots" else "a", *rest), arms, 3)
    free = [
        p.model_copy(update={"costs": Costs() if p.arm == "imitation" else p.costs.model_copy(update={"seconds": 1.0})})
        for p in found._points.values()
    ]
    made = write_comparison(tmp_path, Table(free), ("imitation", "pivots", "end_to_end"))
    (match,) = (one for one in made.matches if one.cost == "rollout turns")
    assert (match.first, match.second) == ("pivots", "end_to_end")
    assert match.ratio.ratio == pytest.approx(2.0, abs=0.1)
    html = (tmp_path / "comparison.html").read_text()
    assert html.count("<svg") == 3, "the frontier, and score over rollout turns and over seconds"
    assert f"{ARMS['pivots'].title} / {ARMS['end_to_end'].title}" in html and f"{match.ratio.ratio:.2f}" in html

    priced = write_comparison(tmp_path, Table(free), ("imitation", "pivots"), price_per_hour=7200.0)
    assert priced.as_json()["price_per_hour"] == 7200.0
    assert "<th>money</th>" in (page := (tmp_path / "comparison.html").read_text()) and "<td>2.00</td>" in page

    alone = write_comparison(tmp_path, Table(free), ("imitation", "pivots"))
    assert "<th>money</th>" not in (tmp_path / "comparison.html").read_text()
    assert not alone.matches and "Cost of the same score" not in (tmp_path / "comparison.html").read_text()


def test_a_score_that_was_not_reached_is_null_in_the_file(tmp_path: Path) -> None:
    """The second arm reaches the level on validation tasks alone."""

    def value(arm: str, rate: float, step: int, seed: int, task: int) -> dict[str, float]:
        helped = arm == "pivots" or split_of(f"task{task}") == "validation"
        return {"turns/greedy": 0.2 + (0.1 * step if helped else 0.0)}

    found = table(value, {arm: [(1.0, s) for s in (1, 2, 3)] for arm in ("pivots", "end_to_end")}, 2)
    match = conclude(found, ("pivots", "end_to_end")).matches[0]
    assert math.isinf(match.ratio.second.cost)
    write_comparison(tmp_path, found, ("pivots", "end_to_end"))
    written = json.loads((tmp_path / "comparison.json").read_text(), parse_constant=pytest.fail)
    assert written["matches"][0]["ratio"]["second"]["cost"] is None
    assert "not reached" in (tmp_path / "comparison.html").read_text()


def test_predictions_against_numpy() -> None:
    """An arm with fewer seeds counts with those that it has."""
    noise = np.random.default_rng(0).normal(0, 0.02, (3, 9, 3))

    def value(arm: str, rate: float, step: int, seed: int, task: int) -> dict[str, float]:
        x = 0.1 * step + 0.05 * (arm == "b")
        return {"turns/greedy": x, "episodes/greedy": x + noise[("a", "b", BASE).index(arm), step, seed]}

    configs = [(1.0, step) for step in (1, 2, 4, 8)]
    whole = table(value, {"a": configs, "b": configs}, 3)
    fewer = Table([p for p in whole._points.values() if p.arm != "b" or p.seed == 1])
    told = predicts([fewer], "turns/greedy", "episodes/greedy")
    x = [0.1 * s for _, s in configs] + [0.1 * s + 0.05 for _, s in configs]
    y = [0.1 * s + noise[0, s].mean() for _, s in configs] + [0.1 * s + 0.05 + noise[1, s, 1] for _, s in configs]
    assert told is not None
    assert told.r2 == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)
    assert told.low <= told.r2 <= told.high and told.low < told.high
    assert (told.num_configs, told.num_seeds) == (8, 3)

    alone = predicts([Table([p for p in whole._points.values() if p.seed == 0])], "turns/greedy", "episodes/greedy")
    assert alone is not None and math.isnan(alone.low) and math.isnan(alone.high), "one seed has no interval"
    assert predicts([whole], "turns/greedy", "progress/greedy") is None


def test_a_curve_begins_behind_the_profile() -> None:
    """A level just above the base costs at least the profile, not a share of it."""
    found = table(_plain, {"a": [(1.0, 0), (1.0, 4)], "b": [(1.0, 4)]}, 2)
    points = [
        p.model_copy(update={"costs": Costs(rollout_turns=p.costs.rollout_turns + 300 * (p.arm == "a"))})
        for p in found._points.values()
    ]
    told = ratio(Table(points), "a", "b", "turns/greedy", 0.21, "rollout turns", num_resamples=5)
    assert told is not None
    assert told.first.cost == pytest.approx(300 + 400 * 0.01 / 0.4)
    assert told.second.cost == pytest.approx(400 * 0.01 / 0.8)


def test_the_base_is_measured_once(tmp_path: Path) -> None:
    first = run_base(make_setting(), tmp_path, 0)
    assert run_base(make_setting(), tmp_path, 0) == first
    assert first.values["kl/tasks"] == pytest.approx(dict.fromkeys(first.values["turns/greedy"], 0.0))
