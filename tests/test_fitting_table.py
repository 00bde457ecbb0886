"""No number and no interval is broken over two lines, however narrow the terminal is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pivotrl import run
from pivotrl.cli import check_table, doctor_table, import_table, tables
from pivotrl.cli.plugin_list import print_plugins
from pivotrl.intervals import Estimate, PairedDifference
from pivotrl.judging.lint import CheckOptions
from pivotrl.judging.probes.report import CheckReport, Rate, Row
from pivotrl.policies.tabular import Policy
from pivotrl.records import SampleGroup
from pivotrl.report.summary import Breakdown, Comparison, Cost, Summary
from pivotrl.sandbox.attacks import CATEGORIES, AttackResult
from pivotrl.sandbox.doctor import SandboxRecord
from pivotrl.storage.record_files import read_records
from test_pipeline import TABULAR, write_logs

WIDTHS = (60, 80, 100)
_NUMBER = re.compile(r"[+-]?\d[\d.,]*(?: %)?(?: \[[^\]]*\])?(?: points)?(?: of \d[\d,]*)?")


@pytest.fixture(autouse=True)
def width_is_put_back() -> Iterator[None]:
    before = tables.out._width
    yield
    tables.out._width = before


def printed(show: Callable[[], object], width: int) -> list[str]:
    tables.out.width = width
    with tables.out.capture() as captured:
        show()
    return captured.get().splitlines()


def require_whole(show: Callable[[], object], width: int) -> None:
    """Every number of the widest form stands in one line of the narrow one, and no line is too long, except a command
    that has to be pasted whole."""
    wide, narrow = printed(show, 500), printed(show, width)
    assert max(len(line) for line in narrow if not line.startswith("next: ")) <= width
    numbers = [found.rstrip(".,") for line in wide for found in _NUMBER.findall(line)]
    assert len(numbers) > 3
    broken = [number for number in numbers if not any(number in line for line in narrow)]
    assert not broken, "\n".join(narrow)


def estimate(mean: float) -> Estimate:
    return Estimate(mean, mean - 0.055, mean + 0.0591, 180, 30)


def comparison(name: str, unit: str, scale: float = 1.0) -> Comparison:
    change = PairedDifference(0.385, 0.512, 0.127 * scale, -0.0123 * scale, 0.2345 * scale, 0.04321, 180, 30, 40, 11)
    return Comparison(name, unit, estimate(0.385 * scale), estimate(0.512 * scale), change)


SUMMARY = Summary(
    directory="runs/mine",
    complete=True,
    counts={},
    comparisons=(
        comparison("held-out turns", "share passed"),
        comparison("held-out episodes", "share solved"),
        comparison("retention", "nats per token", 10.0),
    ),
    adjusted_p_values={"held-out turns": 0.0864, "held-out episodes": 0.0432},
    breakdowns=(Breakdown("complexity", "hard, of many steps", estimate(0.1), estimate(0.9)),),
    kl_to_reference=estimate(0.1234),
    costs=(Cost("read", 0, 1.2), Cost("profile", 1_234_567, 123_456.7), Cost("train", 98_765, 7_654.3)),
    versions={},
)
RATE = Rate(count=1234, num_probes=56789, num_tasks=20, mean=0.1234, low=0.0987, high=0.9999)
ROW = Row(false_pass=RATE, false_fail=RATE)
CHECK = CheckReport(
    verifier="pivotrl.verifiers.tool_call:verify()",
    trajectories_sha256="",
    options={},
    num_turns=200,
    num_tasks=40,
    num_turns_skipped=0,
    **dict.fromkeys(
        ("accepts_expected", "false_pass", "false_fail", "uncertain_pass", "uncertain_fail", "no_verdict"), RATE
    ),
    by_kind={"other_turn/same_trajectory": ROW, "honest/reordered": Row(false_pass=None, false_fail=RATE)},
    by_tool={"search_direct_flight_with_a_very_long_name_indeed": ROW},
    by_turn={"message": ROW, "one call": ROW},
    reward_values=(0.0, 0.125, 0.5, 1.0),
    num_turns_of_one_reward=3,
    reasons_of_refused={"wrong_tool": 2},
    worst=(),
    num_verdicts=123456,
    verdicts_per_second=9876.5,
    num_rollout_turns=0,
)
ATTACKS = tuple(
    AttackResult(f"attack {number}", category, "blocked", control_ok=True)
    for category, count in zip(CATEGORIES, (21, 17), strict=False)
    for number in range(count)
)
SANDBOX = SandboxRecord(identity={"backend": "bwrap"}, checks=(), attacks=ATTACKS)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "show",
    [
        lambda: tables.print_summary(SUMMARY, False),
        lambda: check_table.print_check(CHECK, CheckOptions(), False),
        lambda: doctor_table.print_sandbox(SANDBOX, False),
    ],
    ids=["summary", "check", "doctor"],
)
def test_results_keep_their_numbers_whole(show: Callable[[], object], width: int) -> None:
    require_whole(show, width)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("run")
    run(str(write_logs(top / "logs.jsonl")), top / "run", policy=Policy(), **TABULAR)
    return top / "run"


@pytest.mark.parametrize("width", WIDTHS)
def test_a_run_keeps_its_numbers_whole(finished: Path, width: int) -> None:
    for stage in ("profile", "select", "train", "evaluations/after"):
        require_whole(lambda stage=stage: tables.print_stage(finished, stage, False), width)
    require_whole(lambda: import_table.print_import(finished, False), width)
    require_whole(lambda: tables.print_turn(finished, None, 4), width)
    turn_id = read_records(finished / "profiles.jsonl", SampleGroup)[0].turn_id
    require_whole(lambda: tables.print_turn(finished, turn_id, 4), width)


@pytest.mark.parametrize("width", (60, 80, 100))
def test_the_options_of_a_plugin_keep_their_defaults_whole(width: int) -> None:
    require_whole(lambda: print_plugins("readers", "textworld", False), width)


def test_at_the_usual_width_what_fits_is_a_table() -> None:
    lines = printed(lambda: tables.print_summary(SUMMARY, False), 150)
    assert any(line.startswith("measured on held-out tasks") and "p (Holm)" in line for line in lines)
    lines = printed(lambda: tables.print_summary(SUMMARY, False), 80)
    place = lines.index("held-out turns, share passed")
    assert lines[place + 1 : place + 4] == [
        "    before [95 %]  38.5 % [33.0 %, 44.4 %]",
        "    after [95 %]   51.2 % [45.7 %, 57.1 %]",
        "    change [95 %]  +12.7 [-1.2, +23.4] points",
    ]
