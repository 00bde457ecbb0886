"""`pivotrl view` of a comparison: every policy at the held-out turns, its numbers, and what is left out."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from comparing import make_setting, turns
from pivotrl.comparison.browsing import write_comparison_view
from pivotrl.comparison.checkpoints import find_trials, write_held_out
from pivotrl.comparison.grids import crossed, read_points, run_grid
from pivotrl.comparison.page import conclude
from pivotrl.comparison.table import Table
from pivotrl.protocols import InputError
from pivotrl.records import TurnResult
from pivotrl.storage.record_files import RecordFile, read_records
from test_cli import call, refused
from test_compare_logs import GRID
from test_pipeline import write_logs
from view_pages import Page

RATES = {"imitation": (20.0,), "pivots": (20.0,)}


def compared(folder: Path, seeds: int = 2) -> Path:
    """A comparison as an evidence grid makes it, in which training changes the turns that are measured."""
    run_grid(make_setting, folder, crossed(RATES, range(seeds), (2, 12)))
    write_held_out(folder, turns())
    return folder


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compared(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def page(grid: Path) -> Page:
    return Page(write_comparison_view(grid))


def results(grid: Path, arm: str, step: int, seed: int) -> dict[str, TurnResult]:
    folder = grid / arm / ("0" if arm == "base" else "20") / f"seed{seed}" / f"step_{step}"
    return {result.key: result for result in read_records(folder / "turns.jsonl", TurnResult)}


@pytest.mark.parametrize(("arm", "step"), [("base", 0), ("imitation", 2), ("pivots", 12)])
def test_every_policy_is_there_with_each_seed_and_all_together(grid: Path, page: Page, arm: str, step: int) -> None:
    rate = "0" if arm == "base" else "20"
    for temperature, number in ((0, 1), (1, 2)):
        files = [results(grid, arm, step, seed) for seed in (0, 1)]
        for seed, file in enumerate(files):
            rows = page.results(f"{arm}/{rate}/{step}/seed{seed}@{temperature}")
            assert len(rows) == 36
            assert {turn: row["mean"] for turn, row in rows.items()} == {
                turn: pytest.approx(file[f"{turn}@{temperature}"].reward) for turn in rows
            }
        for turn, row in page.results(f"{arm}/{rate}/{step}@{temperature}").items():
            kept = [file[f"{turn}@{temperature}"] for file in files]
            passed = sum(verdict.outcome == "pass" for result in kept for verdict in result.verdicts_G)
            assert (row["passed"], row["passed"] + row["failed"]) == (passed, 2 * number)
            samples = [sample for action in row["samples"]["actions"] for sample in action["samples"]]
            assert sorted(sample["number"] for sample in samples) == list(range(2 * number))
            assert {sample["seed"] for sample in samples} == {0, 1}


def test_the_numbers_are_those_of_the_comparison(grid: Path, page: Page) -> None:
    shown, made = page.head["comparison"], conclude(Table(read_points(grid)), ("imitation", "pivots"))
    assert (shown["score"], shown["harm"]) == (made.score, made.harm) == ("turns/greedy", "nll")
    base, *others = shown["policies"]
    assert {name: value[0] for name, value in base["values"].items()} == pytest.approx(made.before, abs=1e-5)
    best = [row for row in others if row["best"]]
    chosen = [row for row in made.rows if row.step is not None]
    assert chosen and [(row["rate"], row["step"]) for row in best] == [(row.rate, row.step) for row in chosen]
    for row, known in zip(best, chosen, strict=True):
        for measure, (_, *change) in row["values"].items():
            gain = known.gains[measure]
            told = [x if math.isfinite(x) else None for x in (gain.mean, gain.low, gain.high)]
            assert change == pytest.approx(told, abs=1e-5)
    policies = {source["policy"] for source in page.head["sources"]}
    assert policies == {row["policy"] for row in shown["policies"]}


def test_it_offers_before_training_with_each_method_and_the_methods_with_each_other(page: Page) -> None:
    sources = page.head["sources"]
    pairs = [
        (sources[old]["policy"].split(" ·")[0], sources[new]["policy"].split(" ·")[0])
        for old, new, _ in page.head["pairs"]
    ]
    assert pairs == [("before training", "imitation"), ("before training", "PivotRL"), ("imitation", "PivotRL")]
    assert {sources[n]["draw"] for pair in page.head["pairs"] for n in pair[:2]} == {"greedy, all seeds"}
    changes = [
        after["mean"] - before["mean"]
        for old, new, _ in page.head["pairs"]
        for before, after in zip(
            page.results(page.sources[old]).values(), page.results(page.sources[new]).values(), strict=True
        )
    ]
    assert min(changes) < 0 < max(changes)


def test_what_a_comparison_lacks_is_said(page: Page) -> None:
    told = " ".join(page.head["notices"])
    assert "not finished" in told  # an evidence grid comes to no conclusion of its own
    assert "no tokenizer and no weights" in told and "held-out turns only" in told
    assert {page.status(number) for number in range(len(page.turn_ids()))} == {"held_out"}


def test_the_page_has_a_limit_and_says_what_is_left_out(grid: Path, tmp_path: Path) -> None:
    out = tmp_path / "view.html"
    each = 2 * 36 * 3
    page = Page(write_comparison_view(grid, out, max_samples=3 * each))
    kept = {source["policy"] for source in page.head["sources"]}
    best = {row["policy"] for row in page.head["comparison"]["policies"] if row["best"]}
    assert len(kept) == 3 and kept >= {"before training"} | best
    told = " ".join(page.head["notices"])
    assert "2 of 5 policies are left out" in told and "Seeds are shown together only" in told
    assert all("all seeds" in source["draw"] for source in page.head["sources"])
    assert len(page.head["comparison"]["policies"]) == 5  # the numbers of all stay
    name = told.partition("--evaluation ")[2].split()[0].rstrip(".")
    page = Page(write_comparison_view(grid, out, [name], max_samples=3 * each))
    arm, _, step = name.split("/")
    assert f"{arm}/20/{step}@0" in page.sources


def test_policies_are_chosen_by_name(grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "view.html"
    assert call("view", grid, "-o", out, "--evaluation", "pivots") == 0
    arms = {name.split("/")[0] for name in Page(out).sources}
    assert arms == {"base", "pivots"}
    assert "no policy called 'pivot'; did you mean 'pivots'?" in refused(
        capsys, 2, "view", grid, "--evaluation", "pivot"
    )
    assert "this is a comparison" in refused(capsys, 2, "view", grid, "--against", tmp_path)


def test_an_unfinished_comparison_shows_what_is_there(grid: Path, tmp_path: Path) -> None:
    part = tmp_path / "part"
    shutil.copytree(grid, part)
    shutil.rmtree(part / "pivots")
    shutil.rmtree(part / "imitation" / "20" / "seed1")
    page = Page(write_comparison_view(part))
    assert {name.split("/")[0] for name in page.sources} == {"base", "imitation"}
    draws = {source["draw"] for source in page.head["sources"] if source["policy"].startswith("imi")}
    assert draws == {"greedy, all seeds", "greedy, seed 0", "T = 1, all seeds", "T = 1, seed 0"}
    shutil.rmtree(part / "imitation")
    only = Page(write_comparison_view(part))
    assert only.head["pairs"] == [] and len(only.head["comparison"]["policies"]) == 1


@pytest.mark.parametrize("name", ["comparison.json", "comparison.settings.json"])
def test_a_damaged_file_of_a_comparison_is_named(grid: Path, tmp_path: Path, name: str) -> None:
    part = tmp_path / "part"
    shutil.copytree(grid, part)
    for content in ('{"cut of', "[]", b"\xff"):
        (part / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(InputError, match=f"/{name} is damaged"):
            write_comparison_view(part)


def test_results_of_older_versions_give_their_rates(grid: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(grid, old)
    for path in old.rglob("turns.jsonl"):
        rows = read_records(path, TurnResult)
        path.unlink()
        RecordFile(path, TurnResult).append(
            [r.model_copy(update={"completions_G": (), "verdicts_G": ()}) for r in rows]
        )
    page, whole = Page(write_comparison_view(old)), Page(write_comparison_view(grid, tmp_path / "whole.html"))
    for name in page.sources:
        means = {turn: row["mean"] for turn, row in page.results(name).items()}
        assert means == {turn: pytest.approx(row["mean"]) for turn, row in whole.results(name).items()}
    assert any("kept the first sample" in notice for notice in page.head["notices"])


def test_several_comparisons_and_one_without_its_turns_are_refused(grid: Path, tmp_path: Path) -> None:
    shutil.copytree(grid, tmp_path / "cells" / "one")
    shutil.copytree(grid, tmp_path / "cells" / "two")
    with pytest.raises(InputError, match="holds 2 comparisons; view one of them"):
        find_trials(tmp_path / "cells")
    (tmp_path / "cells" / "one" / "heldout.jsonl").unlink()
    with pytest.raises(InputError, match=r"no heldout\.jsonl"):
        write_comparison_view(tmp_path / "cells" / "one")


def test_a_comparison_of_logs_opens_and_a_run_with_one_inside_stays_a_run(tmp_path: Path) -> None:
    logs, out = write_logs(tmp_path / "logs.jsonl", 40), tmp_path / "comparison"
    assert call("compare", logs, "-o", out, *GRID) == 0
    assert call("view", out) == 0
    page = Page(out / "view.html")
    made = json.loads((out / "comparison.json").read_text())
    assert page.head["comparison"]["advice"] == made["advice"]["sentence"]
    assert not any("not finished" in notice for notice in page.head["notices"])
    assert ["verifier", "pivotrl.verifiers.exact:verify"] in page.head["facts"]
    assert len(page.sources) == (1 + 2 * 2 * 2) * 2 * 3
    assert call("profile", out, "--policy", "tabular", "--verifier", "exact", "--num-samples", 2) == 0
    assert call("view", out) == 0
    page = Page(out / "view.html")
    assert page.sources == ["profile"] and "comparison" not in page.head
    assert any("Methods were compared in this directory too" in notice for notice in page.head["notices"])
    assert call("view", out / "trials") == 0
    assert Page(out / "trials" / "view.html").head["run"] == "comparison"
