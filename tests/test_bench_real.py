"""tau2-bench and BFCL themselves, installed by `pivotrl bench`: gold, SmolLM2-135M, and their files read back.

Run alone: make test-bench
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra 'hf'")
pytest.importorskip("uvicorn", reason="needs the extra 'serve'")

import dataclasses

from pivotrl import plugins
from pivotrl.protocols.harness import Asked
from pivotrl.readers import bench as bench_reader
from pivotrl.records import Trajectory, TrialResult
from pivotrl.report.benches import benches_of
from pivotrl.report.page import write_report
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
from pivotrl.storage.record_files import RecordFile
from serving_setup import Process

pytestmark = pytest.mark.slow
BFCL = "bfcl(categories=('simple_python', 'irrelevance', 'live_multiple', 'multi_turn_base', 'multi_turn_miss_func'))"
SMALL = BenchOptions(tasks=2, processes=1, max_tokens=48, temperature=0.7, seed=3)


def python_of(spec: str) -> Path | None:
    """An environment that exists already, from TAU2_PYTHON or BFCL_PYTHON; else it is installed."""
    given = os.environ.get(f"{spec.partition('(')[0].upper()}_PYTHON")
    return Path(given) if given else None


def play(directory: Path, spec: str, contestant: Contestant | None = None, **more: Any) -> dict[str, TrialResult]:
    harness = plugins.load("harnesses", spec)
    name = spec.partition("(")[0]
    who = contestant or gold_contestant(harness)
    options = {"bench": BenchOptions(tasks=4, processes=2), **more}
    bench_stage(directory, name, who, harness=harness, harness_python=python_of(spec), **options)
    file = RecordFile(directory / "bench" / name / f"{who.name}.trials.jsonl", TrialResult)
    return {result.trial_key: result for result in file}


def read_back(directory: Path, name: str, player: str) -> list[Trajectory]:
    found = list(bench_reader.read(directory / "bench" / name / player))
    assert all(isinstance(item, Trajectory) for item in found), found
    return [item for item in found if isinstance(item, Trajectory)]


@pytest.fixture(scope="module")
def small() -> Iterator[Contestant]:
    """SmolLM2-135M-Instruct, as a user serves it."""
    server = Process("smollm2-135m-instruct", "--name", "smollm", "--port", "0", "--engine", "own")
    try:
        yield outside_contestant("smollm", outside_player(server.url(), "smollm", None, "endpoint"))
    finally:
        server.end()


@pytest.mark.parametrize("spec", ["tau2", "tau2(domain='airline')", "tau2(domain='retail')"])
def test_gold_solves_tau2(spec: str, tmp_path: Path) -> None:
    found = play(tmp_path, spec)
    assert [result.reward for result in found.values()] == [1.0] * 4, found
    for trajectory in read_back(tmp_path, "tau2", "gold"):
        assert trajectory.reward == 1.0 and trajectory.tools
        if spec == "tau2":  # alone: the log holds all that the agent saw, the ticket included
            assert "<ticket>" in (trajectory.messages[0].content or "") and not trajectory.excluded
            assert trajectory.messages[-1].tool_calls[0].name == "done"


def test_gold_solves_bfcl(tmp_path: Path) -> None:
    found = play(tmp_path, BFCL, bench=BenchOptions(tasks=12, processes=2))
    assert [result.reward for result in found.values()] == [1.0] * 12, found
    talks = read_back(tmp_path, "bfcl", "gold")
    assert len(talks) == 12 and all(talk.reward == 1.0 and talk.tools for talk in talks)
    assert any(message.role == "tool" for talk in talks for message in talk.messages)


@pytest.mark.parametrize(
    "spec", ["tau2(domain='mock', tool_choice='auto')", "bfcl(categories=('simple_python', 'irrelevance'))"]
)
def test_the_small_model_does_what_it_does_and_stands_beside_gold(spec: str, small: Contestant, tmp_path: Path) -> None:
    play(tmp_path, spec, bench=SMALL)
    found = play(tmp_path, spec, small, bench=SMALL)
    assert len(found) == 2 and all(result.reward in (0.0, 1.0) for result in found.values()), found
    assert all(result.num_turns and result.num_tokens for result in found.values()), "the cost is told"
    (bench,) = benches_of(RunFiles(tmp_path), read_manifests(tmp_path))
    assert [player.name for player in bench.players] == ["smollm", "gold"]
    page = write_report(tmp_path).read_text()
    assert ">smollm<" in page and ">gold<" in page
    for trajectory in read_back(tmp_path, bench.name, "smollm"):
        assert any(message.role == "assistant" for message in trajectory.messages)


def test_bfcl_never_runs_what_a_model_wrote(tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    def attack(asked: Asked) -> Mapping[str, Any]:
        touch = f"__import__('pathlib').Path({str(trace)!r}).touch"
        named = {"name": "cd", "arguments": {f"folder=open({str(trace)!r}, 'w'), x": "y"}}
        opened = {"name": "open", "arguments": {"file": str(trace), "mode": "w"}}
        calls = [{"name": touch, "arguments": {}}, named, opened]
        return {"content": "Done."} if asked.num_answers % 2 else {"tool_calls": [calls[asked.num_answers // 2 % 3]]}

    with serving_gold(attack) as player:
        attacker = outside_contestant("attacker", dataclasses.replace(player, is_gold=False))
        harness = "bfcl(categories=('multi_turn_base',))"
        with pytest.MonkeyPatch.context() as patch:  # the script's field user, by which the attack knows the task
            module = plugins.find("harnesses", "bfcl")
            command = module.command  # type: ignore[attr-defined]

            def named(self: Any, home: Any, batch: Any) -> Any:
                words = command(self, home, batch)
                told = words.words[2].replace('"names_tasks": false', '"names_tasks": true')
                return dataclasses.replace(words, words=[*words.words[:2], told])

            patch.setattr(module, "command", named)
            found = play(tmp_path, harness, attacker, bench=BenchOptions(tasks=1, processes=1))
    assert [result.reward for result in found.values()] == [0.0]
    assert not trace.exists()
