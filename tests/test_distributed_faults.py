"""What is wrong with some process is said once, by process 0, with a remedy."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pivotrl
from crews import free_port, together
from pivotrl.cli import main
from pivotrl.engine.distributed.launch import own_device
from pivotrl.protocols import InputError


def start(rank: int, port: int, code: Path, *words: str) -> subprocess.Popen[str]:
    """A process of two, as a launcher other than torchrun starts it."""
    variables = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, "-m", "pivotrl.cli", *words],
        env={**os.environ, **variables, "PYTHONPATH": str(code)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out + err


def test_processes_with_other_code_are_refused(tmp_path):
    code = Path(pivotrl.__file__).parents[1]
    shutil.copytree(code / "pivotrl", tmp_path / "pivotrl", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "pivotrl" / "advantages.py").open("a") as file:
        file.write("# another version\n")
    port = free_port()
    processes = [start(0, port, code, "list"), start(1, port, tmp_path, "list")]
    (first, text), (second, other) = map(told, processes)
    assert (first, second, other) == (2, 2, "")
    assert "code of pivotrl is " in text and "in process 1" in text and "Install the same versions" in text


def test_any_command_may_run_and_ends_the_others():
    port, code = free_port(), Path(pivotrl.__file__).parents[1]
    (first, text), (second, other) = map(told, [start(rank, port, code, "list") for rank in range(2)])
    assert (first, second, other) == (0, 0, "")
    assert "tool_call" in text


def test_a_port_in_use_is_named():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, text = told(start(0, port, Path(pivotrl.__file__).parents[1], "list"))
    assert code == 2
    assert f"port {port} is in use" in text and "MASTER_PORT" in text and "Traceback" not in text


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("RANK", "x", "0 to 1"),
        ("RANK", "2", "0 to 1"),
        ("WORLD_SIZE", "two", "1 to"),
        ("MASTER_PORT", "80000", "65535"),
    ],
)
def test_a_wrong_variable_is_named_at_once(monkeypatch, capsys, name, value, allowed):
    variables = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    for each, text in (variables | {name: value}).items():
        monkeypatch.setenv(each, text)
    with pytest.raises(SystemExit) as caught:
        main(["list"])
    told = capsys.readouterr().err
    assert caught.value.code == 2
    assert name in told and allowed in told and repr(value) in told


class Work:
    """A site where process 1 fails once, each time in another way."""

    def __init__(self, crew):
        self.crew = crew

    def fail(self, error, share):
        with self.crew.apart():
            if self.crew.rank == 1 and error is not None:
                raise error
        return self.crew.rank, share


def failing(crew):
    crew.site = Work(crew)
    if crew.rank > 0:
        crew.follow(lambda name, given: None)
        return None
    texts = []
    with crew.leading():
        for error in (InputError("mend it"), torch.OutOfMemoryError("CUDA"), ZeroDivisionError("a bug")):
            with pytest.raises((InputError, RuntimeError)) as caught:
                crew.run("fail", error, ["a", "b"])
            texts.append((type(caught.value).__name__, str(caught.value)))
            assert crew.run("fail", None, ["a", "b"]) == [(0, "a"), (1, "b")]  # all are ready again
    return texts


def test_a_fault_of_one_process_is_told_by_the_first_and_all_go_on():
    (mend, memory, bug), _ = together(2, failing)
    assert mend == ("InputError", "process 1 of 2: mend it")
    assert memory[0] == "InputError" and "process 1 of 2: out of memory" in memory[1] and "pass_tokens" in memory[1]
    assert bug[0] == "Failed" and "ZeroDivisionError: a bug" in bug[1]


def asks_for_gpu(crew):
    os.environ["LOCAL_RANK"] = "3"
    with pytest.raises(InputError) as caught:
        own_device("cuda")
    return str(caught.value)


@pytest.mark.skipif(torch.cuda.device_count() > 3, reason="there is such a GPU")
def test_a_missing_gpu_is_named():
    (text,) = together(1, asks_for_gpu)
    assert "needs GPU 3" in text and "--nproc-per-node" in text


IMPATIENT = """
from pivotrl.engine.distributed import launch, meeting
meeting._PATIENCE_SECONDS, launch._JOIN_SECONDS = 1, {seconds}
from pivotrl.cli import main
main(["list"])
"""


def start_impatient(rank: int, port: int, seconds: int) -> subprocess.Popen[str]:
    """Says after a second who is missing, and gives up after ``seconds``."""
    variables = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, "-c", IMPATIENT.format(seconds=seconds)],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("present", [0, 1])
def test_a_process_that_has_not_come_is_named_until_it_does(present):
    port = free_port()
    process = start_impatient(present, port, 120)
    assert process.stderr is not None
    assert process.stderr.readline() == f"pivotrl: waiting for process {1 - present} of 2 at 127.0.0.1:{port}\n"
    late = start(1 - present, port, Path(pivotrl.__file__).parents[1], "list")
    assert told(process)[0] == told(late)[0] == 0


def test_processes_whose_leader_never_comes_say_so():
    code, text = told(start_impatient(1, free_port(), 3))
    assert code == 2 and "Traceback" not in text
    assert "process 1 of 2 did not meet the others" in text and "process 0 of 2 did not come" in text
