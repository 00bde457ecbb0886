"""`--cluster "ray(...)"` as far as it goes without Ray: options, refusals, how a command goes on, and the processes.

The rest is in tests/test_ray_placement.py.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pivotrl.cli import main
from pivotrl.cli.choices import PolicyChoice
from pivotrl.cli.cluster.command import Command, Snapshot
from pivotrl.cli.cluster.options import read_cluster
from pivotrl.cli.cluster.relaying import Ending
from pivotrl.cli.cluster.seat import Seat
from pivotrl.cli.cluster.servers import require_servable, server_environment, server_words
from pivotrl.protocols import InputError
from test_pipeline import write_logs

TETHER = Path(sys.modules[Seat.__module__].__file__ or "").with_name("tether.py")


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("rya(processes=2)", "no cluster called 'rya'; did you mean 'ray'"),
        ("ray(process=2)", "ray has no option 'process'; did you mean 'processes'"),
        ("ray(processes=0)", "processes must be greater than or equal to 1"),
        ("ray(cpus=0)", "cpus must be greater than 0"),
        ("ray(strategy='near')", "strategy must be 'pack' or 'spread'"),
        ("ray(port=70000)", "port must be at most 65535"),
        ("ray(servers=3, processes=2, beside=True)", "each process takes one server at most"),
        ("ray(serve='vllm serve')", "serve is a list of words"),
        ("ray(serve=[])", "serve is empty"),
        ("ray(2)", "cannot read"),
        ("ray(servers=2)", "servers are for a policy that samples on them, and the policy hf does not"),
        ("ray(address='nowhere')", "is no address of a Ray cluster|needs ray"),
        ("ray(address='127.0.0.1:1')", "no Ray cluster can be reached|needs ray"),
    ],
)
def test_what_is_wrong_is_told_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spec: str, fault: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(tmp_path), "--cluster", spec])
    assert stopped.value.code == 2
    text = " ".join(capsys.readouterr().err.split())
    assert re.search(fault, text), text


def test_torchrun_and_a_cluster_do_not_go_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(SystemExit):
        main(["train", str(tmp_path), "--cluster", "ray"])
    assert "leave out torchrun" in capsys.readouterr().err


def test_a_typing_error_elsewhere_is_told_before_the_cluster_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(tmp_path), "--num-steps", "0", "--cluster", "ray"])
    assert stopped.value.code == 2 and "--num-steps must be" in capsys.readouterr().err


def test_a_placed_process_runs_the_command_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster in --config reaches the processes too."""
    (tmp_path / "run.toml").write_text('cluster = "ray(processes=2)"\n')
    monkeypatch.setenv("PIVOTRL_PLACED", "1")
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(tmp_path / "none"), "--config", str(tmp_path / "run.toml")])
    assert stopped.value.code == 2 and "is not a directory" in capsys.readouterr().err


def test_places_hold_what_they_are_for() -> None:
    apart = read_cluster("ray(processes=2, cpus=4, gpus=1, servers=1, server_cpus=2, server_gpus=2)")
    assert apart.bundles() == [{"CPU": 4, "GPU": 1}] * 2 + [{"CPU": 2, "GPU": 2}] and apart.place_of_server(0) == 2
    beside = read_cluster("ray(processes=2, gpus=0.5, servers=1, server_gpus=0.5, beside=True)")
    assert beside.bundles() == [{"CPU": 2, "GPU": 1}, {"CPU": 1, "GPU": 0.5}] and beside.place_of_server(0) == 0
    assert apart.missing({"CPU": 10, "GPU": 4}) == ""
    told = apart.missing({"CPU": 10, "GPU": 3})
    assert told == (
        "2 processes with 4 CPUs and 1 GPUs each and 1 servers with 2 CPUs and 2 GPUs each need 4 GPUs, and there are 3"
    )


def test_the_server_is_started_as_the_policy_needs_it() -> None:
    asked = read_cluster("ray(servers=2, serve=['v', 'serve'], serve_options=['--max-model-len', '64'])")
    adapter = PolicyChoice(policy="vllm(policy=\"hf(lora_rank=20, dtype='float32')\", served='x')", model="some/model")
    words = server_words(asked, adapter, "10.0.0.1", 8001)
    assert words[:3] == ["v", "serve", "some/model"] and words[-2:] == ["--max-model-len", "64"]
    told = dict(itertools.pairwise(words))
    assert told["--served-model-name"] == "x" and told["--dtype"] == "float32" and told["--max-lora-rank"] == "32"
    assert (told["--host"], told["--port"]) == ("10.0.0.1", "8001")
    assert server_environment(adapter)["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    whole = PolicyChoice(policy="vllm(policy='hf(lora_rank=0)')", model="some/model")
    assert "--enable-lora" not in server_words(asked, whole, "10.0.0.1", 8001)
    assert server_environment(whole)["VLLM_SERVER_DEV_MODE"] == "1"
    with pytest.raises(InputError, match="names servers that run already"):
        require_servable(PolicyChoice(policy="vllm(base_url='http://a/v1')"), None)


def test_the_policy_learns_the_addresses_and_keeps_its_model() -> None:
    words = ("train", "r", "--policy=vllm(choices='single')", "--num-steps", "2")
    command = Command(words, Path("r"), PolicyChoice(policy="vllm(choices='single')", model="m", adapter="a"))
    found = command.with_servers(["http://h:1/v1", "http://h:2/v1"]).words
    assert found[:4] == ("train", "r", "--num-steps", "2")
    spec = "vllm(served='m', choices='single', base_url=['http://h:1/v1', 'http://h:2/v1'])"
    assert found[4:] == ("--policy", spec, "--model", "m", "--adapter", "a")


def command(folder: Path, *words: str, several: bool = False) -> Command:
    return Command(words, folder, PolicyChoice(), several)


def test_a_command_that_starts_again_goes_on_and_replaces_nothing_twice(tmp_path: Path) -> None:
    run = tmp_path / "run"
    main(["read", str(write_logs(tmp_path / "logs.jsonl", 4)), "-o", str(run), "--reader", "chat"])
    before = Snapshot.of(run)
    first = command(run, "train", str(run), "--overwrite")
    assert first.again(before).words == first.words, "nothing had begun"
    (run / "replaced" / "2026").mkdir(parents=True)
    assert first.again(before).words == ("train", str(run))
    with pytest.raises(InputError, match="several seeds"):
        command(run, "train", str(run), "--overwrite", several=True).again(before)
    assert command(run, "run", "x", "-o", str(run)).again(before).words[-1] == "--resume"
    assert command(run, "run", "x", "--resume").again(before).words == ("run", "x", "--resume")
    assert not Snapshot.of(run).is_further_than([before]), "a move is no progress"
    (run / "train" / "checkpoints" / "step_1").mkdir(parents=True)
    further = Snapshot.of(run)
    assert further.is_further_than([before]) and not further.is_further_than([before, further])
    with (run / "trajectories.jsonl").open("a") as file:
        file.write("{}\n")
    assert Snapshot.of(run).is_further_than([before, further])
    assert not before.is_further_than([Snapshot.of(run)]), "to lose something is no progress"


@pytest.mark.parametrize(
    ("codes", "lost", "interrupted", "again"),
    [
        ({0: 0, 1: 0}, {}, False, False),
        ({0: 2, 1: 1}, {}, False, False),  # a user's mistake
        ({0: 7, 1: 0}, {}, False, False),  # a guard rail
        ({0: 8, 1: 137}, {1: "process 1 was killed"}, False, True),
        ({0: 130, 1: 137}, {1: "process 1 was killed"}, False, True),  # it was asked to end, by us
        ({0: 130, 1: 1}, {}, True, False),  # by the user
        ({0: 2, 1: 137}, {1: "process 1 was killed"}, False, True),  # before they met
        ({0: 1, 1: 1}, {}, False, True),
        ({0: 0, 1: 137}, {1: "process 1 was killed"}, False, False),  # when all was done
        ({0: None}, {0: "its machine is gone"}, False, True),
    ],
)
def test_only_a_loss_is_tried_again(codes: Any, lost: Any, interrupted: bool, again: bool) -> None:
    from pivotrl.cli.cluster.launch import _judged

    assert bool(_judged(Ending(codes, lost, interrupted))) is again


def everything(seat: Seat) -> tuple[bytes, bytes, int]:
    out = {1: b"", 2: b""}
    while True:
        written, code = seat.poll(1.0)
        for number, data in written:
            out[number] += data
        if code is not None:
            return out[1], out[2], code


PRINTS = """
import os, sys
print(sys.stdout.isatty(), os.get_terminal_size(2))
print("é")
print("é", file=sys.stderr)
sys.exit(7)
"""


def test_a_seat_passes_on_what_is_written_as_it_was(tmp_path: Path) -> None:
    seat = Seat()
    seat.start([sys.executable, "-c", PRINTS], {}, str(tmp_path), {"size": (33, 99), "shown": [2]})
    out, err, code = everything(seat)
    assert (err, code) == ("é\n".encode(), 7), "a terminal changes no byte"
    assert out == "False os.terminal_size(columns=99, lines=33)\né\n".encode()
    seat.start([sys.executable, "-c", "print('x' * 300_000)"], {}, str(tmp_path), {"size": (1, 1), "shown": []})
    assert everything(seat) == (b"x" * 300_000 + b"\n", b"", 0)
    kind, text, _ = seat.ask("start", ["no-such-program"], {}, str(tmp_path), {"size": (1, 1), "shown": []})
    assert kind == "InputError" and "no program 'no-such-program'" in text


def test_a_port_in_use_is_refused() -> None:
    seat = Seat()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        kind, text, _ = seat.ask("free_port", "127.0.0.1", port)
    assert kind == "InputError" and f"port {port} of 127.0.0.1 cannot be used" in text
    assert seat.free_port("127.0.0.1", None) > 0


SLEEPS = "import subprocess, time; subprocess.Popen(['sleep', '600']); print('ready', flush=True); time.sleep(600)"


def group_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def members(group: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, _, number = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(number) == group and state != "Z":
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("way", ["stdin closes", "the tether is killed", "the command is killed"])
def test_nothing_outlives_whoever_started_it(way: str) -> None:
    words = [sys.executable, "-I", "-S", str(TETHER), sys.executable, "-c", SLEEPS]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tether:
        assert tether.stdin and tether.stdout and tether.stdout.readline() == b"ready\n"
        group = group_of(tether.pid)
        assert len(members(group)) == 2
        if way == "stdin closes":
            tether.stdin.close()
        else:
            os.kill(tether.pid if way == "the tether is killed" else group, signal.SIGKILL)
        assert tether.wait(10) in (137, -9)
        until = time.monotonic() + 10
        left = 1 if way == "the tether is killed" else 0  # what the command had started is then its own affair
        while len(members(group)) > left and time.monotonic() < until:
            time.sleep(0.02)
        assert len(members(group)) == left
        for pid in members(group):
            os.kill(pid, signal.SIGKILL)


def test_a_signal_reaches_the_command(tmp_path: Path) -> None:
    seat = Seat()
    code = "import signal, sys, time; signal.signal(15, lambda *_: exit(130)); "
    code += "sys.stdout.write('ready\\n'); sys.stdout.flush(); time.sleep(60)"
    seat.start([sys.executable, "-c", code], {}, str(tmp_path), {"size": (1, 1), "shown": []})
    assert seat.poll(30.0)[0] == [(1, b"ready\n")]
    seat.signal(signal.SIGTERM)
    assert everything(seat)[2] == 130
