"""Who may change a run, and that nothing in it is lost when somebody does."""

from __future__ import annotations

import contextlib
import hashlib
import html
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from finished_run import STRICT, TRAINING, finish_run, resume, snapshot
from pivotrl import ProfileOptions, ReadOptions, SelectionOptions, TrainingOptions, summarise, write_report
from pivotrl.cli import main, tables
from pivotrl.policies.tabular import Policy
from pivotrl.protocols import InputError, Notice
from pivotrl.readers.chat import read
from pivotrl.runs.directory import working_in
from pivotrl.runs.manifest import read_manifest, write_manifest
from pivotrl.runs.replacing import move_aside
from pivotrl.stages.evaluating import evaluate_stage
from pivotrl.stages.profiling import profile_stage
from pivotrl.stages.reading import read_stage
from pivotrl.stages.selecting import select_stage
from pivotrl.stages.training import train_stage
from pivotrl.verifiers.exact import verify
from test_cli import FAST, call, refused
from test_pipeline import write_logs

TABULAR = FAST[:4]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copy(whole.parent / "logs.jsonl", tmp_path)
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


# --- the lock -----------------------------------------------------------------------------------------------------

HOLDER = """
import sys, pathlib
from pivotrl.runs.lock import RunLock
with RunLock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
WRITES = [
    ["run", "LOGS", "-o", "RUN", *FAST, "--overwrite"],
    ["run", "LOGS", "-o", "RUN", *FAST, "--resume"],
    ["read", "LOGS", "-o", "RUN", "--overwrite"],
    ["profile", "RUN", *TABULAR, "--overwrite"],
    ["select", "RUN", "--overwrite"],
    ["select", "RUN", "--name", "new"],
    ["train", "RUN", *TABULAR, "--overwrite"],
    ["evaluate", "RUN", *TABULAR, "--overwrite"],
    ["check", "RUN", "--verifier", "exact"],
]


@pytest.fixture
def holder(run: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.communicate()


def test_a_second_process_touches_nothing(
    run: Path, holder: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(run)
    places = {"LOGS": run.parent / "logs.jsonl", "RUN": run}
    for command in WRITES:
        told = refused(capsys, 2, *[places.get(word, word) for word in command])
        assert "another process is working in" in told, command
        assert snapshot(run) == before, command


@pytest.mark.parametrize("command", [WRITES[0], WRITES[2], WRITES[4]], ids=lambda command: command[0])
def test_the_twin_that_holds_no_lock_is_seen_to_change_it(command: list[str], run: Path) -> None:
    """The same commands do change the run when nobody holds it, so the test above can fail."""
    before = snapshot(run)
    places = {"LOGS": run.parent / "logs.jsonl", "RUN": run}
    assert call(*[places.get(word, word) for word in command]) == 0
    assert snapshot(run) != before


# --- --overwrite --------------------------------------------------------------------------------------------------


def contents(directory: Path) -> set[str]:
    """What every file holds, wherever it lies."""
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.rglob("*") if path.is_file()}


def paths(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()} - {".lock"}


@pytest.mark.parametrize(
    ("stage", "goes", "stays"),
    [
        ("read", {"trajectories.jsonl", "profiles.jsonl", "train/policy", "trainings/b", "report.html"}, set()),
        ("profile", {"profiles.jsonl", "selection.jsonl", "trainings/b", "selections/strict.jsonl"}, {"heldout.jsonl"}),
        ("select", {"selection.jsonl", "train/policy", "evaluations/after.turns.jsonl"}, {"trainings/b/policy"}),
        ("selections/strict", {"trainings/b", "evaluations/after-b.turns.jsonl"}, {"train", "selection.jsonl"}),
        ("train", {"train/policy", "evaluations/after.turns.jsonl"}, {"evaluations/before.turns.jsonl", "trainings/b"}),
        ("evaluations/after", {"evaluations/after.turns.jsonl"}, {"train", "evaluations/after-b.turns.jsonl"}),
    ],
)
def test_what_was_made_from_a_stage_goes_with_it_and_is_named(
    stage: str, goes: set[str], stays: set[str], run: Path
) -> None:
    before = contents(run)
    with pytest.warns(Notice, match=r"moved to .*replaced/.*rollout turn") as told:
        move_aside(run, stage)
    [folder] = (run / "replaced").iterdir()
    assert str(folder) in str(told[0].message)
    assert all((folder / name).exists() and not (run / name).exists() for name in goes)
    assert all((run / name).exists() for name in stays)
    assert before <= contents(run)
    for path in sorted(folder.rglob("*")):  # moving them back undoes it
        if path.is_file():
            target = run / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    assert resume(run).complete


def test_a_move_that_is_killed_anywhere_loses_nothing_and_is_ended_later(
    run: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    everything, names = contents(run), paths(run)
    rename, moment = Path.rename, 0

    class Killed(BaseException):
        pass

    while True:
        left = moment

        def killed(source: Path, target: Path) -> Path:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return rename(source, target)

        monkeypatch.setattr(Path, "rename", killed)
        try:
            move_aside(run, "profile")
        except Killed:
            pass
        else:
            break
        finally:
            monkeypatch.setattr(Path, "rename", rename)
        assert everything <= contents(run)
        with contextlib.suppress(InputError):  # a reader may find less than there was, and never a wrong thing
            summarise(run)
        with working_in(run):
            pass
        [folder] = (run / "replaced").iterdir()
        assert everything <= contents(run)
        assert not paths(run) & {"profiles.jsonl", "profile.manifest.json", "selection.jsonl", "train.manifest.json"}
        assert paths(folder) | paths(run) >= names
        for name in paths(folder):
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).rename(run / name)
        shutil.rmtree(run / "replaced")
        moment += 1
    assert moment > 8


def test_two_moves_in_one_second_have_folders_of_their_own(run: Path, recwarn: pytest.WarningsRecorder) -> None:
    for stage in ("evaluations/after", "evaluations/after-b", "evaluations/before"):
        move_aside(run, stage)
    assert len(list((run / "replaced").iterdir())) == 3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["profile", "RUN", "--policy", "tabular", "--verifier", "nothing_passes:verify", "--overwrite"], "accepts no"),
        (["profile", "RUN", "--policy", "tabular(sead=1)", "--verifier", "exact", "--overwrite"], "no option 'sead'"),
        (["profile", "RUN", "--policy", "tabular(spread=-1)", "--verifier", "exact", "--overwrite"], "spread must"),
        (["train", "RUN", "--policy", "tabular(spread=-1)", "--verifier", "exact", "--overwrite"], "spread must"),
        (
            ["train", "RUN", "--policy", "tabular", "--verifier", "exact", "--selection", "x", "--overwrite"],
            "no select",
        ),
        (["evaluate", "RUN", "--policy", "tabular", "--verifier", "exact", "--training", "x"], "no trainings/x"),
        (["read", "nowhere.jsonl", "-o", "RUN", "--overwrite"], "nowhere.jsonl"),
        (["run", "nowhere.jsonl", "-o", "RUN", *FAST, "--overwrite"], "nowhere.jsonl"),
    ],
)
def test_nothing_is_moved_for_what_cannot_begin(
    arguments: list[str],
    told: str,
    run: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (run.parent / "nothing_passes.py").write_text(
        "from pivotrl import Verdict\ndef verify(turn, action):\n    return Verdict.failed('no')\n"
    )
    monkeypatch.syspath_prepend(str(run.parent))
    before = paths(run)
    assert told in refused(capsys, 2, *[run if word == "RUN" else word for word in arguments])
    assert paths(run) == before


# --- names --------------------------------------------------------------------------------------------------------


def test_another_selection_is_refused_while_something_was_trained_from_it(run: Path) -> None:
    before = snapshot(run)
    with pytest.raises(InputError, match=r"Made from it: evaluations/after, train\.") as told:
        select_stage(run, selection=STRICT)
    assert "--overwrite" in str(told.value) and "--name" in str(told.value)
    assert snapshot(run) == before
    select_stage(run, selection=STRICT, name="other")
    select_stage(
        run, selection=SelectionOptions(max_mean=0.5), name="other"
    )  # nothing was trained from it: free to change
    with pytest.warns(Notice, match=r"train \(2 steps, 3?\d rollout turns"):
        select_stage(run, selection=STRICT, overwrite=True)
    assert (run / "trainings/b/policy").is_dir() and not (run / "train").exists()


def test_named_trainings_stand_side_by_side_and_are_reported(run: Path) -> None:
    summary = summarise(run)
    assert [training.stage for training in summary.trainings] == ["train", "trainings/b"]
    assert summary.trainings[1].selection == "strict"
    by_stage = {evaluation.stage: evaluation for evaluation in summary.evaluations}
    assert by_stage["evaluations/after-b"].training == "trainings/b"
    assert by_stage["evaluations/after"].training == "train" and by_stage["evaluations/before"].training is None
    assert summary.total_rollout_turns == sum(
        cost.rollout_turns for cost in summary.costs if cost.stage in ("profile", "train", "trainings/b")
    )
    page = write_report(run).read_text()
    assert "training &#39;b&#39;" in page and "evaluation &#39;after-b&#39;" in page and "<td>strict</td>" in page


@pytest.mark.parametrize("name", ["", "..", "a/b", "a.b", "-a", "default", "a b", "\u202e", "x" * 65, "a\n"])
def test_names_that_are_none(name: str, run: Path) -> None:
    before = snapshot(run)
    with pytest.raises(InputError, match="cannot be a name"):
        select_stage(run, selection=STRICT, name=name)
    with pytest.raises(InputError, match="cannot be a name"):
        train_stage(run, policy=Policy(), verifier=verify, training=TRAINING, name=name)
    if name != "default":
        with pytest.raises(InputError, match="cannot be a name"):
            evaluate_stage(run, name=name, policy=Policy(), verifier=verify)
    assert snapshot(run) == before


# --- inputs -------------------------------------------------------------------------------------------------------


def test_a_log_is_known_by_its_content(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = run.parent / "logs.jsonl"
    monkeypatch.chdir(run.parent)
    before = snapshot(run)
    for place in ("logs.jsonl", "./logs.jsonl", str(logs.rename(run.parent / "moved.jsonl"))):
        if not Path(place).exists():
            continue
        read_stage(place, run, reader=read)
    read_stage("moved.jsonl", run, reader=read)
    assert snapshot(run) == before
    write_logs(run.parent / "moved.jsonl", 9)
    with pytest.raises(InputError, match=r"source \(moved\.jsonl\): was"):
        read_stage("moved.jsonl", run, reader=read)


def test_an_import_that_was_cut_off_goes_on_after_its_log_was_moved(tmp_path: Path) -> None:
    logs = write_logs(tmp_path / "logs.jsonl", 12)
    with logs.open("a") as file:
        file.write("not json\n")

    def cut_off(path: Path):
        for number, item in enumerate(read(path)):
            if number == 300:
                raise KeyboardInterrupt
            yield item

    cut_off.__module__, cut_off.__qualname__ = read.__module__, read.__qualname__
    many = "".join(line.replace("log", f"log{n}-") + "\n" for n in range(40) for line in logs.read_text().splitlines())
    logs.write_text(many)
    with pytest.raises(KeyboardInterrupt):
        read_stage(
            str(logs), tmp_path / "cut", reader=cut_off, reading=ReadOptions(duplicates="keep", infer_tools=False)
        )
    assert (tmp_path / "cut" / "trajectories.jsonl").stat().st_size
    moved = logs.rename(tmp_path / "elsewhere.jsonl")
    read_stage(str(moved), tmp_path / "cut", reader=read, reading=ReadOptions(duplicates="keep", infer_tools=False))
    read_stage(str(moved), tmp_path / "whole", reader=read, reading=ReadOptions(duplicates="keep", infer_tools=False))
    for name in ("trajectories.jsonl", "heldout.jsonl", "refused.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


# --- what is told -------------------------------------------------------------------------------------------------


def test_a_stated_price_tells_the_cost_in_money(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = summarise(run)
    expected = f"{summary.training_seconds * 1000:,.2f}"
    main(["report", str(run), "--price-per-hour", "3600000"])
    assert "money, at 3.6e+06 an hour" in (shown := capsys.readouterr().out) and expected in shown
    assert f"profiling and training cost {expected}" in (run / "report.html").read_text()
    main(["report", str(run)])
    assert "money" not in capsys.readouterr().out and "an hour" not in (run / "report.html").read_text()
    for wrong in ("0", "-2", "nan"):
        with pytest.raises(SystemExit):
            main(["report", str(run), "--price-per-hour", wrong])
        assert "--price-per-hour must be" in capsys.readouterr().err


def test_an_unfinished_stage_costs_what_it_bought_so_far(run: Path, recwarn: pytest.WarningsRecorder) -> None:
    class Interrupted(Policy):
        num_updates = 0

        def update(self, *arguments, **options):
            self.num_updates += 1
            if self.num_updates == 2:
                raise KeyboardInterrupt
            return super().update(*arguments, **options)

    move_aside(run, "train")
    with pytest.raises(KeyboardInterrupt):
        resume(run, policy=Interrupted(), training=TrainingOptions(**{**vars(TRAINING), "num_steps": 9}))
    manifest = read_manifest(run / "train.manifest.json")
    assert manifest.status == "running" and manifest.num_rollout_turns == 0
    # As a kill leaves it: the time since it began is noted nowhere.
    began = "2020-01-01T00:00:00Z"
    write_manifest(run / "train.manifest.json", manifest.model_copy(update={"resumed_at": began, "wall_seconds": 5.0}))
    cost = next(cost for cost in summarise(run).costs if cost.stage == "train")
    bought = [json.loads(line) for line in (run / "train/groups.jsonl").read_text().splitlines()]
    assert cost.rollout_turns == sum(len(group["completions_G"]) for group in bought) >= 8
    assert not cost.finished and cost.seconds > 1e8
    assert "training (unfinished, so far)" in write_report(run).read_text()


def test_the_report_names_the_model_and_a_command_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_logs(tmp_path / "my logs.jsonl", 8)
    monkeypatch.chdir(tmp_path)
    policy = ["--policy", "tabular(seed=3, spread=1.5)"]
    arguments = [*FAST[2:], *policy, "--checkpoint-every", "1", "--max-false-pass", "0.5", "--timeout-seconds", "7"]
    assert call("run", "my logs.jsonl", "-o", "runs/mine", *arguments) == 0
    page = Path("runs/mine/report.html").read_text()
    assert ">model</th><td>tabular(seed=3, spread=1.5)</td>" in page
    match = re.search(r"<pre class=\"command\">(.*?)</pre>", page, re.DOTALL)
    assert match is not None
    command = shlex.split(html.unescape(match[1]).replace("\\\n", " "))
    assert command[0] == "pivotrl"
    given = dict(zip(command[3:-1:2], command[4:-1:2], strict=True))
    assert given["--max-false-pass"] == "0.5" and given["--timeout-seconds"] == "7.0"
    before = {name: value for name, value in snapshot(Path("runs/mine")).items() if not name.startswith("report")}
    assert call(*command[1:]) == 0
    assert before.items() <= snapshot(Path("runs/mine")).items()
    capsys.readouterr()
    told = refused(capsys, 2, *command[1:], "--policy", "tabular(seed=4, spread=1.5)")
    assert "policy, seed: was 3, now 4" in told


LATE = """
import sys
from pathlib import Path
from pivotrl.cli import main
run, told = sys.argv[1], []
for words in (
    ["train", run, "--selection", "none"],
    ["evaluate", run, "--training", "none", "--name", "x"],
    ["evaluate", run, "--name", "x", "--verifier", "tool_call(ignorecase=1)"],
    ["profile", run, "--policy", "hf(lora_rnk=4)"],
    ["profile", run, "--verifier", "exact", "--num-samples", "3"],
    ["train", run, "--verifier", "exact", "--group-size", "3"],
    ["run", run + "/../logs.jsonl", "-o", run, "--resume", "--heldout-fraction", "0.7"],
):
    try:
        main(words)
    except SystemExit as stopped:
        told.append(stopped.code)
print(told, "torch" in sys.modules)
"""


def test_what_can_be_told_without_the_model_is_told_before_it_is_loaded(run: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LATE, str(run)], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2] == "[2, 2, 2, 2, 2, 2, 2] False", done.stderr


# --- nothing held out ---------------------------------------------------------------------------------------------


def split(folder: Path, num_tasks: int, fraction: float) -> tuple[int, int]:
    logs = write_logs(folder / f"{num_tasks}.jsonl", num_tasks)
    read_stage(
        str(logs), folder / f"{num_tasks}-{fraction}", reader=read, reading=ReadOptions(heldout_fraction=fraction)
    )
    counts = read_manifest(folder / f"{num_tasks}-{fraction}" / "read.manifest.json").counts
    for name, key in (("trajectories", "train_trajectories"), ("heldout", "heldout_trajectories")):
        path = folder / f"{num_tasks}-{fraction}" / f"{name}.jsonl"
        assert len(path.read_text().splitlines() if path.is_file() else []) == counts[key]
    return counts["train_trajectories"], counts["heldout_trajectories"]


def test_of_two_tasks_or_more_one_is_held_out_and_one_is_trained_on(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    for num_tasks in (2, 3, 5):
        for fraction in (0.01, 0.2, 0.99):
            train, heldout = split(tmp_path, num_tasks, fraction)
            assert train + heldout == num_tasks and train >= 1 and heldout >= 1
        assert split(tmp_path, num_tasks, 0.0) == (num_tasks, 0)
    assert not recwarn.list


@pytest.mark.parametrize("fraction", [0.2, 0.99])
def test_a_single_task_is_trained_on_and_the_user_is_told(fraction: float, tmp_path: Path) -> None:
    with pytest.warns(Notice, match=r"nothing can be measured .* 1 task kept"):
        assert split(tmp_path, 1, fraction) == (1, 0)


def test_a_run_without_anything_to_measure_takes_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs, out = write_logs(tmp_path / "logs.jsonl", 1), tmp_path / "run"
    told = refused(capsys, 2, "run", logs, "-o", out, *FAST)
    assert "nothing could be measured after training" in told and "--heldout-fraction 0 and --overwrite" in told
    assert not (out / "profiles.jsonl").exists()
    words = ["--heldout-fraction", "0", "--overwrite", "--rule", "all"]
    assert call("run", logs, "-o", out, *FAST, *words) == 0
    assert "nothing will be measured" in capsys.readouterr().err
    assert summarise(out).complete
    told = refused(capsys, 2, "evaluate", out, *TABULAR, "--name", "again")
    assert "nothing to evaluate" in told and "--heldout-fraction is 0" in told
    assert not (out / "evaluations/again.manifest.json").exists()


def test_profile_options_are_refused_before_the_profile_is_moved(run: Path) -> None:
    before = paths(run)
    with pytest.raises(InputError, match="num_samples: was 4, now 5"):
        profile_stage(run, sampler=Policy(), verifier=verify, profiling=ProfileOptions(num_samples=5))
    assert paths(run) == before


@pytest.mark.parametrize(
    "content", ["", "{}", '["../logs.jsonl"]', '["/logs.jsonl"]', "[1]", '[""]', '["replaced"]', "[" * 99_999]
)
def test_a_damaged_list_of_moves_is_told_and_nothing_outside_the_run_is_moved(
    content: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moving = run / "replaced" / "2026-01-31T120000Z" / ".moving.json"
    moving.parent.mkdir(parents=True)
    moving.write_text(content)
    before = snapshot(run.parent)
    assert "moving.json is damaged" in refused(capsys, 2, "select", run, "--name", "new")
    assert snapshot(run.parent) == before
    moving.unlink()  # as the message says
    assert call("select", run, "--name", "new") == 0


def test_show_takes_plain_numbers_only(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in ("\u00b2", "\u0662", "-2", "+2", "2.0"):
        assert "has no turn" in refused(capsys, 2, "show", run, f"log0#{index}")
    assert "--num-messages must be" in refused(capsys, 2, "show", run, "log0#2", "--num-messages", "-1")
    call("show", run, "log0#2", "--num-messages", "0")
    shown = capsys.readouterr().out
    assert "2 messages before" in shown
    assert "You answer." not in shown


@pytest.mark.parametrize(("source", "told"), [("", "is empty; give a value"), (" ", "the source has no name")])
def test_a_source_without_a_name_is_not_this_directory(
    source: str, told: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.parent)
    assert told in refused(capsys, 2, "read", source, "-o", "new")
    assert told in refused(capsys, 2, "read", "logs.jsonl", "-o", "new", "--heldout", source)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_every_training_and_evaluation_is_named_whole_at_any_width(
    width: int, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables.out, "_width", width)
    assert call("report", run) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if not line.startswith("report: ")) <= width  # a path is copied whole
    for name in ("trainings/b", "evaluations/before", "evaluations/after", "evaluations/after-b"):
        assert any(line.split()[:1] == [name] for line in lines), lines
