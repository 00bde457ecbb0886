"""`--cluster "ray(...)"` on a real local cluster: the same run as elsewhere, whoever is killed and whenever.

Needs the extra ``ray``. NUM_KILLS processes are killed (8). Run alone: make test-scale
"""

from __future__ import annotations

import importlib.util
import os
import pty
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pivotrl.cli import main
from pivotrl.records import SampleGroup, Selection
from pivotrl.storage.record_files import read_records
from test_endpoint import direct as direct
from test_pipeline import write_logs
from test_vllm_policy import model as model
from tiny import save_tiny_model

if importlib.util.find_spec("ray") is None:
    pytest.skip("needs the extra 'ray': make test-ray", allow_module_level=True)
pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
NUM_KILLS = int(os.environ.get("NUM_KILLS") or 8)
TWO = "ray(processes=2, cpus=0.5, max_restarts=20)"
ADAPTER = "policy/adapter_model.safetensors"
VERIFIERS = """
import os
from pivotrl import Verdict

def verify(turn, action):
    passes = (action.content or "z")[0] < "T" or action == turn.expected_action
    return Verdict.passed() if passes else Verdict.failed("high")

def even(turn, action):
    return Verdict.passed() if len(action.content or "") % 2 == 0 else Verdict.failed("odd")

def fatal(turn, action):
    if os.environ.get("RANK") == "0":
        os.kill(os.getpid(), 9)
    return verify(turn, action)

fatal.in_process = True
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, logs, and a run of them that is profiled and selected."""
    folder = tmp_path_factory.mktemp("placed")
    save_tiny_model(folder / "model")
    (folder / "judges.py").write_text(VERIFIERS)
    write_logs(folder / "logs.jsonl", 8)
    main(["read", str(folder / "logs.jsonl"), "-o", str(folder / "run"), "--reader", "chat"])
    profile = ["profile", str(folder / "run"), "--verifier", "judges:verify", "--max-false-pass", "1.0"]
    profile += ["--num-samples", "8", "--max-tokens", "96", "--model", str(folder / "model")]
    profile += ["--policy", "hf(lora_rank=4)"]
    for words in (profile, ["select", str(folder / "run"), "--max-mean", "1.0"]):
        subprocess.run([sys.executable, "-m", "pivotrl.cli", *words], env=environment(folder), check=True)
    return folder


def environment(folder: Path) -> dict[str, str]:
    places = [str(folder), str(HERE), *(place for place in sys.path if place)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(places), "COLUMNS": "300"}


def training(folder: Path, name: str, *more: str, steps: int = 4) -> list[str]:
    words = ["train", str(folder / "run"), "--name", name, "--num-steps", str(steps), "--turns-per-step", "4"]
    words += ["--group-size", "8", "--learning-rate", "1e-3", "--checkpoint-every", "1", "--train-max-tokens", "96"]
    words += ["--max-false-pass", "1.0"]
    return [*words, *more]


def here(words: list[str]) -> list[str]:
    return [sys.executable, "-m", "pivotrl.cli", *words]


def torchrun(words: list[str]) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*launcher, "-m", "pivotrl.cli", *words]


def placed(words: list[str], cluster: str = TWO) -> list[str]:
    return here([*words, "--cluster", cluster])


def done(folder: Path, words: list[str], code: int = 0) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(words, env=environment(folder), capture_output=True, text=True)
    assert ended.returncode == code, (ended.returncode, ended.stdout, ended.stderr)
    return ended


def learners() -> dict[int, list[int]]:
    """Rank -> processes that run the command there now."""
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"PIVOTRL_PLACED=1" in variables and words[1:3] == [b"-m", b"pivotrl.cli"]:
            rank = next(int(word[5:]) for word in variables if word.startswith(b"RANK="))
            found.setdefault(rank, []).append(int(entry.name))
    return found


def until(condition: Callable[[], Any], seconds: float = 200.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def test_one_process_torchrun_and_ray_make_the_same_samples_and_weights(folder: Path) -> None:
    done(folder, here(training(folder, "alone")))
    done(folder, torchrun(training(folder, "torchrun")))
    ended = done(folder, placed(training(folder, "ray")))
    assert "ray" not in ended.stderr.lower().replace("--name ray", ""), "Ray itself says nothing"
    assert "rollout turns" in ended.stdout, "the table of process 0"
    first = read_records(folder / "run" / "trainings" / "alone" / "groups.jsonl", SampleGroup)
    weights = load_file(folder / "run" / "trainings" / "alone" / ADAPTER)
    for name in ("torchrun", "ray"):
        out = folder / "run" / "trainings" / name
        for one, other in zip(first, read_records(out / "groups.jsonl", SampleGroup), strict=True):
            assert [c.token_ids_T for c in one.completions_G] == [c.token_ids_T for c in other.completions_G]
        for key, tensor in load_file(out / ADAPTER).items():
            torch.testing.assert_close(tensor, weights[key], rtol=1e-3, atol=1e-4)
    assert len(read_records(folder / "run" / "selection.jsonl", Selection)) > 4


def strike(run: subprocess.Popen[str], struck: list[int], most: int, dice: random.Random) -> None:
    """Kill a process at a random moment, again and again."""
    while run.poll() is None and len(struck) < most:
        if len(learners()) == 2:
            time.sleep(dice.random() * 20)
            rank = dice.randrange(2)
            for victim in learners().get(rank, [])[:1]:
                os.kill(victim, signal.SIGKILL)
                struck.append(rank)
        time.sleep(1)


def test_whoever_is_killed_and_whenever_the_training_is_the_same(folder: Path) -> None:
    dice, kills, steps, name = random.Random(18), 0, 12, 0
    done(folder, torchrun(training(folder, "whole", steps=steps)))
    whole = folder / "run" / "trainings" / "whole"
    while kills < NUM_KILLS:
        name += 1
        words = placed(training(folder, f"killed{name}", steps=steps))
        with subprocess.Popen(words, env=environment(folder), stderr=subprocess.PIPE, text=True) as run:
            struck: list[int] = []
            thread = threading.Thread(target=strike, args=(run, struck, NUM_KILLS - kills, dice))
            thread.start()
            _, text = run.communicate(timeout=3000)
            thread.join()
            assert run.returncode == 0, text
            kills += len(struck)
        out = folder / "run" / "trainings" / f"killed{name}"
        assert (out / ADAPTER).read_bytes() == (whole / ADAPTER).read_bytes()
        one, other = (read_records(path / "groups.jsonl", SampleGroup) for path in (whole, out))
        assert [group.completions_G for group in one] == [group.completions_G for group in other]
        print(f"{len(struck)} kills, {text.count('start again and go on')} starts: the same weights, bit for bit")
    assert not learners()


def test_without_progress_it_stops_and_says_so(folder: Path) -> None:
    words = training(folder, "fatal", "--verifier", "judges:fatal", "--max-false-pass", "1.0")
    words += ["--profile-may-differ-in", "verifier", "--overwrite"]
    text = done(folder, placed(words, "ray(processes=2, cpus=0.5, max_restarts=1)"), 8).stderr
    assert text.count("All processes start again and go on from what is on disk (start 1 of at most 1") == 1
    assert "was killed by SIGKILL" in text and "begun 2 times without getting further" in text
    assert "Traceback" not in text


def test_what_a_user_must_mend_is_told_once(folder: Path) -> None:
    text = done(folder, placed(training(folder, "none", "--selection", "none")), 2).stderr
    assert text.count("no selections/none.manifest.json") == 1 and "start again" not in text
    text = done(folder, placed(training(folder, "none"), "ray(processes=64, cpus=100)"), 2).stderr
    assert "64 processes with 100 CPUs each need 6400 CPUs, and there are" in text
    text = done(folder, placed(training(folder, "none"), "ray(processes=1, gpus=8)"), 2).stderr
    assert "need 8 GPUs, and there are 0" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_when_the_command_ends_so_do_its_processes(folder: Path, number: signal.Signals) -> None:
    words = placed(training(folder, f"ended{number}", steps=500))
    with subprocess.Popen(words, env=environment(folder), stderr=subprocess.PIPE, text=True) as run:
        metrics = folder / "run" / "trainings" / f"ended{number}" / "metrics.jsonl"
        until(lambda: metrics.is_file() and metrics.stat().st_size)
        run.send_signal(number)
        _, text = run.communicate(timeout=120)
    if number == signal.SIGINT:
        assert run.returncode == 130 and text.count("interrupted; everything finished is kept") == 1, text
    until(lambda: not learners(), 60)


def test_bars_look_as_they_do_without_a_cluster(folder: Path) -> None:
    ours, theirs = pty.openpty()
    words = placed(training(folder, "shown"))
    with subprocess.Popen(words, env=environment(folder), stdout=subprocess.PIPE, stderr=theirs) as run:
        os.close(theirs)
        seen = b""
        while True:
            try:
                seen += os.read(ours, 1 << 16)
            except OSError:
                break
        assert run.wait(60) == 0 and run.stdout
        assert b"rollout turns" in run.stdout.read()
    assert b"\x1b[?25l" in seen and "━".encode() in seen, "a live bar"


@pytest.fixture
def served(model: Path, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A run, and a cluster with two servers that speak as vLLM does."""
    (tmp_path / "judges.py").write_text(VERIFIERS)
    run = tmp_path / "run"
    main(["read", str(write_logs(tmp_path / "logs.jsonl", 8)), "-o", str(run), "--reader", "chat"])
    profile = ["profile", str(run), "--verifier", "judges:even", "--max-false-pass", "1.0", "--num-samples", "8"]
    profile += ["--max-tokens", "14", "--model", str(model), "--policy", "hf(lora_rank=4)"]
    for words in (profile, ["select", str(run), "--max-mean", "1.0"]):
        done(tmp_path, here(words))
    program = [f"PYTHONPATH={HERE}:{HERE.parent / 'src'}", sys.executable, str(HERE / "serve_versions.py")]
    serve = ["env", *program]
    yield tmp_path, f"ray(processes=2, cpus=0.25, servers=2, server_cpus=0.25, serve={serve!r}, max_restarts=5)"


def test_a_server_that_is_killed_is_back_at_its_address_and_no_sample_is_lost(
    served: tuple[Path, str], model: Path, direct: None
) -> None:
    folder, cluster = served
    spec = "vllm(policy=\"hf(lora_rank=4, dtype='float32', device='cpu')\", choices='single', max_tries=60)"
    words = training(folder, "served", "--policy", spec, "--model", str(model), "--train-max-tokens", "14")
    struck = []

    def servers() -> list[int]:
        words = [(path, path.read_bytes()) for path in Path("/proc").glob("[0-9]*/cmdline") if path.is_file()]
        return [
            int(path.parent.name) for path, text in words if b"serve_versions.py\0" in text and b"tether" not in text
        ]

    with subprocess.Popen(placed(words, cluster), env=environment(folder), stderr=subprocess.PIPE, text=True) as run:
        groups = folder / "run" / "trainings" / "served" / "groups.jsonl"
        until(lambda: run.poll() is not None or (groups.is_file() and groups.stat().st_size), 400)
        if run.poll() is None:
            struck = servers()[:1]
            os.kill(struck[0], signal.SIGKILL)
        _, text = run.communicate(timeout=600)
    assert run.returncode == 0, text
    assert struck and "it starts again. Its log is" in text
    found = read_records(groups, SampleGroup)
    assert len(found) == 16 and len({(group.step, group.turn_id) for group in found}) == 16
    until(lambda: not servers(), 60)
