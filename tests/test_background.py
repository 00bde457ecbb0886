"""Whatever a tracker does, the run goes on and says so once."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pivotrl import TrainingOptions, cut, train
from pivotrl.policies.tabular import Policy
from pivotrl.protocols import InputError, Notice
from pivotrl.protocols.background import Background
from pivotrl.protocols.observing import Observer
from pivotrl.runs.manifest import manifest_path, read_manifest
from pivotrl.verifiers.exact import verify
from test_continuing import pivotrl
from test_pipeline import write_logs
from test_training import logs

OPTIONS = TrainingOptions(num_steps=6, turns_per_step=4, group_size=4, learning_rate=1.0)
FAST = ["--policy", "tabular", "--verifier", "exact", "--num-samples", "8", "--num-steps", "6", "--turns-per-step", "4"]


class Heard(Observer):
    def __init__(self) -> None:
        self.steps, self.threads = list[int](), {threading.get_ident()}

    def step(self, number: int, metrics: Mapping[str, float]) -> None:
        self.steps.append(number)
        self.threads.add(threading.get_ident())


class Raising(Observer):
    def step(self, number: int, metrics: Mapping[str, float]) -> None:
        if number == 2:
            raise OSError(28, "No space left on device")


class SlowToStart(Heard):
    def __init__(self) -> None:
        super().__init__()
        time.sleep(1.0)


class NeverStarting(Observer):
    """As a client that logs in where there is no network."""

    def __init__(self) -> None:
        threading.Event().wait()


class Hanging(Observer):
    def step(self, number: int, metrics: Mapping[str, float]) -> None:
        threading.Event().wait()


def trained(tmp_path: Path, observer: Observer) -> list[str]:
    """The notices of a training under this observer, which must end as always."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", Notice)
        assert len(train(Policy(), cut(logs())[0], verify, tmp_path, OPTIONS, observer)) == 6
        observer.close()
        observer.close()
    return [str(warning.message) for warning in told if "tracker" in str(warning.message)]


def test_events_come_in_order_in_the_thread_that_made_the_observer(tmp_path: Path) -> None:
    heard: list[Heard] = []
    assert trained(tmp_path, Background("heard", lambda: heard.append(Heard()) or heard[0])) == []  # type: ignore[func-returns-value]
    assert heard[0].steps == list(range(6)) and heard[0].threads - {threading.get_ident()} == heard[0].threads
    assert len(heard[0].threads) == 1


def test_one_that_raises_is_told_of_once(tmp_path: Path) -> None:
    told = trained(tmp_path, Background("full", Raising))
    assert told == [
        "the tracker full failed in step and gets no more events: OSError: [Errno 28] No space left on device"
    ]


def test_one_that_hangs_holds_nobody_up_and_is_told_of_once(tmp_path: Path) -> None:
    began = time.monotonic()
    told = trained(tmp_path, Background("stuck", Hanging, patience_seconds=0.5))
    assert time.monotonic() - began < 10
    assert len(told) == 1 and "the tracker stuck is still busy with 'step'" in told[0] and "not passed on" in told[0]


def test_one_that_is_too_slow_gets_no_more(tmp_path: Path) -> None:
    told = trained(tmp_path, Background("slow", Hanging, capacity=4))
    assert len(told) == 1 and "the tracker slow does not keep up and gets no more events" in told[0]


def test_a_fault_in_the_making_is_raised_at_once() -> None:
    def make() -> Observer:
        raise InputError("no such project")

    with pytest.raises(InputError, match="no such project"):
        Background("bad", make)


def test_one_whose_constructor_hangs_is_left_out_and_a_slow_one_is_not(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.warns(Notice) as told:
        stuck = Background("stuck", NeverStarting, making_seconds=0.3)
    assert [str(warning.message) for warning in told] == [
        "the tracker stuck was not ready after 0.3 s; the run goes on without it"
    ]
    assert trained(tmp_path / "stuck", stuck) == [] and time.monotonic() - began < 10

    heard: list[Heard] = []
    slow = Background("slow", lambda: heard.append(SlowToStart()) or heard[0], making_seconds=30.0)  # type: ignore[func-returns-value]
    assert trained(tmp_path / "slow", slow) == []
    assert heard[0].steps == list(range(6))


def test_one_that_is_ready_too_late_is_closed_and_hears_nothing(tmp_path: Path) -> None:
    closed = threading.Event()

    class Late(SlowToStart):
        def close(self) -> None:
            assert self.steps == []
            closed.set()

    with pytest.warns(Notice, match="was not ready after 0.1 s"):
        late = Background("late", Late, making_seconds=0.1)
    late.step(0, {})
    assert closed.wait(10)


def test_a_command_with_trackers_that_fail_ends_well_and_tells_why(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = ["test_background:Raising", "test_background:Hanging"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }
    script = (
        "from pivotrl.protocols.background import Background; Background.__init__.__defaults__ = (1.0, 2000, 60.0)\n"
    )
    script += "from pivotrl.cli import main; main()"
    command = [sys.executable, "-c", script, "run", write_logs(tmp_path / "logs.jsonl"), "-o", tmp_path / "run", *FAST]
    done = subprocess.run(
        [*command, "--tracker", *broken], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert said.count("pivotrl: the tracker test_background:Raising failed in step") == 1
    assert said.count("pivotrl: the tracker test_background:Hanging") == 1
    assert (tmp_path / "run/report.html").is_file()


def test_a_command_goes_on_without_a_tracker_that_never_starts(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(
        "import threading\nfrom pivotrl.protocols.observing import Observer\n\n\nclass Tracker(Observer):\n"
        "    def __init__(self):\n        threading.Event().wait()\n"
    )
    script = (
        "from pivotrl.protocols.background import Background; Background.__init__.__defaults__ = (30.0, 2000, 1.0)\n"
    )
    script += "from pivotrl.cli import main; main()"
    command = [sys.executable, "-c", script, "run", write_logs(tmp_path / "logs.jsonl"), "-o", tmp_path / "run", *FAST]
    done = subprocess.run(
        [*command, "--tracker", "stuck:Tracker"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    told = "pivotrl: the tracker stuck:Tracker was not ready after 1 s; the run goes on without it"
    assert " ".join(done.stderr.split()).count(told) == 1
    assert (tmp_path / "run/report.html").is_file()


def test_trackers_are_remembered_and_can_be_left_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run, events = tmp_path / "run", tmp_path / "events.jsonl"
    named = f"jsonl(path='{events}')"
    assert pivotrl("read", write_logs(tmp_path / "logs.jsonl", 12), "-o", run) == 0
    assert pivotrl("profile", run, *FAST[:6]) == 0 and pivotrl("select", run) == 0
    assert pivotrl("train", run, *FAST[6:], "--tracker", named) == 0
    assert read_manifest(manifest_path(run, "train")).options["tracker"] == [named]
    first = events.read_text().count('"event": "step"')
    capfd.readouterr()
    assert pivotrl("train", run, "--num-steps", "8") == 0, "two more steps"
    assert f"--tracker {named}" in " ".join(capfd.readouterr().err.split())
    assert first == 6 and events.read_text().count('"event": "step"') == 8
    assert pivotrl("train", run, "--num-steps", "9", "--tracker") == 0
    assert events.read_text().count('"event": "step"') == 8
    assert read_manifest(manifest_path(run, "train")).options["tracker"] == []


# --- servers that do not answer ---------------------------------------------------------------------------------------


@pytest.fixture
def silent_server() -> Iterator[tuple[int, list[Any]]]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[Any] = []

        def take() -> None:
            try:
                while True:
                    taken.append(server.accept()[0])
            except OSError:
                return

        threading.Thread(target=take, daemon=True).start()
        yield server.getsockname()[1], taken
        for connection in taken:
            connection.close()


@pytest.mark.parametrize("answer", ["refuses connections", "refuses the key"])
def test_wandb_online_without_a_network_or_with_a_wrong_key_stops_nothing(answer: str, tmp_path: Path) -> None:
    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = 9 if answer == "refuses connections" else server.server_port
        environment = {**os.environ, "WANDB_MODE": "online", "WANDB_BASE_URL": f"http://127.0.0.1:{port}"}
        environment |= {
            "WANDB_API_KEY": "0" * 40,
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "HTTP_PROXY": "",
            "NO_PROXY": "*",
        }
        tracker = "wandb(timeout_seconds=3.0)"
        command = [sys.executable, "-m", "pivotrl.cli", "run", write_logs(tmp_path / "logs.jsonl"), "-o"]
        command += [tmp_path / "run", *FAST, "--tracker", tracker]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert "pivotrl: the tracker wandb" in done.stderr
    assert (tmp_path / "run/report.html").is_file()


@pytest.mark.parametrize(("mode", "told"), [("online", "the tracker wandb "), ("offline", "")])
def test_wandb_reaches_its_server_only_if_asked_and_a_silent_one_stops_nothing(
    mode: str, told: str, silent_server: tuple[int, list[Any]], tmp_path: Path
) -> None:
    port, taken = silent_server
    environment = {**os.environ, "WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": "0" * 40}
    environment["HTTPS_PROXY"] = environment["HTTP_PROXY"] = environment["WANDB_BASE_URL"]  # whatever else it calls
    tracker = f"wandb(mode='{mode}', timeout_seconds=3.0)"
    command = [sys.executable, "-m", "pivotrl.cli", "run", write_logs(tmp_path / "logs.jsonl"), "-o", tmp_path / "run"]
    command += [*FAST, "--tracker", tracker]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/report.html").is_file()
    assert bool(taken) == (mode == "online")
    assert told in done.stderr and done.stderr.count("pivotrl: the tracker") == bool(told)
