"""What is left is told from the work that this process did, from its beginning."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from pivotrl import ProfileOptions, TrainingOptions, cli, cut, evaluate_turns, profile, train
from pivotrl.cli.live_progress import Bars, LiveBars, PlainLines, Spending
from pivotrl.evaluation import EvaluationOptions, evaluate_retention
from pivotrl.policies.tabular import Policy
from pivotrl.protocols.observing import Observer, at_work
from pivotrl.readers.chat import read
from pivotrl.verifiers.exact import verify
from test_pipeline import write_logs


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def lines(reports: list[tuple[float, int]], total: int, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is shown when so many are done at these times."""
    clock = Clock()
    show = PlainLines(clock)
    for seconds, done in reports:
        clock.now = 1000.0 + seconds
        show.progress("steps", done, total, f"reward {done}")
    return [line.partition(" steps")[0] + line.rpartition(f"reward {line.partition('/')[0]}")[2]
            for line in capsys.readouterr().err.splitlines()]  # fmt: skip


def test_the_clock_starts_before_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines([(0, 0), (30, 1), (60, 2), (90, 3), (120, 4)], 4, capsys) == [
        *("0/4", "1/4, about 90 s left", "2/4, about 60 s left", "3/4, about 30 s left", "4/4")
    ]


def test_what_was_done_by_an_earlier_process_took_no_time_of_this_one(capsys: pytest.CaptureFixture[str]) -> None:
    shown = lines([(0, 80), (20, 82), (40, 84)], 92, capsys)
    assert shown == ["80/92", "82/92, about 2 min left", "84/92, about 80 s left"]


def test_nothing_is_told_before_anything_is_known_and_never_no_time_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    shown = lines([(0, 0), (15, 0), (30, 9_999)], 10_000, capsys)
    assert shown == ["0/10000", "0/10000", "9999/10000, about 1 s left"]
    assert lines([(0, 0), (3600, 1)], 10, capsys) == ["0/10", "1/10, about 9.0 h left"]


def test_a_second_round_of_the_same_work_has_a_clock_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    shown = lines([(0, 0), (10, 2), (1000, 0), (1100, 1)], 2, capsys)
    assert shown == ["0/2", "2/2", "0/2", "1/2, about 2 min left"]


def test_every_stage_says_first_what_is_done_and_goes_on_from_there(tmp_path: Path) -> None:
    """Half of the work is there already: the first report says so, and each later one is of work done now."""
    turns, _ = cut(read(write_logs(tmp_path / "logs.jsonl", 4)))
    texts = [{"id": str(i), "source": "s", "prompt": "q", "answer": "a"} for i in range(4)]
    seen: list[tuple[int, int]] = []

    class Note(Observer):
        def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
            seen.append((done, total))

    note = Note()

    def stages(share: float) -> list[list[tuple[int, int]]]:
        policy, reports = Policy(), []
        some = turns[: int(len(turns) * share)]
        works = (
            lambda: profile(some, policy, verify, tmp_path / "p", ProfileOptions(num_samples=2, batch_turns=3), note),
            lambda: evaluate_turns(policy, some, verify, tmp_path / "e", EvaluationOptions(eval_batch=3), note),
            lambda: evaluate_retention(policy, texts[: int(4 * share)], tmp_path / "r", note),
            lambda: train(policy, turns, verify, tmp_path / "t",
                          TrainingOptions(num_steps=int(4 * share), turns_per_step=2, group_size=2), note),
        )  # fmt: skip
        for work in works:
            seen.clear()
            work()
            reports.append(list(seen))
        return reports

    stages(0.5)
    by_three = [(6, 12), (9, 12), (12, 12)]
    assert stages(1.0) == [by_three, by_three, [(2, 4), (3, 4), (4, 4)], [(2, 4), (3, 4), (4, 4)]]


def test_work_without_parts_is_one_line_in_a_log_and_gone_from_a_terminal_when_it_has_ended(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show = PlainLines()
    with at_work(show, "loading the model m"):
        assert capsys.readouterr().err == "loading the model m\n"
    assert capsys.readouterr().err == ""

    console = Console(width=80, force_terminal=True, file=io.StringIO())
    with Bars(console=console, auto_refresh=False) as bars:
        live = LiveBars(bars, Spending())

        def seen() -> str:
            with console.capture() as shown:
                console.print(bars.get_renderable())
            return shown.get()

        with pytest.raises(KeyError), at_work(live, "loading the model m"):
            assert "loading the model m" in seen() and "0:00:00" in seen()
            raise KeyError
        assert "loading" not in seen()


def test_what_takes_long_is_told_of_in_every_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def lines(*arguments: object) -> list[str]:
        cli.main([str(argument) for argument in arguments])
        return capsys.readouterr().err.splitlines()

    run = tmp_path / "run"
    told = lines("run", write_logs(tmp_path / "logs.jsonl", 12), "-o", run, "--policy", "tabular", "--verifier",
                 "exact", "--num-steps", 2, "--turns-per-step", 4)  # fmt: skip
    work = [
        line for line in told if line in ("loading the policy tabular", "exporting the policy", "writing the report")
    ]
    assert work == ["loading the policy tabular", "exporting the policy", "writing the report"]
    assert "writing the report" in lines("report", run)
    assert "writing the page" in lines("view", run)
