"""The simulation of many processes, against arithmetic by hand and against the dealing itself.

Run alone: python -m pytest tests/test_scaling.py
"""

from __future__ import annotations

import dataclasses

import pytest

from pivotrl.options import InputError
from pivotrl.report.planning.scaling import Line, Measured, exchange_seconds, simulate, step_of

MEASURED = Measured(
    sampling=Line(1.0, 0.5), learning=Line(2.0, 1.0), optimizer=4.0,
    gathered_bytes=8e9, summed_bytes=8e9, messages=10, bandwidth=1e9, latency=0.01, serial=3.0,
)  # fmt: skip


def test_a_line_goes_through_two_measurements() -> None:
    line = Line.through((10, 7), (30, 17))
    assert (line.fixed, line.each) == pytest.approx((2, 0.5))
    assert line.seconds(0) == 0 and line.seconds(10) == 7
    assert Line.through((10, 7), (30, 5)).each == 0  # noise never makes work negative
    with pytest.raises(InputError, match="must differ in cost"):
        Line.through((10, 7), (10, 8))


def test_a_step_by_hand() -> None:
    costs = [9.0, 5.0, 4.0, 2.0]
    one = step_of(MEASURED, costs, costs, 1)
    assert (one.sampling, one.learning, one.optimizer, one.exchange, one.busiest) == (11, 22, 4, 0, 1)
    assert one.seconds == 11 + 22 + 4 + 3
    two = step_of(MEASURED, costs, costs, 2)  # 9 and 5 + 4, then 2 to either
    assert (two.learning, two.sampling, two.optimizer) == (2 + 11, 1 + 5.5, 2)
    assert two.busiest == pytest.approx(11 / 10)
    assert two.exchange == pytest.approx(0.5 * 16 + 2 * 10 * 0.01)
    eight = step_of(MEASURED, costs, costs, 8)  # the longest trajectory is the floor
    assert eight.learning == 2 + 9 and eight.busiest == pytest.approx(8 * 9 / 20)
    assert eight.exchange == pytest.approx(7 / 8 * 16 + 2 * 10 * 7 * 0.01)


def test_many_equal_trajectories_scale_until_each_process_has_one() -> None:
    free = dataclasses.replace(
        MEASURED, sampling=Line(0, 1), learning=Line(0, 1), bandwidth=1e18, latency=0.0, serial=0.0
    )
    one, *more = (simulate(free, [1.0] * 10, [1.0] * 10, number, 64) for number in (1, 2, 8, 64, 128))
    assert [one.seconds / step.seconds for step in more[:3]] == pytest.approx([2, 8, 64])
    assert more[3].learning == more[2].learning  # and no further
    uneven = simulate(free, [1.0, 20.0], [1.0, 20.0], 8, 16)
    assert uneven.busiest > 1.2 and uneven.seconds > one.seconds / 8


def test_a_simulation_is_the_same_each_time_and_needs_costs() -> None:
    first, again = (simulate(MEASURED, [1.0, 3.0, 9.0], [1.0, 3.0, 9.0], 8, 16) for _ in range(2))
    assert first == again and exchange_seconds(MEASURED, 1) == 0
    with pytest.raises(InputError, match="costs are not of the same"):
        simulate(MEASURED, [1.0], [], 8, 16)
