"""Every plot of a report has its numbers, warnings are said when they are due, and several runs stand side by side."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pivotrl import cli
from pivotrl.protocols import InputError
from pivotrl.records import Manifest, Selection, StepMetrics, TurnResult
from pivotrl.report.facts import rule_words
from pivotrl.report.health import profile_alarms, training_alarms
from pivotrl.report.page import write_report
from pivotrl.report.side_by_side import options_that_differ, write_side_by_side
from pivotrl.report.steps import curve_of, numbers, with_shares
from pivotrl.runs.manifest import manifest_path, read_manifest, write_manifest
from pivotrl.storage.record_files import RecordFile
from pivotrl.training_options.guard_rails import GuardRails, stopped_by
from test_reporting import HOSTILE, Elements, make_run, words_of

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from pivotrl.report.plots import Bar, bars, histogram
from pivotrl.report.plots import _between_bars as between_bars


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return make_run(folder / "strong"), make_run(folder / "weak", gain=0.02, num_steps=24)


class Figures(HTMLParser):
    """For each figure: whether it has a caption, and the rows of the table below it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "figure":
            self._open = {"svg": 0, "caption": False, "rows": 0, "details": False}
            self.found.append(self._open)
        if self._open is not None:
            self._open["svg"] += tag == "svg"
            self._open["caption"] |= tag == "figcaption"
            self._open["details"] |= tag == "details"
            self._open["rows"] += tag == "tr"

    def handle_endtag(self, tag: str) -> None:
        if tag == "figure":
            self._open = None


# --- numbers ------------------------------------------------------------------------------------------------------


def test_every_plot_has_a_caption_and_its_numbers_one_click_away(runs: tuple[Path, Path], tmp_path: Path) -> None:
    one = write_report(runs[0]).read_text()
    several = write_side_by_side(runs, tmp_path / "both.html").read_text()
    for page, least in ((one, 12), (several, 10)):
        figures = Figures(page).found
        assert len(figures) >= least
        assert page.count("<svg") == sum(figure["svg"] for figure in figures)  # no plot outside
        for figure in figures:
            assert figure["svg"] == 1 and figure["caption"] and figure["details"] and figure["rows"] >= 2


def test_the_numbers_of_a_curve_are_those_of_the_run() -> None:
    rows = [StepMetrics(step=step, metrics={"reward/mean": step / 400}) for step in range(300)]
    curve = curve_of(rows, "reward/mean")
    assert curve is not None
    table = numbers(curve)
    assert len(table) <= 101 and table[0][:2] == ("0", "0") and table[-1][:2] == ("299", "0.7475")
    assert all(low <= mean <= high for low, mean, high in zip(curve.lows, curve.means, curve.highs, strict=True))
    assert curve_of(rows, "policy/entropy") is None


def test_the_interval_of_a_running_mean_covers_the_truth() -> None:
    """Steps scatter around 0.5: at the last step of 400 trainings the interval holds it about 95 times in 100."""
    import random

    generator, held = random.Random(0), 0
    for _ in range(400):
        rows = [StepMetrics(step=s, metrics={"x": 0.5 + generator.gauss(0, 0.1)}) for s in range(240)]
        curve = curve_of(rows, "x")
        assert curve is not None
        held += curve.lows[-1] <= 0.5 <= curve.highs[-1]
    assert 0.90 <= held / 400 <= 0.98


# --- the histogram ------------------------------------------------------------------------------------------------


def test_bars_count_every_turn_once_and_edges_lie_between_them() -> None:
    turns = [(k / 8, 0 < k < 5) for k in range(9) for _ in range(k + 1)]
    columns = bars(turns, 8)
    assert [bar.total for bar in columns] == list(range(1, 10))
    assert [bar.chosen for bar in columns] == [0, 2, 3, 4, 5, 0, 0, 0, 0]
    low, high = between_bars(columns, (0.5 / 8, 0.6))
    for bar in columns:
        assert not bar.left < low < bar.right and not bar.left < high < bar.right
    assert [bar for bar in columns if low < bar.middle < high] == [bar for bar in columns if bar.chosen]


def test_rewards_between_0_and_1_get_bars_of_equal_width() -> None:
    columns = bars([(0.0, False), (0.024, True), (0.51, True), (0.5499, True), (0.97, False), (1.0, False)], 4)
    assert (columns[0].told, columns[0].total) == ("always fail", 1)
    assert (columns[-1].told, columns[-1].total) == ("always pass", 1)
    assert {bar.told: bar.total for bar in columns[1:-1] if bar.total} == {
        "0.00 to 0.05": 1,
        "0.50 to 0.55": 2,
        "0.95 to 1.00": 1,
    }


@pytest.mark.parametrize(("num_samples", "each"), [(8, 9_999), (16, 999), (16, 1_234), (64, 98_765)])
def test_every_bar_has_its_count_and_counts_do_not_touch(num_samples: int, each: int) -> None:
    num_bars = len(bars([(0.5, True)], num_samples))
    columns = [Bar(0.1 * n, 0.1 * n + 0.08, "", each, 0, False) for n in range(num_bars)]
    svg = str(histogram(columns, None))
    labels = re.findall(r"font-size: ([\d.]+)px[^>]* x=\"([\d.]+)\"[^>]*>([\d,.]+k?)</text>", svg)
    counts = sorted((float(x), float(size), text) for size, x, text in labels[-num_bars:])
    assert len(counts) == num_bars and {text[0] for _, _, text in counts} == {str(each)[0]}
    for (x, size, text), (following, _, _) in itertools.pairwise(counts):
        assert x + 0.56 * size * len(text) < following  # a digit is at most that wide


# --- warnings -----------------------------------------------------------------------------------------------------


def steps(**curves: list[float]) -> list[StepMetrics]:
    names = {name.replace("__", "/"): values for name, values in curves.items()}
    length = len(next(iter(names.values())))
    return [
        with_shares(StepMetrics(step=s, metrics={name: values[s] for name, values in names.items()}))
        for s in range(length)
    ]


@pytest.mark.parametrize(
    ("curves", "words"),
    [
        ({"policy__entropy": [1.0] * 10 + [0.02] * 10}, "Entropy collapsed from 1.00 to 0.02"),
        (
            {"groups__sampled": [10.0] * 20, "groups__with_signal": [8.0] * 10 + [1.0] * 10},
            "90% of the groups were dead (20% at the start)",
        ),
        (
            {"samples__total": [100.0] * 20, "samples__malformed": [2.0] * 10 + [40.0] * 10},
            "Malformed actions grew from 2% to 40%",
        ),
        (
            {"samples__calls_demonstrated": [50.0] * 20, "samples__messages": [5.0] * 10 + [30.0] * 10},
            "plain messages grew from 10% to 60%",
        ),
        ({"samples__mean_tokens": [20.0] * 10 + [90.0] * 10}, "Actions went from 20 to 90 tokens"),
        ({"loss__kl": [0.0] * 10 + [2.5] * 10}, "moved 2.5 nats per token"),
        ({"reward__mean": [0.5, 0.52] * 5 + [0.2, 0.22] * 5}, "fell from 0.51 to 0.21"),
    ],
)
def test_a_collapse_is_named_with_its_numbers(curves: dict[str, list[float]], words: str) -> None:
    told = training_alarms(steps(**curves))
    assert len(told) == 1 and words in told[0]
    back = {name: list(reversed(values)) if "groups" not in name else values for name, values in curves.items()}
    if "tokens" not in words and "groups" not in words:  # the same curve the other way round is no collapse
        assert not training_alarms(steps(**back))


def test_a_sound_training_and_a_short_one_give_no_warning() -> None:
    assert not training_alarms(steps(policy__entropy=[1.0, 0.9] * 10, reward__mean=[0.3, 0.5] * 10))
    assert not training_alarms(steps(policy__entropy=[1.0, 0.001]))


@pytest.mark.parametrize(
    "curves",
    [
        {"policy__entropy": [5.0] * 10 + [0.2] * 20},
        {"groups__sampled": [20_000.0] * 30, "groups__with_signal": [10_000.0] * 10 + [0.0] * 20},
        {"samples__total": [100.0] * 30, "samples__malformed": [2.0] * 10 + [55.0] * 20},
        {"samples__calls_demonstrated": [50.0] * 30, "samples__messages": [5.0] * 10 + [30.0] * 20},
        {"loss__kl": [0.1] * 10 + [2.1] * 20},
    ],
)
def test_whatever_ends_a_training_is_also_a_warning(curves: dict[str, list[float]]) -> None:
    curves = {"reward__mean": [0.5] * 30, "groups__with_verdict": [20_000.0] * 30, **curves}  # so many exclude a gain
    rows = steps(**curves)
    options = {"num_steps": 40, **dataclasses.asdict(GuardRails())}
    assert stopped_by(options, [row.metrics for row in rows])
    assert training_alarms(rows)


def chosen(count: int, mean: float) -> list[Selection]:
    return [
        Selection(turn_id=f"t#{i}", selected=True, reason="pivot", reward_mean=mean, reward_variance=0.2, num_scored=8)
        for i in range(count)
    ]


def test_a_stale_profile_and_a_small_sample_are_named() -> None:
    train = Manifest(stage="train", status="complete", options={})
    good = steps(reward__mean=[0.4] * 20)
    assert not profile_alarms({"train": train}, good, chosen(60, 0.35))
    assert "stale" in profile_alarms({"train": train}, good, chosen(60, 0.9))[0]
    other = train.model_copy(update={"counts": {"profile_differs_in": ["adapter"]}})
    assert "does not belong to this training" in profile_alarms({"train": other}, good, chosen(60, 0.35))[0]
    assert "only 12 pivots" in profile_alarms({"train": train}, good, chosen(12, 0.35))[0]
    profile = Manifest(stage="profile", status="complete", options={"num_samples": 2})
    assert "only 2 samples a turn" in profile_alarms({"profile": profile}, [], chosen(60, 0.35))[0]


def test_warnings_stand_where_a_reader_decides(tmp_path: Path) -> None:
    run = make_run(tmp_path / "collapsed")
    path = run / "train" / "metrics.jsonl"
    rows = list(RecordFile(path, StepMetrics))
    path.unlink()
    bent = [
        row.model_copy(update={"metrics": {**row.metrics, "policy/entropy": 1.0 / (1 + row.step**2)}}) for row in rows
    ]
    RecordFile(path, StepMetrics).append(bent)
    manifest = read_manifest(manifest_path(run, "train"))
    from pivotrl.runs.layout import outputs
    from pivotrl.runs.manifest import outputs_of

    write_manifest(
        manifest_path(run, "train"), manifest.model_copy(update={"outputs": outputs_of(run, outputs("train"))})
    )
    seen = words_of(write_report(run).read_text())
    assert (
        seen.index("Before you act on this")
        < seen.index("Warning. Entropy collapsed")
        < seen.index("What was run logs")
    )


# --- what was run, and methods compared -----------------------------------------------------------------------------


def test_the_page_says_what_was_run(runs: tuple[Path, Path]) -> None:
    seen = words_of(write_report(runs[0]).read_text())
    for words in ("logs val: 40 trajectories of 40 tasks to train on, 40 held out", "8 samples a turn, temperature 1.0",
                  "PivotRL, 40 steps of 8 turns with 8 samples each, learning rate 1e-05"):  # fmt: skip
        assert words in seen


def test_a_comparison_in_the_same_directory_is_shown_and_linked(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r")
    row = {"title": "PivotRL", "rate": 1e-4, "step": 40, "seeds": 3, "rollout_turns": 1200.0}
    gain = {"turns/greedy": {"mean": 0.12, "low": 0.05, "high": 0.19}}
    told = {
        "score": "turns/greedy",
        "harm": None,
        "advice": {"sentence": "Use PivotRL."},
        "rows": [{**row, "gains": gain}],
    }
    (run / "comparison.json").write_text(json.dumps(told))
    page = write_report(run).read_text()
    assert 'href="comparison.html"' in page
    assert "Use PivotRL." in page and "+12.0 [+5.0, +19.0]" in page
    (run / "comparison.json").write_text("{}")  # of another version
    assert "comparison.html" not in write_report(run).read_text()


# --- several runs -------------------------------------------------------------------------------------------------


def test_runs_are_paired_on_the_items_that_both_scored(runs: tuple[Path, Path], tmp_path: Path) -> None:
    page = write_side_by_side(runs, tmp_path / "both.html").read_text()
    after = [
        {r.turn_id: r.reward for r in RecordFile(run / "evaluations" / "after.turns.jsonl", TurnResult)} for run in runs
    ]
    shared = after[0].keys() & after[1].keys()
    difference = sum(after[1][key] - after[0][key] for key in shared) / len(shared)
    seen = words_of(page)
    assert f"{100 * difference:+.1f}".replace("-", "\N{MINUS SIGN}") in seen
    assert f"{len(shared)} items" in seen
    assert "strong" in seen and "weak" in seen and "Each run is one training" in seen


def test_only_options_that_differ_are_listed(runs: tuple[Path, Path], tmp_path: Path) -> None:
    seen = words_of(write_side_by_side(runs, tmp_path / "both.html").read_text())
    tail = seen[seen.rindex("What differs") :]
    assert "train num_steps 40 24" in tail
    assert "group_size" not in tail
    same = make_run(tmp_path / "strong")
    seen = words_of(write_side_by_side([runs[0], same], tmp_path / "same.html").read_text())
    assert "The runs have the same options in every stage." in seen
    assert options_that_differ([]) == []


def test_an_unfinished_run_and_hostile_names_are_told_safely(runs: tuple[Path, Path], tmp_path: Path) -> None:
    part = make_run(tmp_path / "<b>part<script>", stages=("read", "profile", "select"), text=HOSTILE)
    page = write_side_by_side([runs[0], part], tmp_path / "both.html").read_text()
    assert "is not complete: evaluation before training (not started)" in words_of(page)
    found = Elements(page)
    assert "script" not in found.tags and "b" in found.tags and "<b>part" not in page
    assert "default-src 'none'" in page


def test_report_of_several_runs_on_the_command_line(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "both.html"
    cli.main(["report", *map(str, runs), "--out", str(page), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert [Path(one["directory"]).name for one in told] == ["strong", "weak"]
    assert page.is_file() and all((run / "report.html").is_file() for run in runs)
    cli.main(["report", *map(str, runs), "--out", str(page)])
    shown = capsys.readouterr().out
    assert "strong" in shown and "held-out episodes" in shown
    for arguments, words in (
        (["report"], "name one run directory"),
        (["report", str(runs[0]), "--out", "x.html"], "is for several runs"),
        (["report", str(runs[0]), str(runs[0])], "given twice"),
        (["report", *map(str, runs), "--out", str(tmp_path)], "is a folder; give a file"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments)
        assert stopped.value.code == 2 and words in capsys.readouterr().err


def test_the_same_run_twice_is_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="given twice"):
        write_side_by_side([runs[0], runs[0]], tmp_path / "x.html")


@pytest.mark.parametrize(
    ("rule", "told"),
    [("mixed", "mixed, mean reward below 0.6"), ("mean_only", "mean_only, mean reward at most 0.6"), ("all", "all")],
)
def test_a_limit_is_told_only_of_a_rule_that_has_it(rule: str, told: str) -> None:
    assert rule_words({"rule": rule, "max_mean": 0.6}) == told
