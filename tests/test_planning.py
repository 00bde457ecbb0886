"""A pilot foretells a profile: its draw, its intervals, the ways compared, the warnings. And the arithmetic behind.

Run alone: python -m pytest tests/test_planning.py
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pivotrl.protocols import Turn
from pivotrl.records import BatchTime, Message, Tool, Trajectory
from pivotrl.report.planning.alarms import alarms, turns_to_halve
from pivotrl.report.planning.costs import TokenPrice, measured
from pivotrl.report.planning.pilot import PilotTurn
from pivotrl.report.planning.planned import plan_of
from pivotrl.report.planning.projection import Candidates, Range, project
from pivotrl.report.planning.prompts import _text, prompt_sizes, shared_size, unique_size
from pivotrl.report.planning.ways import PlannedTraining, compare
from pivotrl.selection.pass_rates import Evidence
from pivotrl.stages.planning import PilotOptions, in_pilot_order

K = 8


def log_of(name: str, turns: int, task: str | None = None, **more: Any) -> Trajectory:
    messages = [Message(role="system", content="Rules of the shop.")]
    for number in range(turns):
        messages += [Message(role="user", content=f"{name} asks {number}"), Message(role="assistant", content="ok")]
    return Trajectory(id=name, task_id=task or name, messages=tuple(messages), **more)


def turns_of(*logs: Trajectory) -> list[Turn]:
    return [Turn(log, i) for log in logs for i, m in enumerate(log.messages) if m.role == "assistant"]


def row(task: str, passes: float, samples: int = K, **more: Any) -> PilotTurn:
    mixed = 0 < passes < samples
    outcome = "mixed" if mixed else "always passes" if passes else "always fails"
    known: dict[str, Any] = {
        "outcome": outcome, "is_pivot": mixed and passes / samples < 0.6, "evidence": Evidence(passes, samples),
        "num_samples": samples, "num_rollout_turns": samples, "sampled_tokens": 10 * samples, "prompt_tokens": 100,
        "computed_tokens": 100, "prompt_size": 400,
    }  # fmt: skip
    return PilotTurn(task, **{**known, **more})


def candidates(number: int) -> Candidates:
    return Candidates(number, 400 * number, 100 * number, 200.0)


# --- the draw ---------------------------------------------------------------------------------------------------------


def test_the_first_turns_of_a_pilot_are_of_different_tasks_and_a_larger_pilot_adds_to_a_smaller() -> None:
    turns = turns_of(*(log_of(f"log{n}", 5) for n in range(40)))
    ordered = in_pilot_order(turns, 7)
    assert sorted(turn.id for turn in ordered) == sorted(turn.id for turn in turns)
    for size in (5, 17, 32):
        assert len({turn.trajectory.task_id for turn in ordered[:size]}) == size
    assert ordered == in_pilot_order(turns, 7) != in_pilot_order(turns, 8)


def test_every_turn_has_the_same_chance_to_be_in_a_pilot_however_long_its_task() -> None:
    turns = turns_of(log_of("short", 1), log_of("middle", 4), log_of("long", 20), log_of("also", 3))
    times = Counter(turn.id for seed in range(2_000) for turn in in_pilot_order(turns, seed)[:7])
    expected = 2_000 * 7 / len(turns)
    assert max(abs(times[turn.id] - expected) for turn in turns) < 5 * math.sqrt(expected)


@pytest.mark.parametrize(
    ("asked", "candidates", "size"),
    [(None, 97_000, 970), (None, 200, 30), (None, 12, 12), (50, 200, 50), (0.2, 200, 40)],
)
def test_a_pilot_is_one_percent_and_at_least_thirty_turns(asked: float | None, candidates: int, size: int) -> None:
    assert PilotOptions(asked).num_turns(candidates) == size


def test_half_a_turn_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--pilot 2.5 is neither"):
        PilotOptions(2.5)


# --- intervals --------------------------------------------------------------------------------------------------------


@functools.cache
def world(seed: int) -> tuple[list[Turn], dict[str, PilotTurn]]:
    """Turns of 100 tasks of 1 to 9 turns, ordered by difficulty; those of a task are alike. Their profile is known."""
    generator = np.random.default_rng(seed)
    logs = [log_of(f"log{n:03}", int(generator.integers(1, 10))) for n in range(100)]
    turns, rows = turns_of(*logs), {}
    for turn in turns:
        place = int(turn.trajectory.id[3:]) / 100
        kind = generator.random()
        rate = 0.0 if kind < 0.4 else 1.0 if kind > 0.9 else float(generator.beta(1 + 3 * place, 4 - 3 * place))
        tokens = int(generator.lognormal(3 + place, 0.5)) * K
        rows[turn.id] = row(turn.trajectory.task_id, float(generator.binomial(K, rate)), sampled_tokens=tokens)
    return turns, rows


def coverage(draw: Callable[[list[Turn], int], list[Turn]], size: int, tries: int = 200) -> Counter[str]:
    """Per cent of pilots whose intervals hold the profile's own numbers."""
    inside: Counter[str] = Counter()
    for seed in range(tries):
        turns, rows = world(seed % 6)
        whole = project(list(rows.values()), candidates(len(turns)), K)
        found = project([rows[turn.id] for turn in draw(turns, seed)[:size]], candidates(len(turns)), K)
        for name in ("pivots", "sampled_tokens"):
            part, true = getattr(found, name), getattr(whole, name)
            inside[name] += part.low <= true.mean <= part.high
    return Counter({name: round(100 * number / tries) for name, number in inside.items()})


def test_intervals_of_a_pilot_hold_what_the_whole_profile_has() -> None:
    found = coverage(in_pilot_order, 40)
    assert 90 <= found["pivots"] <= 99
    assert 90 <= found["sampled_tokens"] <= 99


def test_the_first_turns_in_order_do_not_speak_for_the_rest() -> None:
    """The twin: the same intervals fail where turns are not drawn at random."""
    assert coverage(lambda turns, _: turns, 40, tries=6)["sampled_tokens"] < 50


def test_an_interval_narrows_with_the_turns_and_has_no_width_once_all_are_sampled() -> None:
    turns, rows = world(0)
    widths = []
    for size in (30, 120, 360, len(turns)):
        found = project([rows[turn.id] for turn in in_pilot_order(turns, 0)[:size]], candidates(len(turns)), K)
        widths.append(found.pivots.high - found.pivots.low)
    assert widths[0] > 1.7 * widths[1] > 1.7**2 * widths[2] > widths[3] == 0
    assert found.pivots.mean == sum(row.is_pivot for row in rows.values())
    assert found.sampled_tokens == Range.exactly(sum(row.sampled_tokens or 0 for row in rows.values()))


def test_turns_that_could_not_be_sampled_cost_nothing_and_are_no_pivots() -> None:
    rows = [row(f"t{n}", 4) for n in range(20)] + [PilotTurn(f"u{n}", "left out", prompt_size=400) for n in range(20)]
    found = project(rows, candidates(4_000), K)
    assert found.shares["left out"].mean == 0.5
    assert found.pivots.mean == pytest.approx(2_000)
    assert found.sampled_tokens is not None and found.sampled_tokens.mean == pytest.approx(2_000 * K * 10)
    assert found.prompt_tokens is not None and found.prompt_tokens.mean == pytest.approx(2_000 * 100)


def test_samples_that_came_as_text_have_unknown_tokens_never_none() -> None:
    found = project([row(f"t{n}", 4, sampled_tokens=None, prompt_tokens=0) for n in range(20)], candidates(100), K)
    assert found.sampled_tokens is None and found.prompt_tokens is None
    assert found.rollout_turns.mean == 100 * K


def test_one_task_gives_no_interval_of_tokens() -> None:
    found = project([row("same", 4), row("same", 2)], candidates(100), K)
    assert found.sampled_tokens is not None and found.sampled_tokens.high == math.inf
    plan = plan_of([row("same", 4), row("same", 2)], candidates(100), num_samples=K, max_tokens=64)
    assert plan.as_json()["found"]["sampled_tokens"]["high"] is None


# --- prompts ----------------------------------------------------------------------------------------------------------


def test_prompt_sizes_are_those_of_the_written_prompts() -> None:
    logs = [log_of("a", 4), log_of("b", 3, context_window=2), log_of("c", 2, tools=(Tool(name="look"),))]
    turns = turns_of(*logs)
    assert prompt_sizes(turns) == [len(_text(turn)) for turn in turns]
    assert prompt_sizes(turns[::2]) == [len(_text(turn)) for turn in turns[::2]]


def test_what_prompts_share_is_counted_once() -> None:
    """As many characters as there are different beginnings."""
    for window in (None, 2):
        turns = turns_of(log_of("a", 3, context_window=window), log_of("ab", 3, context_window=window))
        beginnings = {_text(turn)[:end] for turn in turns for end in range(1, len(_text(turn)) + 1)}
        assert unique_size(turns) == len(beginnings)
    turns = turns_of(log_of("a", 3), log_of("ab", 3))
    assert shared_size(turns, 1) == unique_size(turns[:3]) + unique_size(turns[3:]) > unique_size(turns)


# --- the ways ---------------------------------------------------------------------------------------------------------


def coins(number: int, rate: float, seed: int = 0) -> list[PilotTurn]:
    generator = np.random.default_rng(seed)
    return [row(f"t{n}", float(generator.binomial(K, rate))) for n in range(number)]


def test_lazy_training_needs_as_many_groups_more_as_are_not_mixed() -> None:
    """Half of the turns never pass; at the others each sample passes with probability 0.5."""
    rows = coins(300, 0.5) + [row(f"u{n}", 0) for n in range(300)]
    training = PlannedTraining(num_steps=10, turns_per_step=20, group_size=4)
    found = compare(rows, project(rows, candidates(6_000), K), training)
    fixed, _, lazy = found.ways
    assert fixed.profile_samples == Range.exactly(6_000 * K)
    assert fixed.training_samples.mean == 10 * 20 * 4
    mixed = 1 - 2 * 0.5**4
    assert found.mixed_anywhere.mean == pytest.approx(mixed / 2, rel=0.06)
    assert found.mixed_groups.mean == pytest.approx(10 * 20 * mixed, rel=0.06)
    assert lazy.profile_samples.mean == 0
    assert lazy.training_groups.mean * found.mixed_anywhere.mean == pytest.approx(found.mixed_groups.mean)
    assert lazy.training_samples.low < lazy.training_samples.mean < lazy.training_samples.high


def test_an_adaptive_profile_saves_where_turns_are_decided_early() -> None:
    clear = [row(f"t{n}", 0, 32) for n in range(150)] + [row(f"u{n}", 32, 32) for n in range(150)]
    open_ = [row(f"t{n}", float(passes), 32) for n, passes in enumerate([18, 19, 20, 17] * 75)]
    training = PlannedTraining()
    share = {
        name: compare(rows, project(rows, candidates(3_000), 32), training).ways[1].profile_samples.mean / (3_000 * 32)
        for name, rows in (("clear", [*clear, *coins(30, 0.3)]), ("open", open_))
    }
    assert share["clear"] < 0.5 < share["open"] <= 1


def test_four_samples_leave_an_adaptive_profile_nothing_to_save() -> None:
    rows = [row(f"t{n}", n % 5, 4) for n in range(50)]
    fixed, adaptive, _ = compare(rows, project(rows, candidates(500), 4), PlannedTraining()).ways
    assert adaptive.profile_samples.mean == fixed.profile_samples.mean


# --- seconds and money ------------------------------------------------------------------------------------------------


def time_of(kind: str, prompts: int, sampled: int, samples: int, seconds: float) -> BatchTime:
    facts = {"first_turn": "a#1", "num_turns": 2, "num_samples": samples, "computed_tokens": prompts}
    return BatchTime.model_validate({"kind": kind, **facts, "sampled_tokens": sampled, "seconds": seconds})


def test_prompts_timed_alone_tell_their_share_of_the_time() -> None:
    speed = measured([time_of("samples", 1_000, 500, 50, 12.0), time_of("prompts", 500, 2, 2, 1.0)], False, False)
    assert speed is not None and speed.is_split
    assert speed.per_prompt_token == pytest.approx(0.002)
    assert speed.per_sampled_token == pytest.approx(0.02)
    exactly = Range.exactly
    assert speed.sampling(exactly(1_000), exactly(500), exactly(50)).mean == pytest.approx(12)


def test_a_server_that_cannot_be_timed_in_parts_goes_by_sampled_tokens() -> None:
    speed = measured([time_of("samples", 90_000, 500, 50, 25.0)], False, False)
    assert speed is not None and (speed.per_prompt_token, speed.per_sampled_token) == (0, pytest.approx(0.05))


def test_a_profile_that_scored_its_demonstrations_computed_its_prompts_twice() -> None:
    speed = measured([time_of("samples", 1_000, 500, 50, 25.0)], True, True)
    assert speed is not None and speed.per_sampled_token == pytest.approx(25 / 2_500)


def test_times_of_samples_without_tokens_go_by_the_sample_and_none_is_unknown() -> None:
    speed = measured([time_of("samples", 0, 0, 50, 25.0)], False, False)
    assert speed is not None and speed.sampling(*(Range.exactly(n) for n in (0, 0, 100))).mean == pytest.approx(50)
    assert measured([], False, True) is None


def test_a_server_is_paid_for_each_prompt_once_and_each_sampled_token() -> None:
    rows, training = coins(100, 0.3), PlannedTraining(num_steps=10, turns_per_step=8, group_size=4)
    prices = TokenPrice(input_price=2.0, output_price=10.0)
    plan = plan_of(rows, candidates(1_000), num_samples=K, max_tokens=64, training=training, token_price=prices)
    money = plan.bills[0].money
    groups, samples = 1_000 + 10 * 8, 1_000 * K + 10 * 8 * 4
    assert money is not None and money.mean == pytest.approx((groups * 100 * 2.0 + samples * 10 * 10.0) / 1e6)
    assert plan.bills[0].seconds is None


# --- warnings ---------------------------------------------------------------------------------------------------------


def codes(rows: list[PilotTurn], number: int = 5_000, **more: Any) -> list[str]:
    found = project(rows, candidates(number), K)
    return [alarm.code for alarm in alarms(rows, found, PlannedTraining(turns_per_step=8), 64, **more)]


def many(passes: float, **more: Any) -> list[PilotTurn]:
    return [row(f"t{n}", passes, **more) for n in range(40)]


@pytest.mark.parametrize(
    ("code", "rows"),
    [
        ("never_passes", many(0)),
        ("always_passes", many(K)),
        ("undecided", many(0, evidence=Evidence(0, 0), outcome="no verdict", num_without_verdict=K)),
        ("cut_off", many(0, num_cut_off=K - 1)),
        ("malformed", many(0, num_malformed=K - 1)),
        ("left_out", [PilotTurn(f"t{n}", "left out") for n in range(30)] + many(4)[:10]),
        ("few_tasks", [row(f"t{n % 3}", 4) for n in range(40)]),
        ("wide", [*many(0)[:37], *[row(f"u{n}", 3) for n in range(3)]]),
        ("few_pivots", many(0)[:39] + [row("u", 3)]),
    ],
)
def test_each_fault_is_told_and_a_sound_pilot_is_quiet(code: str, rows: list[PilotTurn]) -> None:
    number = 100 if code == "few_pivots" else 5_000
    assert code in codes(rows, number)
    assert codes([row(f"t{n}", n % 5) for n in range(400)]) == []


def test_a_profile_in_progress_says_that_it_goes_in_order() -> None:
    assert "in_order" in codes(many(4), is_random=False)


def test_an_alarm_names_the_turns_that_halve_the_interval() -> None:
    for turns, number in ((30, 10**9), (30, 200), (150, 200)):
        more = turns_to_halve(turns, number)
        assert math.sqrt(1 / (turns + more) - 1 / number) == pytest.approx(
            math.sqrt(1 / turns - 1 / number) / 2, rel=0.03
        )
    assert turns_to_halve(30, 10**9) == 90
    assert turns_to_halve(200, 200) == 0
