"""Every file of a finished run, damaged in every way, is told by every command that reads it; nothing is believed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from finished_run import READS, finish_run, outcome, resume, snapshot
from pivotrl.cli import main
from pivotrl.protocols import Notice
from pivotrl.records import Manifest
from pivotrl.report.page import write_report
from pivotrl.runs.manifest import read_manifest, write_manifest
from pivotrl.stages.selecting import select_stage

DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "last line cut": lambda data: b"".join(data.splitlines(keepends=True)[:-1]),
    "bytes dropped": lambda data: data[:-9],
    "row doubled": lambda data: data + data.splitlines(keepends=True)[0],
    "bit flipped": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
    "emptied": lambda data: b"",
    "deleted": lambda data: None,
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "rows in another order": lambda data: b"".join(reversed(data.splitlines(keepends=True))),
}
OUTPUTS = {
    "trajectories.jsonl": {"profile", "train", "train b", "report", "export", "show turn", "check", "resume"},
    "heldout.jsonl": {"evaluate", "evaluate b", "report", "resume"},
    "profiles.jsonl": {"profile", "select", "report", "export", "show turn", "resume"},
    "skipped.jsonl": set(),
    "selection.jsonl": {"train", "report", "export", "show", "resume"},
    "selections/strict.jsonl": {"train b", "report"},
    "train/groups.jsonl": {"train", "evaluate", "report", "resume"},
    "train/metrics.jsonl": {"train", "evaluate", "report", "resume"},
    "train/checkpoints/step_000002/table.json": {"train", "evaluate", "resume"},
    "train/policy/probabilities.json": {"train", "evaluate", "resume"},
    "trainings/b/groups.jsonl": {"train b", "evaluate b", "report"},
    "trainings/b/checkpoints/step_000002/table.json": {"train b", "evaluate b"},
    "evaluations/before.turns.jsonl": {"report", "resume"},
    "evaluations/after.turns.jsonl": {"evaluate", "report", "resume"},
    "evaluations/after-b.turns.jsonl": {"evaluate b", "report"},
}
"""Each output, and the commands that must refuse it when it is damaged."""
MANIFESTS = {
    "read": {"profile", "train", "report", "check", "resume", "show turn"},
    "profile": {"profile", "select", "report", "export", "resume"},
    "select": {"train", "report", "export", "resume"},
    "train": {"train", "evaluate", "report", "resume"},
    "evaluations/after": {"evaluate", "report", "resume"},
    "selections/strict": {"train b", "report"},
    "trainings/b": {"train b", "evaluate b", "report"},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    finish_run(folder).rename(folder / "whole")
    shutil.copytree(folder / "whole", folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def right(whole: Path) -> dict[str, object]:
    """What each command gives on the run as it was finished."""
    answers = {}
    for command in READS:
        state, answers[command] = outcome(command, whole)
        assert state == "done", answers[command]
        restore(whole)
    return answers


def restore(run: Path) -> None:
    shutil.rmtree(run)
    shutil.rmtree(run.parent / "rows", ignore_errors=True)
    shutil.copytree(run.parent / "whole", run)


@pytest.fixture
def run(whole: Path, right: dict[str, object]) -> Path:
    restore(whole)
    return whole


def damage(path: Path, kind: str) -> bool:
    """Whether the file is another one now."""
    data = path.read_bytes()
    changed = DAMAGES[kind](data)
    if changed is None:
        path.unlink()
    else:
        path.write_bytes(changed)
    return changed != data


def each_with_some() -> list[object]:
    """Every file with every damage; all but three of each file's are slow, others for every file."""
    return [
        pytest.param(kind, name, marks=[] if (column + row) % 3 == 0 else [pytest.mark.slow], id=f"{kind}-{name}")
        for row, name in enumerate(OUTPUTS)
        for column, kind in enumerate(DAMAGES)
    ]


@pytest.mark.parametrize(("kind", "name"), each_with_some())
def test_a_damaged_output_is_told_and_never_believed(kind: str, name: str, run: Path, right: dict[str, object]) -> None:
    if not (run / name).is_file() or not damage(run / name, kind):
        pytest.skip("a file of one line is the same in another order")
    for command, answer in right.items():
        tells(command, answer, run, must=command in OUTPUTS[name], named=Path(name).name)


def tells(command: str, answer: object, run: Path, must: bool, named: str) -> None:
    """The command refuses with the name and a remedy and changes nothing, or it does not read what was damaged."""
    before = snapshot(run)
    state, told = outcome(command, run)
    if state == "refused":
        assert snapshot(run) == before, command  # check.json and the report included
        assert named in str(told) and re.search("[Rr]estore|remove the repeated", str(told)), (command, told)
    else:
        assert not must, f"{command} believed a damaged {named}"
        assert told == answer
    shutil.rmtree(run.parent / "rows", ignore_errors=True)


@pytest.mark.parametrize("stage", MANIFESTS)
@pytest.mark.parametrize("kind", ["figure changed", "cut", "emptied", "not text", "too deep"])
def test_a_damaged_manifest_is_told(kind: str, stage: str, run: Path, right: dict[str, object]) -> None:
    path = run / f"{stage}.manifest.json"
    data = path.read_bytes()
    figure = re.sub(rb'("wall_seconds": )\d', rb"\g<1>7", data)
    broken = {"figure changed": figure, "cut": data[:-40], "emptied": b"", "not text": b"\xff\x00" * 40}
    path.write_bytes({**broken, "too deep": b"[" * 200_000}[kind])
    for command, answer in right.items():
        tells(command, answer, run, must=command in MANIFESTS[stage], named=f"{stage}.manifest.json is damaged")


@pytest.mark.parametrize("stage", ["profile", "train", "evaluations/before", "evaluations/after"])
def test_files_without_their_manifest_are_not_adopted(stage: str, run: Path) -> None:
    (run / f"{stage}.manifest.json").unlink()
    before = snapshot(run)
    for command in ("resume", "report"):
        state, told = outcome(command, run)
        assert state == "refused" and "manifest.json" in told
        assert snapshot(run) == before


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("evaluations/after.turns.jsonl", "last line cut", r"found 2 rows, expected 3 rows"),
        ("evaluations/after.turns.jsonl", "bytes dropped", r"found 2 rows, expected 3 rows; line 3 is damaged"),
        (
            "evaluations/after.turns.jsonl",
            "row doubled",
            r"found 4 rows, expected 3 rows; 1 of them stands in it a",
        ),
        ("evaluations/after.turns.jsonl", "emptied", r"found 0 rows, expected 3 rows"),
        ("evaluations/after.turns.jsonl", "deleted", r"is missing: found 0 of the 3 rows"),
        ("evaluations/after.turns.jsonl", "CRLF", r"found 0 rows, expected 3 rows; line 1 is damaged"),
        ("evaluations/after.turns.jsonl", "rows in another order", r"the rows differ from those that were written"),
        ("train/policy/probabilities.json", "bit flipped", r"found other ones, expected [\d,]+ bytes"),
    ],
)
def test_rows_found_and_expected_are_said(name: str, kind: str, told: str, run: Path) -> None:
    damage(run / name, kind)
    assert re.search(told, str(outcome("resume", run)[1]))


@pytest.mark.parametrize("name", [name for name in OUTPUTS if name != "skipped.jsonl"])
def test_the_remedy_that_is_named_works(
    name: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(run / name, "bytes dropped")
    monkeypatch.chdir(run.parent)
    told = next(answer for state, answer in (outcome(c, run) for c in READS if c != "select") if state == "refused")
    command = re.search(r"`pivotrl (.*?)`", str(told))
    assert command is not None
    extra = ["--policy", "tabular", "--verifier", "exact", "--num-samples", "4", "--num-steps", "2"]
    extra += ["--turns-per-step", "4", "--group-size", "4", "--learning-rate", "1", "--checkpoint-every", "1"]
    kept = {"read": [], "profile": extra[:6], "select": [], "train": extra[:4] + extra[6:], "evaluate": extra[:4]}
    words = command[1].split()
    beside = ["--selection", "strict"] if name.startswith("trainings/") else []
    beside += ["--training", "b"] if "after-b" in name else []
    main([*words, *kept[words[0]], *beside])
    assert outcome("report", run)[0] == "done"


def test_a_run_of_an_older_version_is_read_with_a_note(run: Path) -> None:
    for path in [*run.glob("*.manifest.json"), *run.glob("*/*.manifest.json")]:
        manifest = read_manifest(path)
        old = Manifest.model_validate(manifest.model_dump(exclude={"outputs", "checksum", "policy", "resumed_at"}))
        inputs = {name: value for name, value in old.inputs.items() if name != "source"}
        if path.name == "read.manifest.json":
            inputs[str(run.parent / "logs.jsonl")] = manifest.inputs["source"]
        if path.name == "train.manifest.json":
            del inputs["trajectories.jsonl"]
        path.write_text(old.model_copy(update={"inputs": inputs}).model_dump_json())
    with pytest.warns(Notice, match="cannot be verified"):
        assert resume(run).complete
    with (run / "profiles.jsonl").open("ab") as file:
        file.write((run / "profiles.jsonl").read_bytes().splitlines(keepends=True)[0])
    state, told = outcome("select", run)
    assert state == "refused" and "holds 1 row twice" in told


def test_a_damaged_selection_is_written_again_as_it_was(run: Path) -> None:
    before = snapshot(run)
    damage(run / "selection.jsonl", "last line cut")
    with pytest.warns(Notice, match="was rewritten"):
        select_stage(run)
    assert snapshot(run) == before


def test_a_selection_that_was_lost_with_its_manifest_is_made_again(run: Path) -> None:
    kept = (run / "selection.jsonl").read_bytes()
    for name in ("selection.jsonl", "select.manifest.json"):
        (run / name).unlink()
    select_stage(run)
    assert (run / "selection.jsonl").read_bytes() == kept and resume(run).complete


def test_a_foreign_pivot_is_no_traceback(run: Path) -> None:
    """Files that fit their manifests and not each other, as when two runs are mixed by hand."""
    lines = (run / "profiles.jsonl").read_bytes().splitlines(keepends=True)
    (run / "profiles.jsonl").write_bytes(b"".join(lines[::3]))
    for path in run.glob("*.manifest.json"):
        write_manifest(path, read_manifest(path).model_copy(update={"outputs": None}))
    with pytest.warns(Notice), pytest.raises(ValueError, match=r"profiles.jsonl lacks .*pivotrl select"):
        write_report(run)
