"""`pivotrl compare`: one's own logs, a grid, a page and a recommendation."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pivotrl.cli import main
from pivotrl.comparison.advice import advise
from pivotrl.comparison.grids import read_points
from pivotrl.comparison.page import write_comparison
from pivotrl.comparison.points import BASE, Point
from pivotrl.comparison.table import Table
from test_pipeline import write_logs

GRID = [
    *("--policy", "tabular", "--verifier", "exact", "--heldout-fraction", "0.5", "--seeds", "2", "--rates", "0.5", "5"),
    *("--checkpoints", "2", "4", "--turns-per-step", "8", "--group-size", "4", "--num-samples", "4"),
]


def texts(path: Path) -> Path:
    rows = [{"id": f"t{i}", "source": "test", "prompt": "1 + 1", "answer": str(i)} for i in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_logs_become_a_frontier_and_a_recommendation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs, out = write_logs(tmp_path / "logs.jsonl", 40), tmp_path / "comparison"
    command = ["compare", str(logs), "-o", str(out), *GRID, "--retention", str(texts(tmp_path / "texts.jsonl"))]
    main(command)
    shown = capsys.readouterr().out
    # The table has a row for each turn, so no training helps at held-out turns.
    assert "Neither method improves the policy" in shown and "PivotRL" in shown
    assert shown.count("no training helps") == 2
    made = json.loads((out / "comparison.json").read_text())
    assert made["score"] == "turns/greedy" and made["harm"] == "nll" and len(made["rows"]) == 2
    assert all(row["rate"] is None and row["step"] is None for row in made["rows"])
    page = (out / "comparison.html").read_text()
    assert page.count("no training helps") == 2
    assert "<svg" in page and not re.search(r"<script|https?://(?!www\.w3\.org|purl\.org|creativecommons)", page)
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.jsonl")}
    main([*command, "--json"])
    assert stamps == {path: path.stat().st_mtime_ns for path in out.rglob("*.jsonl")}
    assert json.loads(capsys.readouterr().out) == made


def test_the_grid_may_grow_but_nothing_else_may_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", str(write_logs(tmp_path / "logs.jsonl", 40)), "-o", str(tmp_path / "out"), *GRID]
    main(command)
    main([*command, "--seeds", "3", "--arms", "imitation", "pivots", "random"])
    assert len(json.loads((tmp_path / "out" / "comparison.json").read_text())["rows"]) == 3
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--group-size", "8"])
    assert stopped.value.code == 2
    assert "began with another group_size (4, now 8)" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (["--arms", "imitation", "pivot"], "no arm 'pivot'"),
        (["--checkpoints", "4", "2"], "must rise"),
        (["--score", "turns"], "score"),
        (["--heldout-fraction", "0.05"], "held-out tasks are too few"),
        (["--learning-rate", "0.1"], "--learning-rate 0.1 is for one training; --rates says it in a comparison"),
        (["--method", "sft"], "--arms says it"),
        (["--num-steps", "7"], "--checkpoints says it"),
        (["--train-seed", "7"], "--seeds says it"),
        (["--turn-temperature", "1"], "are measured at 0 and at 1"),
        (["--decay", "linear"], "share one training"),
        (["--guard-kl", "1"], "--guard-kl 1.0 has no effect in a comparison, which measures every training to its end"),
        (["--warmup-steps", "3"], "more than the first checkpoint, 2"),
        (["--verifier", "outcome(environment='plancraft')"], "plays on with the policy"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str], fault: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["compare", str(write_logs(tmp_path / "logs.jsonl", 40)), "-o", str(tmp_path / "out"), *GRID, *change])
    assert stopped.value.code == 2
    assert fault in " ".join(capsys.readouterr().err.split())


# --- the recommendation ----------------------------------------------------------------------------------------------


def table(gain: Callable[[str, int], float], harm: Callable[[str, int], float]) -> Table:
    """Two arms of two checkpoints; gains differ a little from task to task."""
    points = []
    for seed in range(4):
        for arm, step in ((BASE, 0), ("a", 1), ("a", 2), ("b", 1), ("b", 2)):
            scores, nll = {}, {}
            for task in range(60):
                spread = ((7 * task + 3 * seed) % 10 - 4.5) / 100
                scores[f"t{task}"] = 0.3 + (gain(arm, step) + spread if step else 0.0)
                nll[f"t{task}"] = 2.0 + (harm(arm, step) * (1 + spread) if step else 0.0)
            values = {"turns/greedy": scores, "nll": nll}
            points.append(Point(arm=arm, rate=1.0 if step else 0.0, seed=seed, step=step, values=values))
    return Table(points)


@pytest.mark.parametrize(
    ("gains", "harms", "choice", "words"),
    [
        ((0.3, 0.1), (0.1, 0.1), "first", "Use PivotRL: it scores higher"),
        ((0.1, 0.3), (0.1, 0.1), "second", "Imitate: it scores higher"),
        ((0.2, 0.2), (0.05, 0.5), "first", "Use PivotRL: the scores do not differ clearly, and it forgets less"),
        ((0.2, 0.2), (0.1, 0.1), "undecided", "No difference that this data can show"),
        ((0.2, 0.3), (0.01, 2.0), "trade-off", "imitation scores higher, and PivotRL forgets less"),
        ((0.001, 0.3), (0.01, 2.0), "second", "Imitate: it scores higher, and PivotRL shows no gain"),
        ((-0.1, -0.2), (0.1, 0.1), "neither", "Neither method improves"),
    ],
)
def test_the_recommendation_follows_from_score_and_forgetting(
    gains: tuple[float, float], harms: tuple[float, float], choice: str, words: str
) -> None:
    value = dict(zip("ab", zip(gains, harms, strict=True), strict=True))
    made = table(lambda arm, step: value[arm][0] * step / 2, lambda arm, step: value[arm][1] * step / 2)
    titles = {"a": "PivotRL", "b": "imitation"}
    found = advise(made, "a", "b", titles, "turns/greedy", "nll")
    assert found.choice == choice
    assert words in found.sentence


# --- interruptions ---------------------------------------------------------------------------------------------------


def points_of(directory: Path) -> list[Point]:
    return [p.model_copy(update={"costs": p.costs.model_copy(update={"seconds": 0.0})}) for p in read_points(directory)]


def started_and_stopped(command: list[str], out: Path, least: int, number: int) -> tuple[str, int]:
    """Run in another process; send the signal once that many points exist. (what it printed, its exit code)"""
    process = subprocess.Popen(
        [sys.executable, "-m", "pivotrl.cli", *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        while process.poll() is None:
            written = 0
            with contextlib.suppress(FileNotFoundError):  # a folder of weights was removed while we looked
                written = sum(path.read_bytes().count(b"\n") for path in (out / "trials").rglob("points.jsonl"))
            if written >= least:
                process.send_signal(number)
                break
            time.sleep(0.002)
        return process.communicate(timeout=60)[0], process.returncode
    finally:
        process.kill()


def test_a_killed_comparison_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    logs = str(write_logs(tmp_path / "logs.jsonl", 40))
    main(["compare", logs, "-o", str(tmp_path / "whole"), *GRID])
    whole = points_of(tmp_path / "whole")
    assert len(whole) == 2 + 2 * 2 * (2 + 3)  # bases; seeds, rates, checkpoints (PivotRL begins behind its profile)
    command = ["compare", logs, "-o", str(tmp_path / "parts"), *GRID]
    codes = []
    for least in (3, 8):
        codes.append(started_and_stopped(command, tmp_path / "parts", least, signal.SIGKILL)[1])
        assert len(points_of(tmp_path / "parts")) >= least
    assert -signal.SIGKILL in codes  # on a busy machine one may come too late
    main(command)
    assert points_of(tmp_path / "parts") == whole
    results = [json.loads((tmp_path / name / "comparison.json").read_text()) for name in ("whole", "parts")]
    for row in (row for result in results for row in result["rows"]):
        row["seconds"] = 0.0
    assert results[0] == results[1]


def test_an_interrupted_comparison_shows_what_is_done(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["compare", str(write_logs(tmp_path / "logs.jsonl", 40)), "-o", str(out), *GRID]
    shown, code = started_and_stopped(command, out, 2 + 10 + 2, signal.SIGINT)  # in the second seed
    assert code == 130
    assert "Not finished" in shown and "PivotRL" in shown
    made = json.loads((out / "comparison.json").read_text())
    assert not made["finished"] and {row["seeds"] for row in made["rows"]} == {1}
    assert "Not finished" in (out / "comparison.html").read_text()


def test_an_arm_that_was_not_begun_has_no_row(tmp_path: Path) -> None:
    points = [
        Point(arm=arm, rate=rate, seed=seed, step=step, values={m: {f"t{i}": score for i in range(20)}})
        for m in ("turns/greedy",)
        for arm, rate, seed, step, score in (
            (BASE, 0.0, 0, 0, 0.2),
            (BASE, 0.0, 1, 0, 0.2),
            ("imitation", 1.0, 0, 5, 0.4),
            ("imitation", 2.0, 0, 5, 0.1),
            ("imitation", 1.0, 1, 5, 0.4),
        )
    ]
    made = write_comparison(tmp_path, Table(points), ("imitation", "pivots"), finished=False)
    assert [(row.title, row.rate, row.seeds) for row in made.rows] == [("imitation", 1.0, 1)]
    assert made.advice is not None and made.advice.choice == "undecided"
    # A profile that was paid and measured at step 0 is no training, and does not say that none helps.
    profiled = [p.model_copy(update={"arm": "pivots", "rate": 1.0}) for p in points[:2]]
    made = write_comparison(tmp_path, Table([*points, *profiled]), ("imitation", "pivots"), finished=False)
    assert [row.title for row in made.rows] == ["imitation"]
    nothing = write_comparison(tmp_path, Table(points[:2]), ("imitation", "pivots"), finished=False)
    assert not nothing.rows and "Not finished" in (tmp_path / "comparison.html").read_text()


ROOT = Path(__file__).parents[1]


def documented() -> list[list[str]]:
    """The comparisons of docs/comparing.md that need nothing but the repository."""
    text = (ROOT / "docs" / "comparing.md").read_text()
    found = re.findall(r"^    pivotrl ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    return [shlex.split(one.replace("\\\n", " ")) for one in found if "recipes/evidence" in one]


@pytest.mark.parametrize("number", range(2))
def test_the_documented_comparisons_run(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With one seed, one update and few turns."""
    assert len(documented()) == 2
    command = documented()[number]
    command[command.index("-o") + 1] = str(tmp_path / "out")
    for option, value in (("--seeds", ["1"]), ("--checkpoints", ["1"])):
        place = command.index(option)
        end = next(i for i in range(place + 1, len(command) + 1) if i == len(command) or command[i].startswith("--"))
        command[place + 1 : end] = value
    monkeypatch.chdir(ROOT)
    main([*command, "--max-turns", "24", "--heldout-turns", "8", "--retention-texts", "4"])
    made = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert len(made["rows"]) == 2 and "episodes/greedy" in made["before"]
    assert ("Cost of the same score" in (tmp_path / "out" / "comparison.html").read_text()) == bool(made["matches"])
