"""`pivotrl select` from end to end: what it prints and stores, routing, budgets, and selections of older versions."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pivotrl.records import Selection
from pivotrl.runs.manifest import read_manifest, write_manifest
from pivotrl.storage.record_files import encode_line, read_records, write_file
from test_cli import call, refused
from test_pipeline import write_logs

SHORT = ["--num-steps", "2", "--turns-per-step", "4", "--group-size", "4", "--learning-rate", "1"]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A profiled run: 51 turns, 8 samples each."""
    directory = tmp_path / "run"
    assert call("read", write_logs(tmp_path / "logs.jsonl"), "-o", directory) == 0
    assert call("profile", directory, "--policy", "tabular", "--verifier", "exact", "--num-samples", "8") == 0
    capsys.readouterr()
    return directory


def rows(run: Path, name: str = "selection") -> list[Selection]:
    return read_records(run / f"{name}.jsonl", Selection)


def printed(capsys: pytest.CaptureFixture[str], run: Path, *options: object) -> dict[str, Any]:
    assert call("select", run, *options, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_it_prints_evidence_advice_and_a_second_draw_in_80_columns(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert call("select", run) == 0
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80
    for words in (
        "pivots",
        "always fail",
        "practise: mixed with probability 0.5 or more",
        "probability that a group of 16 is mixed",
        "One group at each pivot costs",
        "in 4 fresh ones [95 %]",
        "to accepted actions (PivotRL)",
    ):
        assert words in told
    assert call("report", run) == 0
    page = (run / "report.html").read_text()
    assert "imitate: most groups have no pass" in page and "in 4 fresh ones" in page
    counts = read_manifest(run / "select.manifest.json").counts
    found = rows(run)
    assert counts["routes"]["imitate"] == sum(row.route == "imitate" for row in found)
    pivots = [row for row in found if row.selected]
    assert counts["evidence"]["pivots"]["deviation"] == pytest.approx(
        sum(row.deviation or 0 for row in pivots) / len(pivots), abs=1e-5
    )
    assert counts["one_visit"]["rollout_turns"] == 16 * len(pivots)
    assert counts["second_draw"]["mixed"]["fresh"]["mean"] < counts["second_draw"]["mixed"]["selecting"] == 1.0


def test_json_holds_all_of_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, run, "--rule", "likely_mixed", "--min-mixed", "0.7", "--selection-group-size", "8")
    assert found["options"]["min_mixed"] == 0.7 and found["status"] == "complete"
    assert {"pivots", "reasons", "routes", "evidence", "one_visit", "second_draw"} <= set(found["counts"])
    assert found["distances"]["rl_nats"]["low"] < found["distances"]["rl_nats"]["high"]
    assert all((row.chance_mixed or 0) >= 0.7 for row in rows(run) if row.selected)


def test_turns_to_imitate_are_selected_by_name_and_trained_on(run: Path) -> None:
    """The two commands of docs/selection.md."""
    assert call("select", run) == 0
    assert call("select", run, "--rule", "imitate", "--name", "imitate") == 0
    chosen = {row.turn_id for row in rows(run, "selections/imitate") if row.selected}
    assert chosen and all(row.reward_mean == 0 for row in rows(run) if row.turn_id in chosen)
    assert call("train", run, "--method", "sft", "--selection", "imitate", "--name", "warm", *SHORT) == 0
    manifest = read_manifest(run / "trainings/warm.manifest.json")
    assert (manifest.options["selection"], manifest.options["method"]) == ("imitate", "sft")
    assert manifest.counts["pivots"] == len(chosen) and manifest.num_rollout_turns == 0


def test_seconds_buy_what_the_profile_needed_for_them(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    per_token = read_manifest(run / "profile.manifest.json").wall_seconds / (8 * 51)  # one token an action
    found = printed(capsys, run, "--rule", "all", "--budget-seconds", str(per_token * 16 * 7.5))
    assert found["counts"]["pivots"] == 7
    assert found["counts"]["one_visit"]["seconds"] == pytest.approx(per_token * 16 * 7, abs=2e-3)


@pytest.mark.parametrize(
    ("noted", "why"),
    [({"samples": ["a.jsonl"]}, "made elsewhere"), ({"samples_from": "replaced/x/profiles.jsonl"}, "judged again")],
)
def test_seconds_are_refused_where_the_profile_cannot_tell(
    run: Path, capsys: pytest.CaptureFixture[str], noted: dict[str, object], why: str
) -> None:
    path = run / "profile.manifest.json"
    manifest = read_manifest(path)
    write_manifest(path, manifest.model_copy(update={"options": {**manifest.options, **noted}}))
    told = refused(capsys, 2, "select", run, "--budget-seconds", "60")
    assert "--budget-seconds 60 needs the seconds" in told and why in told and "--budget-tokens" in told
    assert not (run / "select.manifest.json").exists()


def test_messages_can_be_capped(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, run, "--rule", "all", "--max-messages", "5")["counts"]["pivots"] == 5
    told = refused(capsys, 3, "select", run, "--rule", "all", "--max-messages", "0")
    assert "51 are beyond a limit per trajectory, tool or message. Raise --max-per-trajectory" in told


def test_a_selection_of_nothing_still_says_what_the_profile_advises(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("select", run, "--max-mean", "0") == 3
    told = capsys.readouterr()
    assert "imitate: most groups have no pass" in told.out and "A second draw is unknown: 4 samples" in told.out
    assert "0 of 51 turns are pivots" in told.err


def as_an_older_version_wrote_it(run: Path, stage: str = "select", file: str = "selection.jsonl") -> bytes:
    """Rows without evidence, a manifest with the four options and the two counts of then."""
    data = b"".join(encode_line(row.without_evidence()) for row in read_records(run / file, Selection))
    write_file(run / file, data)
    path = run / f"{stage}.manifest.json"
    manifest = read_manifest(path)
    output = manifest.outputs and manifest.outputs[file]
    assert output is not None and set(manifest.options) == {"rule", "max_mean", "max_pivots", "selection_seed"}
    counts = {name: manifest.counts[name] for name in ("pivots", "reasons")}
    written = output.model_copy(update={"sha256": hashlib.sha256(data).hexdigest(), "num_bytes": len(data)})
    write_manifest(path, manifest.model_copy(update={"outputs": {file: written}, "counts": counts}))
    return data


@pytest.fixture
def older(run: Path) -> tuple[Path, bytes]:
    """A run whose selection is of an older version, with a training made from it."""
    assert call("select", run) == 0
    data = as_an_older_version_wrote_it(run)
    assert call("train", run, *SHORT) == 0
    return run, data


def test_a_selection_of_an_older_version_stands(older: tuple[Path, bytes], capsys: pytest.CaptureFixture[str]) -> None:
    run, data = older
    capsys.readouterr()
    assert call("select", run) == 0
    told = capsys.readouterr()
    assert (run / "selection.jsonl").read_bytes() == data and "damaged" not in told.err
    assert "always fail" in told.out and "fresh" not in told.out  # what it did not note is not made up
    assert call("train", run, *SHORT) == 0 and call("report", run) == 0
    for options in (["--order", "signal", "--max-pivots", "3"], ["--min-mixed", "0.4"]):
        assert "was made with other settings" in refused(capsys, 2, "select", run, *options)


def test_a_damaged_selection_of_an_older_version_is_written_as_it_was(
    older: tuple[Path, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = older
    (run / "selection.jsonl").write_bytes(data[:300])
    capsys.readouterr()
    assert call("select", run) == 0
    assert (run / "selection.jsonl").read_bytes() == data and "rewritten as it was" in capsys.readouterr().err
    assert call("train", run, *SHORT) == 0


def test_a_damaged_selection_that_would_be_written_differently_is_refused(
    older: tuple[Path, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = older
    path = run / "select.manifest.json"
    manifest = read_manifest(path)
    assert manifest.outputs is not None
    output = manifest.outputs["selection.jsonl"]
    assert output is not None
    other = {"selection.jsonl": output.model_copy(update={"sha256": "0" * 64})}
    write_manifest(path, manifest.model_copy(update={"outputs": other}))
    assert "would write it differently. Restore the file" in refused(capsys, 2, "select", run)
    assert (run / "selection.jsonl").read_bytes() == data


def test_a_selection_of_an_older_version_that_nothing_was_trained_from_gets_its_evidence(run: Path) -> None:
    assert call("select", run) == 0
    as_an_older_version_wrote_it(run)
    assert call("select", run) == 0
    assert all(row.pass_rate is not None for row in rows(run))
    assert "second_draw" in read_manifest(run / "select.manifest.json").counts
