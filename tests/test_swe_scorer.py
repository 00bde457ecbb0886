"""swebench's own scorer for `pivotrl bench swe`: its rows, predictions and reports. The docker run itself is not tried.

SWEBENCH_PYTHON and MINI_PYTHON name interpreters with swebench and mini-swe-agent (`make test-bench` makes them).
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pivotrl.environments.swe import SweTask, make_environments
from pivotrl.harnesses.swe import Harness
from pivotrl.harnesses.swe.scoring import (
    PREDICTIONS,
    VERSION,
    judged,
    played_before,
    require_rows,
    write_predictions,
)
from pivotrl.protocols import InputError
from pivotrl.protocols.harness import PLAN, Batch, Home, Player, Setup
from pivotrl.sandbox import open_sandbox
from test_swe_rows import FAIL, PASS, RIGHT, place, write  # noqa: F401 - a fixture

SWEBENCH = os.environ.get("SWEBENCH_PYTHON", "")
MINI = Path(os.environ.get("MINI_PYTHON", ""))
TASK = "bench"
REPORTS = Path(__file__).parent / "data" / "swebench"
EVALUATED = "logs/run_evaluation/pivotrl-0123456789ab/player"
HOME = Home(MINI, MINI.parent, "2.4.6")

BEGIN, END = ">>>>> Start Test Output", ">>>>> End Test Output"
GRADE = """
import json, sys
from swebench.harness.grading import get_eval_report
from swebench.harness.utils import get_predictions_from_file, load_swebench_dataset, make_test_spec
rows, predictions, log, report = sys.argv[1:]
(instance,) = load_swebench_dataset(rows)
(prediction,) = get_predictions_from_file(predictions, rows, "test", None, [instance["instance_id"]])
told = get_eval_report(make_test_spec(instance), prediction, log, include_tests_status=True)
json.dump(told, open(report, "w"), indent=4)
"""


def swebench(test):  # type: ignore[no-untyped-def]
    missing = pytest.mark.skipif(not SWEBENCH, reason="SWEBENCH_PYTHON: make test-bench")
    return pytest.mark.slow(missing(test))


@pytest.fixture
def rows(place: Path, tmp_path: Path) -> Path:  # noqa: F811
    """The row as swebench publishes it since version 5: with its image, its parser and its script."""
    row = json.loads((place / "rows.jsonl").read_text().splitlines()[0])
    row |= {"image": "swebench/acme.calc:latest", "log_parser": "parse_log_pytest", "eval_type": "pass_and_fail"}
    row["eval_script"] = (
        "#!/bin/bash\nset -uxo pipefail\n: '>>>>> Start Test Output'\npytest -rA\n: '>>>>> End Test Output'\n"
    )
    write(tmp_path / "rows.jsonl", row)
    return tmp_path / "rows.jsonl"


def test_without_docker_the_scorer_is_refused_with_what_to_install(
    rows: Path,
    place: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setup = Setup(Player("http://127.0.0.1:9/v1", "m"))
    monkeypatch.setenv("PATH", str(tmp_path))
    harness = Harness(rows=str(rows), clones=str(place / "clones"), scorer="swebench")
    with pytest.raises(InputError, match=r"`docker info` fails here; install and start docker"):
        harness.check(setup)
    with pytest.raises(InputError, match="give rows= and clones="):
        Harness(scorer="swebench").check(setup)


def test_swebench_is_asked_for_by_its_version(rows: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"is no interpreter that has swebench; .*pip install swebench=={VERSION}"):
        require_rows(None, str(rows))
    other = tmp_path / "python"
    other.write_text('#!/bin/sh\necho \'{"version": "4.1.0", "error": null}\'\n')
    other.chmod(0o755)
    with pytest.raises(InputError, match=rf"has swebench 4.1.0; results are read at version {VERSION}"):
        require_rows(str(other), str(rows))


def folder_of(root: Path, kind: str) -> Path:
    """What swebench left, with a real report of that kind."""
    folder = root / kind
    (folder / EVALUATED / TASK).mkdir(parents=True)
    write_predictions(folder, TASK, "diff --git a/x b/x\n")
    shutil.copy(REPORTS / f"{kind}.json", folder / EVALUATED / TASK / "report.json")
    return folder


@pytest.mark.parametrize(
    ("kind", "reward", "reason"),
    [
        ("resolved", 1.0, "resolved"),
        ("broken", 0.0, "not_resolved"),
        ("no_tests", 0.0, "tests_not_run"),
        ("no_network", None, "scorer_environment_failed"),
    ],
)
def test_reports_of_swebench_are_read(tmp_path: Path, kind: str, reward: float | None, reason: str) -> None:
    folder = folder_of(tmp_path, kind)
    assert judged(folder, TASK) == (reward, reason)
    report = folder / EVALUATED / TASK / "report.json"
    report.write_text(report.read_text()[:-20])
    assert judged(folder, TASK) == (None, "scorer_failed"), "half a report is none"


def test_what_swebench_does_not_judge_is_a_failure_of_the_agent_only_where_it_is_his(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "resolved")
    evaluated = folder / EVALUATED / TASK
    (evaluated / "report.json").unlink()
    assert judged(folder, TASK) == (None, "scorer_failed")
    (evaluated / "test_output.txt").write_text("...\n\nTimeout error: 5 seconds exceeded.")
    assert judged(folder, TASK) == (None, "scorer_timed_out")
    (evaluated / "run_instance.log").write_text(">>>>> Patch Apply Failed:\nerror: corrupt patch")
    assert judged(folder, TASK) == (0.0, "patch_not_applied")
    write_predictions(folder, TASK, "")
    assert judged(folder, TASK) == (0.0, "empty_patch")


def test_what_was_played_but_not_judged_is_only_judged_again(
    rows: Path,
    place: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    def folder(number: int, trial: int = 0) -> Path:
        path = tmp_path / "player" / f"{number:05d}"
        path.mkdir(parents=True)
        (path / PLAN).write_text(json.dumps({"tasks": [TASK], "trial": trial}))
        return path

    setup = Setup(Player("http://127.0.0.1:9/v1", "m"))
    other, first, second = folder(1, trial=1), folder(2), folder(3)
    batch = Batch((TASK,), 0, 0, second, setup)
    write_predictions(other, TASK, "of another trial")
    assert played_before(batch) is None
    write_predictions(first, TASK, "x")
    assert played_before(batch) == first, "killed while it was judged"
    for result, expected in (
        ({"reward": None, "reason": "scorer_failed"}, first),
        ({"reward": None, "reason": "InternalServerError"}, None),
        ({"reward": 0.0, "reason": "not_resolved"}, None),
    ):
        (first / ".result.json").write_text(json.dumps({"task": TASK, **result}))
        assert played_before(batch) == expected
    harness = Harness(
        rows=str(rows), clones=str(place / "clones"), scorer="swebench", swebench_python="/usr/bin/python3"
    )
    (first / ".result.json").unlink()
    harness.command(HOME, batch)
    asked = json.loads((second / ".episode.json").read_text())
    assert asked["played"] == str(first) and asked["scorer"]["rows"] == str(rows)


def test_the_patch_is_what_the_agent_changed_whatever_it_did_to_git(place: Path, rows: Path) -> None:  # noqa: F811
    options = {"rows": str(rows), "clones": str(place / "clones"), "folder": str(place / "folder")}
    environment = make_environments(**options, manner="bash", tests="elsewhere").make(TASK)
    assert isinstance(environment, SweTask)
    try:
        environment.reset()
        assert environment.patch() == ""
        environment.command(f"printf %s '{RIGHT}' > calc.py; echo x > new.txt; rm -rf .git")
        environment.command(
            "mkdir .git && echo '[core]\n\tfsmonitor = touch /tmp/x' > .git/config; printf '\\0' > data.bin"
        )
        patch = environment.patch()
    finally:
        environment.close()
    assert "-    return x + x + (x > 9)\n+    return x + x\n" in patch and "b/new.txt" in patch
    assert "GIT binary patch" in patch and "config" not in patch


# --- with the package itself ---


@swebench
def test_swebench_reads_our_predictions_and_its_own_grading_makes_the_reports(rows: Path, tmp_path: Path) -> None:
    write_predictions(tmp_path, TASK, "diff --git a/x b/x\n")
    require_rows(SWEBENCH, str(rows), tmp_path / PREDICTIONS)
    lines = {name: f"PASSED {name}" for name in (*FAIL, *PASS)}
    begin, end = f"{BEGIN}\n", f"\n{END}\n"
    logs = {
        "resolved": begin + "\n".join(lines.values()) + end + ">>>>> Test Exit Code: 0\n",
        "broken": begin + "\n".join({**lines, FAIL[0]: f"FAILED {FAIL[0]} - assert 21 == 20"}.values()) + end,
        "no_tests": begin + "ImportError: cannot import name 'double' from 'calc'" + end,
        "no_network": "fatal: unable to access: Could not resolve host: github.com\n",
    }
    for kind, log in logs.items():
        folder = tmp_path / kind
        (folder / EVALUATED / TASK).mkdir(parents=True)
        write_predictions(folder, TASK, "diff --git a/x b/x\n")
        (folder / "log.txt").write_text(log)
        report = folder / EVALUATED / TASK / "report.json"
        words = [str(rows), str(folder / PREDICTIONS), str(folder / "log.txt"), str(report)]
        subprocess.run([SWEBENCH, "-c", GRADE, *words], check=True)
        kept = REPORTS / f"{kind}.json"
        assert json.loads(report.read_bytes()) == json.loads(kept.read_bytes()), f"{kept} is what this version writes"


@swebench
def test_rows_that_this_version_cannot_score_are_refused(rows: Path, place: Path, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(InputError, match="bench has no field 'image'.*as swebench publishes them"):
        old = tmp_path / "old.jsonl"
        old.write_text((place / "rows.jsonl").read_text().splitlines()[0] + "\n")
        require_rows(SWEBENCH, str(old))
    row = json.loads(rows.read_text())
    with pytest.raises(InputError, match="knows no log parser 'x'"):
        write(tmp_path / "parser.jsonl", {**row, "log_parser": "x"})
        require_rows(SWEBENCH, str(tmp_path / "parser.jsonl"))
    (tmp_path / PREDICTIONS).write_text('{"instance_id": "other", "model_patch": "", "model_name_or_path": "m"}\n')
    with pytest.raises(InputError, match="a prediction names other"):
        require_rows(SWEBENCH, str(rows), tmp_path / PREDICTIONS)
    with pytest.raises(InputError, match="has no swebench"):
        require_rows(shutil.which("python3"), str(rows))


@swebench
@pytest.mark.skipif(not MINI.is_file(), reason="MINI_PYTHON: make test-bench")
def test_all_up_to_docker_is_real_and_without_docker_nothing_is_said_of_the_agent(
    rows: Path,
    place: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    """mini-swe-agent plays gold, swebench itself is started on the patch, and fails as it reaches for docker."""
    if shutil.which("docker") and not subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("docker is here")
    from pivotrl.stages.benching.endpoints import serving_gold

    options: dict[str, Any] = {"rows": str(rows), "clones": str(place / "clones"), "packages": str(place / "packages")}
    harness = Harness(**options, scorer="swebench", swebench_python=SWEBENCH)

    def run(number: int, player: Player) -> tuple[Path, Any]:
        folder = tmp_path / "player" / f"{number:05d}"
        folder.mkdir(parents=True)
        (folder / PLAN).write_text(json.dumps({"tasks": [TASK], "trial": 0}))
        batch = Batch((TASK,), 0, 0, folder, Setup(player))
        command = harness.command(HOME, batch)
        environment = {**os.environ, **command.environment}
        subprocess.run(command.words, cwd=folder, env=environment, check=True, capture_output=True)
        (outcome,) = harness.outcomes(batch)
        return folder, outcome

    with serving_gold(harness.gold(HOME)) as player:
        folder, outcome = run(1, player)
    assert (outcome.reward, outcome.reason, outcome.num_turns) == (None, "scorer_failed", 2)
    (prediction,) = map(json.loads, (folder / PREDICTIONS).read_text().splitlines())
    assert "+    return x + x\n" in prediction["model_patch"]
    require_rows(SWEBENCH, str(rows), folder / PREDICTIONS)
    again, outcome = run(2, dataclasses.replace(player, base_url="http://127.0.0.1:9/v1"))  # nobody answers there
    assert (outcome.reward, outcome.reason, outcome.num_turns) == (None, "scorer_failed", 2), "judged, not played"
    assert (again / f"{TASK}.traj.json").read_bytes() == (folder / f"{TASK}.traj.json").read_bytes()


@pytest.fixture(scope="module", autouse=True)
def _sandbox() -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    try:
        open_sandbox()
    except InputError as error:
        pytest.skip(f"no sandbox here: {error}")
