"""`pivotrl bench terminal`: Harbor and Terminus 2 in our sandbox, and the container that they run in.

Run alone: python -m pytest tests/test_terminal_harness.py
With Harbor: HARBOR_PYTHON=.../bin/python python -m pytest -m slow tests/test_terminal_harness.py
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pivotrl.environments.shell import TASKS
from pivotrl.harnesses.terminal import Harness
from pivotrl.protocols import InputError, Notice
from pivotrl.protocols.harness import Asked, Batch, Home, Player, Setup
from pivotrl.readers import auto
from pivotrl.records import Trajectory, TrialResult
from pivotrl.sandbox import open_sandbox
from pivotrl.stages.benching import BenchOptions, bench_stage
from pivotrl.stages.benching.endpoints import gold_contestant
from pivotrl.stages.benching.homes import home_of
from pivotrl.storage.record_files import RecordFile

HOME = Home(Path(sys.executable), Path("nowhere"), "0.26.0")
GOLD = Setup(Player("http://127.0.0.1:1/v1", "gold", "secret-key", is_gold=True), max_tokens=64)
Run = Callable[..., tuple[int | None, str, str]]


@pytest.fixture(scope="module")
def sandbox() -> None:
    try:
        open_sandbox()
    except InputError as error:
        pytest.skip(f"no sandbox here: {error}")


def batch(folder: Path, task: str = "fix-script") -> Batch:
    return Batch((task,), 0, 7, folder, GOLD)


# --- the container ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def container(sandbox: None) -> Iterator[Run]:
    words = [sys.executable, "-m", "pivotrl.sandbox.container", "--mebibytes", "8", "/app", "/logs"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout

        def run(command: str, **more: Any) -> tuple[int | None, str, str]:
            assert process.stdin and process.stdout
            process.stdin.write(json.dumps({"id": 1, "command": command, **more}) + "\n")
            process.stdin.flush()
            told = json.loads(process.stdout.readline())
            output, error = (base64.b64decode(told[name]).decode(errors="replace") for name in ("output", "error"))
            return told["exit_code"], output, error

        yield run
        process.stdin.close()
        assert process.wait(10) == 0


def test_processes_and_files_last_between_commands(container: Run) -> None:
    assert container("sleep 60 & echo $! > /app/pid")[0] == 0
    assert container("kill -0 $(cat /app/pid) && echo alive")[1] == "alive\n"
    told = container("cat; pwd; echo $X; echo no >&2; exit 3", folder="/logs", environment={"X": "1 2"}, input="aGk=")
    assert told == (3, "hi/logs\n1 2\n", "no\n")


def test_a_command_is_killed_for_its_time_and_its_output_so_far_is_kept(container: Run) -> None:
    assert container("echo begun; sleep 30", seconds=0.3) == (None, "begun\n", "")


@pytest.mark.parametrize(
    "command",
    [
        "cat /etc/shadow",
        "ls /home || ls /root",
        "touch /usr/x",
        "touch /x",
        "unshare -U true",
        "mount -t tmpfs none /logs",
        "head -c 20000000 /dev/zero > /app/flood",
        "head -c 20000000 /dev/zero > /dev/shm/flood",
        "python3 -c \"import socket; socket.create_connection(('1.1.1.1', 80), 2)\"",
        'python3 -c "import os; os.kill(1, 0); os.setuid(0)"',
    ],
)
def test_what_is_outside_cannot_be_reached(container: Run, command: str) -> None:
    code, _, error = container(command)
    assert code not in (0, None) and error


def test_nobody_is_root_and_the_filter_is_on(container: Run) -> None:
    status = container("id -u; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status")[1].split()
    assert status == ["1000", "CapEff:", "0000000000000000", "NoNewPrivs:", "1", "Seccomp:", "2"]


def test_everything_inside_dies_with_its_starter(sandbox: None) -> None:
    words = [sys.executable, "-m", "pivotrl.sandbox.container", "/app"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        process.stdin.write('{"id": 1, "command": "sleep 97.31 & true"}\n')
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["exit_code"] == 0
        assert _in_time(lambda: _runs(b"97.31"))
        process.kill()
    assert _in_time(lambda: not _runs(b"97.31"))


def _in_time(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


def _runs(word: bytes) -> bool:
    """Whether any process was started with this word. While one becomes ``sleep``, it has no words for a moment."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            if word in path.read_bytes():
                return True
    return False


# --- the harness -----------------------------------------------------------------------------------------------------


def test_the_command_names_the_sandbox_and_hides_the_key(tmp_path: Path) -> None:
    command = Harness(context_tokens=8192).command(HOME, batch(tmp_path))
    assert "secret-key" not in " ".join(command.words) and command.environment["OPENAI_API_KEY"] == "secret-key"
    assert command.environment["PIVOTRL_WORKDIR"] == "/app" and command.environment["HARBOR_TELEMETRY"] == "0"
    words = list(command.words)
    assert words[words.index("--env") + 1] == "container:SandboxContainer"
    assert (
        "api_base=http://127.0.0.1:1/agent/fix-script/v1" in words
        and 'llm_call_kwargs={"seed": 7, "max_tokens": 64}' in words
    )
    assert (
        Path(command.environment["PIVOTRL_FILES"], "tidy.sh").read_bytes()
        == (TASKS / "fix-script" / "environment" / "files" / "tidy.sh").read_bytes()
    )


def test_gold_types_the_solution_and_ends_twice() -> None:
    answer = Harness().gold(HOME)
    said = []
    for number in range(5):
        messages = [{"role": "assistant", "content": ""}] * number
        said.append(json.loads(str(answer(Asked("fix-script", "agent", messages))["content"])))
    typed = [[command["keystrokes"] for command in one["commands"]] for one in said]
    assert typed[0] == ["set +H\n", "cat tidy.sh\n"] and "#!/bin/bash" in typed[1][0]
    assert [one["task_complete"] for one in said] == [False, False, False, True, True]


def test_without_docker_tasks_that_need_it_are_left_out_and_backend_docker_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("fix-script", "write-slug"):
        shutil.copytree(TASKS / name, tmp_path / name)
    (tmp_path / "write-slug" / "environment" / "Dockerfile").write_text("FROM rust:1\n")
    with pytest.warns(Notice, match="1 tasks below .* need docker .*needs the image rust:1"):
        assert Harness(root=str(tmp_path)).tasks(HOME) == ["fix-script"]
    shutil.rmtree(tmp_path / "fix-script")
    with pytest.raises(InputError, match="can be played without docker: .*needs the image rust:1"):
        Harness(root=str(tmp_path)).tasks(HOME)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="Harbor needs docker"):
        Harness(root=str(tmp_path), backend="docker").check(GOLD)


def write(folder: Path, **result: Any) -> Path:
    trial = folder / "job" / "fix-script__x"
    trial.mkdir(parents=True)
    (trial / "result.json").write_text(json.dumps({"finished_at": "2026-01-01T00:00:09", **result}))
    return folder


@pytest.mark.parametrize(
    ("result", "reward", "reason"),
    [
        ({"verifier_result": {"rewards": {"reward": 1.0}}, "reward_valid": True}, 1.0, "solved"),
        ({"verifier_result": {"rewards": {"reward": 0.0}}, "reward_valid": True}, 0.0, "not_solved"),
        (
            {
                "verifier_result": {"rewards": {"reward": 0.0}},
                "reward_valid": True,
                "exception_info": {"exception_type": "AgentTimeoutError"},
            },
            0.0,
            "AgentTimeoutError",
        ),
        (
            {
                "verifier_result": {"rewards": {"reward": 0.0}},
                "reward_valid": False,
                "exception_info": {"exception_type": "APIConnectionError"},
            },
            None,
            "APIConnectionError",
        ),
        ({"verifier_result": None}, None, "no_reward"),
    ],
)
def test_results_are_read_and_what_was_not_judged_has_no_reward(
    tmp_path: Path, result: dict[str, Any], reward: float | None, reason: str
) -> None:
    (outcome,) = Harness().outcomes(batch(write(tmp_path, **result)))
    assert (outcome.reward, outcome.reason) == (reward, reason)


def test_half_a_result_is_none(tmp_path: Path) -> None:
    assert not list(Harness().outcomes(batch(tmp_path)))
    folder = write(tmp_path, verifier_result={"rewards": {"reward": 1}})
    path = folder / "job" / "fix-script__x" / "result.json"
    path.write_text(path.read_text()[:-9])
    assert not list(Harness().outcomes(batch(folder)))
    path.write_text('{"verifier_result": {"rewards": {"reward": 1}}, "finished_at": null}')
    assert not list(Harness().outcomes(batch(folder)))


def test_a_job_of_harbor_is_read_as_its_trials_and_nothing_else(tmp_path: Path) -> None:
    job, sample = tmp_path / "job", Path(__file__).parent / "data" / "formats" / "terminus"
    for name in ("raw", "failed"):
        shutil.copytree(sample / f"hello-file__{name}", job / f"hello-file__{name}")
    for name in ("config.json", "lock.json", "job.log", "result.json"):
        (job / name).write_text("{}")
    read = list(auto.read(tmp_path))
    assert all(isinstance(one, Trajectory) for one in read)
    assert sorted(one.reward for one in read if isinstance(one, Trajectory) and one.reward is not None) == [0.0, 1.0]


def test_too_old_a_python_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Newer(Harness):
        least_python = (3, 99)

    monkeypatch.setenv("PIVOTRL_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"harbor 0.26.0 needs Python 3.99 or newer.*python3.99 -m venv VENV"):
        home_of(Newer())


@pytest.mark.slow
def test_gold_scores_one_in_real_harbor_and_its_files_are_read_back(tmp_path: Path) -> None:
    python = os.environ.get("HARBOR_PYTHON")
    if not python:
        pytest.skip("HARBOR_PYTHON names no interpreter with harbor")
    names = ("count-levels", "fix-script", "build-order")
    harness = Harness()
    bench_stage(
        tmp_path,
        "terminal",
        gold_contestant(harness),
        harness=harness,
        bench=BenchOptions(task_ids=names, task_seconds=120.0),
        harness_python=Path(python),
        retry=False,
    )
    found = list(RecordFile(tmp_path / "bench" / "terminal" / "gold.trials.jsonl", TrialResult))
    assert {result.task_id: result.reward for result in found} == dict.fromkeys(names, 1.0)
    read = list(auto.read(tmp_path / "bench" / "terminal" / "gold"))
    trajectories = [one for one in read if isinstance(one, Trajectory)]
    assert len(trajectories) == 3 and {one.reward for one in trajectories} == {1.0}
