"""Inspect AI itself, installed by `pivotrl bench`: gold, attacks, faults of an endpoint, SmolLM2-135M, its logs.

INSPECT_PYTHON may name an interpreter that has it. Run alone: make test-bench
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra 'hf'")
pytest.importorskip("uvicorn", reason="needs the extra 'serve'")

from pivotrl.harnesses.inspect import Harness
from pivotrl.protocols import InputError
from pivotrl.protocols.harness import Asked, Player
from pivotrl.readers import bench as bench_reader
from pivotrl.records import Trajectory, TrialResult
from pivotrl.report.benches import benches_of
from pivotrl.report.summary import read_manifests
from pivotrl.runs.files import RunFiles
from pivotrl.stages.benching import BenchOptions, bench_stage
from pivotrl.stages.benching.endpoints import (
    Contestant,
    gold_contestant,
    outside_contestant,
    outside_player,
    serving_gold,
)
from pivotrl.stages.benching.homes import home_of
from pivotrl.storage.record_files import RecordFile
from pivotrl.turns import cut
from serving_setup import Process

pytestmark = pytest.mark.slow
TASKS = Path(__file__).parent / "data" / "inspect"
PYTHON = Path(os.environ["INSPECT_PYTHON"]) if "INSPECT_PYTHON" in os.environ else None


def harness(name: str, **options: Any) -> Harness:
    return Harness(task=name if "/" in name else str(TASKS / name), **options)


def play(directory: Path, one: Harness, contestant: Contestant | None = None, **more: Any) -> dict[str, TrialResult]:
    who = contestant or gold_contestant(one)
    bench = BenchOptions(**{"processes": 1, "task_seconds": 120.0, **more})
    bench_stage(directory, "inspect", who, harness=one, bench=bench, harness_python=PYTHON)
    file = RecordFile(directory / "bench" / "inspect" / f"{who.name}.trials.jsonl", TrialResult)
    return {result.task_id: result for result in file}


def read_back(directory: Path, player: str = "gold") -> list[Trajectory]:
    found = list(bench_reader.read(directory / "bench" / "inspect" / player))
    assert all(isinstance(item, Trajectory) for item in found), found
    return [item for item in found if isinstance(item, Trajectory)]


@pytest.mark.parametrize(("name", "count"), [("sums.py@sums", 3), ("sums.py@letters", 3), ("files.py@word_in_file", 1)])
def test_gold_answers_targets_letters_and_by_the_tool_that_submits(name: str, count: int, tmp_path: Path) -> None:
    arguments = {"count": count} if name.endswith("sums") else None
    found = play(tmp_path, harness(name, arguments=arguments))
    assert [result.reward for result in found.values()] == [1.0] * count, found
    assert {result.num_turns for result in found.values()} == {1}
    talks = read_back(tmp_path)
    assert len(talks) == count and all(talk.reward == 1.0 for talk in talks)
    turns, skipped = cut(talks)
    assert len(turns) == count and not skipped


def test_gold_repeats_a_log_where_tools_must_be_used_and_commands_run_in_our_sandbox(tmp_path: Path) -> None:
    spec = harness("files.py@longest_log")
    python = home_of(spec, PYTHON).python
    words = [str(python.with_name("inspect")), "eval", spec.task, "--solver", str(TASKS / "files.py@expert")]
    words += ["--model", "mockllm/model", "--display", "none", "--log-dir", str(tmp_path / "logs")]
    subprocess.run(words, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""})
    (log,) = (tmp_path / "logs").glob("*.eval")
    found = play(tmp_path, harness("files.py@longest_log", gold_log=str(log)))
    assert {name: result.reward for name, result in found.items()} == {"1": 1.0, "2": 1.0}, found
    talks = read_back(tmp_path)
    turns, _ = cut(talks)
    assert len(turns) == 6 and all(talk.tools and talk.reward == 1.0 for talk in talks)
    assert "state.txt" in str(talks[0].messages), "the sample's setup ran there"


def test_a_public_task_with_tools_and_bundled_data_is_played_by_its_own_solution(tmp_path: Path) -> None:
    arguments = {"workspace": "banking", "with_sandbox_tasks": "no", "with_injections": False}
    spec = harness("inspect_evals/agentdojo", arguments=arguments)
    python = home_of(spec, PYTHON).python
    words = [str(python.with_name("inspect")), "eval", spec.task, "-T", "agent=ground_truth"]
    words += [
        word for name, value in arguments.items() for word in ("-T", f"{name}={json.dumps(value).strip(chr(34))}")
    ]
    words += ["--model", "mockllm/model", "--display", "none", "--log-dir", str(tmp_path / "logs")]
    subprocess.run(words, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""})
    (log,) = (tmp_path / "logs").glob("*.eval")
    found = play(tmp_path, dataclasses.replace(spec, gold_log=str(log)), tasks=4)
    assert [result.reward for result in found.values()] == [1.0] * 4, found
    manifest = json.loads((tmp_path / "bench" / "inspect" / "gold.manifest.json").read_bytes())
    assert manifest["inputs"]["package inspect_evals"] == "0.26.0" and len(manifest["inputs"]["samples"]) == 64


def test_what_a_model_writes_runs_nowhere_else_and_a_flood_is_cut(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    commands = (
        f"touch {trace}",
        "cat /etc/shadow; ls /root /home",
        "python3 -c \"import socket; socket.create_connection(('1.1.1.1', 80), 2)\"",
        "yes | head -c 30000000",
        "sleep 97.13",
    )

    def attack(asked: Asked) -> Mapping[str, Any]:
        if asked.num_answers == len(commands):
            return {"content": "Done."}
        return {"tool_calls": [{"name": "bash", "arguments": {"command": commands[asked.num_answers]}}]}

    with serving_gold(attack) as player:
        attacker = outside_contestant("attacker", player)
        found = play(tmp_path, harness("files.py@longest_log"), attacker, tasks=1)
    assert [result.reward for result in found.values()] == [0.0]
    (talk,) = read_back(tmp_path, "attacker")
    told = [message.content or "" for message in talk.messages if message.role == "tool"]
    assert not trace.exists() and "touch: cannot touch" in told[0]
    assert "cat: /etc/shadow: No such file" in told[1] and "cannot access '/root'" in told[1]
    assert "Network is unreachable" in told[2]
    assert "too long to be displayed" in told[3] and len(told[3]) < 100_000
    assert "timed out" in told[4]


@contextmanager
def answering(reply: Callable[[Any], tuple[int, Any]]) -> Iterator[Contestant]:
    """A server that answers each request with a status and a body."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, {"data": [{"id": "m"}]})

        def do_POST(self) -> None:
            self._send(*reply(json.loads(self.rfile.read(int(self.headers["content-length"])))))

        def _send(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield outside_contestant("m", Player(f"http://127.0.0.1:{server.server_port}/v1", "m"))
    finally:
        server.shutdown()
        server.server_close()


TOO_LONG = {"error": {"message": "This model's maximum context length is 9", "code": "context_length_exceeded"}}


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [(500, {"error": {"message": "broken"}}, "sample_failed"), (400, TOO_LONG, "context_exceeded")],
)
def test_a_fault_of_the_endpoint_is_no_verdict(status: int, body: Any, reason: str, tmp_path: Path) -> None:
    with answering(lambda asked: (status, body)) as contestant:
        found = play(tmp_path, harness("sums.py@sums", arguments={"count": 1}), contestant)
    assert [(result.reward, result.reason) for result in found.values()] == [(None, reason)]


def test_an_endpoint_that_goes_away_stops_the_command_and_keeps_what_was_played(tmp_path: Path) -> None:
    spec = harness("sums.py@sums")
    gone = threading.Event()

    def answer(asked: Asked) -> Mapping[str, Any]:
        if asked.num_answers == 0 and "3 + 3" in str(asked.messages):
            gone.set()
        return {"content": "2"}

    told: list[str] = []

    def go(player: Player) -> None:
        try:
            play(tmp_path, spec, outside_contestant("m", player))
        except InputError as error:
            told.append(str(error))

    with serving_gold(answer) as player:
        playing = threading.Thread(target=go, args=(player,))
        playing.start()
        assert gone.wait(120)
    playing.join(120)
    file = RecordFile(tmp_path / "bench" / "inspect" / "m.trials.jsonl", TrialResult)
    assert "does not answer" in told[0] and {"sum/1", "sum/2"} <= {result.task_id for result in file}
    assert all(result.reward is not None for result in file)


def test_a_player_never_grades_itself_and_odd_scores_are_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="would grade itself: give --simulator-endpoint"):
        play(tmp_path, harness("sums.py@graded"))
    found = play(tmp_path / "self", harness("sums.py@self_graded"))
    assert [(result.reward, result.reason) for result in found.values()] == [(None, "graded_by_player")]
    found = play(tmp_path / "long", harness("sums.py@lengths"))
    assert [(result.reward, result.reason) for result in found.values()] == [(None, "score_outside_0_1")]


def test_a_model_that_grades_is_the_simulator(tmp_path: Path) -> None:
    def grader(asked: Asked) -> Mapping[str, Any]:
        return {"content": "GRADE: C" if "[Submission]: 2" in str(asked.messages) else "GRADE: I"}

    spec = harness("sums.py@graded")
    with serving_gold(grader) as player:
        judge = dataclasses.replace(player, is_gold=False, base_url=player.base_url.replace("/v1", "/user/x/v1"))
        bench = BenchOptions(processes=1)
        bench_stage(
            tmp_path,
            "inspect",
            gold_contestant(spec),
            harness=spec,
            bench=bench,
            simulator=judge,
            harness_python=PYTHON,
        )
    (result,) = RecordFile(tmp_path / "bench" / "inspect" / "gold.trials.jsonl", TrialResult)
    assert (result.reward, result.num_turns) == (1.0, 1)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("sums.py", {}, "holds several tasks; name one of .*sums.py@sums, "),
        ("sums.py@nothing", {}, "cannot be loaded"),
        ("sums.py@sums", {"arguments": {"nothing": 1}}, "cannot be loaded"),
        ("sums.py@sums", {"scorer": "includes"}, "has no score 'includes'; there are match"),
        (
            "inspect_evals/agent_threat_bench_memory_poison",
            {},
            "several parts: give scorer='agent_threat_bench_scorer.uti",
        ),
        ("inspect_evals/no_such_task", {}, "cannot be loaded|holds no task"),
    ],
)
def test_tasks_that_cannot_be_used_are_refused(name: str, options: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        play(tmp_path, harness(name, **options))
    assert not (tmp_path / "bench").exists()


def test_samples_that_need_an_image_are_left_out_and_own_sandboxes_need_docker(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="1 of 2 samples .* wants the sandbox docker with compose.yaml"):
        assert set(play(tmp_path, harness("files.py@image"))) == {"2"}
    if subprocess.run(["docker", "info"], capture_output=True).returncode:
        with pytest.raises(InputError, match="it wants docker, and `docker info` fails here"):
            play(tmp_path / "own", harness("files.py@longest_log", arguments={"kind": "docker"}, backend="own"))


def test_the_small_model_does_what_it_does_and_stands_beside_gold(tmp_path: Path) -> None:
    spec = harness("sums.py@sums")
    server = Process("smollm2-135m-instruct", "--name", "smollm", "--port", "0", "--engine", "own")
    try:
        small = outside_contestant("smollm", outside_player(server.url(), "smollm", None, "endpoint"))
        found = play(tmp_path, spec, small, tasks=2, max_tokens=24, temperature=0.7)
        tools = play(tmp_path / "tools", harness("files.py@longest_log"), small, tasks=1, max_tokens=24)
    finally:
        server.end()
    assert len(found) == 2 and all(result.reward in (0.0, 1.0) for result in (*found.values(), *tools.values())), found
    assert all(result.num_turns and result.num_tokens for result in found.values()), "the cost is told"
    play(tmp_path, spec, tasks=2, max_tokens=24, temperature=0.7)
    (bench,) = benches_of(RunFiles(tmp_path), read_manifests(tmp_path))
    assert [player.name for player in bench.players] == ["smollm", "gold"]
