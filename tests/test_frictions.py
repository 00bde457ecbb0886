"""Small things that a new user stumbles over (walk of 2026-11-29): they stay mended."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from finished_run import finish_run
from pivotrl import cli, plugins
from pivotrl.judging.lint import CheckOptions
from pivotrl.judging.probes.report import CheckReport, Rate
from pivotrl.protocols import Notice
from pivotrl.rows.exporting import ExportOptions, export
from test_reporting import make_run


def told(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    cli.main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def complaint(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "--version").startswith("pivotrl 0.")


def test_the_list_has_one_line_for_each_plugin_at_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pivotrl.cli.plugin_list.out.width", 80, raising=False)
    lines = told(capsys, "list").splitlines()
    assert max(map(len, lines)) <= 80
    for kind in plugins.EXPORTS:
        start = next(number for number, line in enumerate(lines) if line.startswith(f"{kind} ("))
        names = plugins.names(kind)
        assert [line.split()[0] for line in lines[start + 1 : start + 1 + len(names)]] == names


def test_one_plugin_is_listed_with_its_options_and_their_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "list", "verifiers", "tool_call")
    assert "ignore_case = False" in text and "ignore letter case" in text
    row = json.loads(told(capsys, "list", "verifiers", "tool_call", "--json"))
    assert row["options"]["ignore_case"] == "False"
    assert "did you mean 'tool_call'" in complaint(capsys, "list", "verifiers", "tool_cal")
    assert "did you mean 'verifiers'" in complaint(capsys, "list", "verifier")


def test_listing_imports_no_plugin_of_this_package() -> None:
    """Importing all of them takes seconds, and torch with them."""
    code = (
        "import sys; from pivotrl import cli; cli.main(['list']); "
        "print([m for m in sys.modules if m == 'torch' or m.startswith('pivotrl.policies.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_held_out_turn_is_shown_with_what_was_measured_there(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    turn = json.loads(told(capsys, "show", run, "held-0#1", "--json"))
    assert sorted(turn["evaluations"]) == ["after", "before"]
    text = told(capsys, "show", run, "held-0#1")
    for name, results in turn["evaluations"].items():
        assert name in text and results[0]["reason"] in text


def test_candidates_are_listed_with_whole_ids_and_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "read only", stages=("read",))
    rows = json.loads(told(capsys, "show", run, "--json"))
    assert len(rows) == 160 and rows[0]["turn_id"] == "train-0#1"
    text = told(capsys, "show", run)
    assert "train-0#1 " in text and "and 140 candidates more" in text


def test_turns_are_listed_with_whole_ids(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pivotrl.cli.waver_table.out", Console(width=80))
    text = told(capsys, "show", run, "--all", "--sort", "variance")
    ids = {row["turn_id"] for row in json.loads(told(capsys, "show", run, "--all", "--json"))}
    assert ids and all(re.search(rf"^{re.escape(name)}\b", text, re.MULTILINE) for name in ids)


def test_rows_without_a_value_are_left_out(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pivotrl.cli import check_table, tables
    from pivotrl.runs.manifest import manifest_path, read_manifest, write_manifest

    path = manifest_path(run, "read")
    manifest = read_manifest(path)
    counts = {"read": 3, "refused": 0, "secrets": {}, "skipped": None}
    write_manifest(path, manifest.model_copy(update={"counts": counts}))
    tables.print_stage(run, "read", False)
    text = capsys.readouterr().out
    assert "refused" in text and "secrets" not in text and "skipped" not in text
    rate = Rate(count=1, num_probes=2, num_tasks=1, mean=0.5, low=0.1, high=0.9)
    empty = {name: field.get_default(call_default_factory=True) for name, field in CheckReport.model_fields.items()}
    known = {"verifier": "v", "num_turns": 1, "num_tasks": 1, "num_verdicts": 2, "verdicts_per_second": 1.0}
    rates = {"accepts_expected": rate, "false_pass": rate, "false_fail": None, "no_verdict": None}
    doubts = {"uncertain_pass": None, "uncertain_fail": None}
    maps = {key: {} for key in ("by_turn", "by_language", "by_tool", "by_argument", "by_kind", "reasons_of_refused")}
    report = CheckReport.model_construct(
        **{**empty, **known, **rates, **doubts, **maps, "reward_values": (), "worst": ()}
    )
    check_table.print_check(report, CheckOptions(), False)
    text = capsys.readouterr().out
    assert "wrong actions that pass" in text and "right actions that fail" not in text and "perhaps" not in text


def test_an_export_without_a_validation_file_says_so(tmp_path: Path) -> None:
    run = finish_run(tmp_path)

    def write(pivots: Any, folder: Path) -> list[Any]:
        (folder / "README.md").write_text("rows")
        return []

    with pytest.warns(Notice, match="no validation file is written"):
        export(run, write, tmp_path / "rows", ExportOptions(validation_fraction=0.01))
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        export(run, write, tmp_path / "all", ExportOptions(validation_fraction=0.0))


@pytest.mark.parametrize("asked", ["list --json", "list"])
def test_a_closed_pipe_is_no_error(asked: str) -> None:
    """``pivotrl list | head -1``: the reader has seen enough."""
    command = f"{sys.executable} -m pivotrl.cli {asked} | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr
