"""`pivotrl plan`: samples a pilot once, goes on where it stopped, and prefers a profile.

Run alone: python -m pytest tests/test_plan_command.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pivotrl.policies.tabular import Policy as TabularPolicy
from pivotrl.profiling import ProfileOptions
from pivotrl.protocols import Turn
from pivotrl.protocols.observing import Observer
from pivotrl.records import BatchTime, SampleGroup, Sampling
from pivotrl.runs.costs import cost_of
from pivotrl.runs.manifest import read_manifest
from pivotrl.stages.planning import PilotOptions, pilot_stage, profile_as_pilot
from pivotrl.stages.profiling import profile_stage
from pivotrl.storage.record_files import read_records
from pivotrl.verifiers.exact import verify as exact
from test_cli import call, refused
from test_pipeline import write_logs
from tiny import save_tiny_model

FLAGS = ("--policy", "tabular", "--verifier", "exact", "--num-samples", "4")
NUM_TURNS = 60
"""Candidate turns of the run: 20 tasks of three."""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    out = tmp_path / "run"
    assert call("read", write_logs(tmp_path / "logs.jsonl"), "-o", out, "--heldout-fraction", 0) == 0
    return out


def planned(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    capsys.readouterr()
    assert call("plan", *arguments, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def pilot_of(run: Path) -> dict[str, SampleGroup]:
    return {group.turn_id: group for group in read_records(run / "plan/pilot/groups.jsonl", SampleGroup)}


class Counting(TabularPolicy):
    """Notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def sample(
        self, turns: Sequence[Turn], num_samples: int, sampling: Sampling, first: int = 0
    ) -> Iterator[SampleGroup]:
        if num_samples > 1:  # not the prompts alone
            self.asked += [turn.id for turn in turns]
        return super().sample(turns, num_samples, sampling, first)


class Interrupts(Observer):
    def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
        if kind == "turns of the pilot" and done >= 8:
            raise KeyboardInterrupt


OPTIONS = ProfileOptions(num_samples=4, batch_turns=4)


def test_a_pilot_foretells_what_the_profile_then_finds(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys, run, *FLAGS)["plan"]["found"]
    assert (plan["num_turns"], plan["num_candidates"]) == (30, NUM_TURNS) and plan["num_tasks"] >= 15
    pilot = pilot_of(run)
    assert call("profile", run) == 0  # takes policy, verifier and K from the pilot
    whole = {group.turn_id: group for group in read_records(run / "profiles.jsonl", SampleGroup)}
    assert len(whole) == NUM_TURNS
    assert all(group.completions_G == whole[name].completions_G for name, group in pilot.items())
    pivots = planned(capsys, run)["plan"]["found"]["pivots"]
    assert pivots["low"] == pivots["high"]
    assert plan["pivots"]["low"] <= pivots["mean"] <= plan["pivots"]["high"]


def test_a_killed_pilot_goes_on_and_a_larger_one_adds_turns(run: Path) -> None:
    policy = Counting()

    def pilot(number: int, **more: Any) -> list[str]:
        policy.asked.clear()
        pilot_stage(run, sampler=policy, verifier=exact, profiling=OPTIONS, pilot=PilotOptions(float(number)), **more)
        return list(policy.asked)

    with pytest.raises(KeyboardInterrupt):
        pilot(12, observer=Interrupts())
    first = set(pilot_of(run))
    assert len(first) == 8
    again = pilot(5)  # goes on to the twelve that it began with
    assert len(again) == 4 and not first & set(again)
    assert pilot(12) == pilot(5) == []  # what is there is taken
    more = pilot(20)
    assert len(more) == 8 and len(set(more) | set(again) | first) == 20
    manifest = read_manifest(run / "plan/pilot.manifest.json")
    assert manifest.counts["asked_turns"] == 20
    times = read_records(run / "plan/pilot/times.jsonl", BatchTime)
    assert sum(time.num_samples for time in times if time.kind == "samples") == 20 * 4
    prompts = sum(time.num_samples for time in times if time.kind == "prompts")
    assert cost_of(run, "plan/pilot", manifest).rollout_turns == 20 * 4 + prompts > 20 * 4


def test_a_pilot_is_shown_with_its_cost_and_refuses_other_settings(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(capsys, run, *FLAGS)
    assert call("status", run, "--json") == 0
    stages = {stage["stage"]: stage for stage in json.loads(capsys.readouterr().out)["stages"]}
    assert stages["plan/pilot"]["state"] == "done" and stages["plan/pilot"]["rollout_turns"] >= 120
    told = refused(capsys, 2, "plan", run, "--temperature", "0.7")
    assert "temperature: was 1.0, now 0.7" in told and f"pivotrl plan {run} --overwrite" in told
    assert call("plan", run, "--temperature", "0.7", "--num-samples", "4", "--overwrite") == 0
    assert list((run / "replaced").glob("*/plan/pilot/groups.jsonl"))
    assert call("report", run) == 0


def test_a_profile_takes_the_place_of_a_pilot(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("profile", run, *FLAGS) == 0
    capsys.readouterr()
    assert call("plan", run) == 0
    assert f"from the profile: {NUM_TURNS} of {NUM_TURNS} candidate turns" in capsys.readouterr().out
    assert not (run / "plan").exists()
    assert planned(capsys, run, "--pilot", "10")["plan"]["found"]["num_turns"] == 10


class StopsProfile(Observer):
    def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
        if kind == "turns profiled" and done >= 20:
            raise KeyboardInterrupt


def test_a_profile_in_progress_is_taken_as_it_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        profile_stage(run, sampler=TabularPolicy(), verifier=exact, profiling=OPTIONS, observer=StopsProfile())
    found = profile_as_pilot(run)
    assert found is not None and 20 <= len(found.asked) < NUM_TURNS == len(found.candidates)
    assert call("plan", run) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"from the profile so far: {len(found.asked)} of {NUM_TURNS} candidate turns" in shown
    assert "--pilot draws turns at random" in shown


def test_without_a_run_there_must_be_a_model_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--model-size" in refused(capsys, 2, "plan")
    assert "holds no run" in refused(capsys, 2, "plan", tmp_path)
    assert "neither a size such as 8B nor a folder" in refused(capsys, 2, "plan", "--model-size", "huge")
    assert "either --model or --model-size" in refused(capsys, 2, "plan", "--model-size", "8B", "--model", "x")
    assert "--gpus must be greater than" in refused(capsys, 2, "plan", "--model-size", "8B", "--gpus", "0")
    assert "no config.json" in refused(capsys, 2, "plan", "--model", tmp_path, "--gpus", "2")
    assert call("plan", "--model-size", "8B", "--gpus", "8") == 0
    shown = capsys.readouterr().out
    assert "8.03 B parameters" in shown and "--decode-utilisation 0.5" in shown


def test_the_table_by_formula_takes_the_tokens_of_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys, run, *FLAGS, "--model-size", "8B")
    found, load = plan["plan"]["found"], plan["hardware"]["load"]
    assert load["candidate_turns"] == NUM_TURNS and load["num_samples"] == 4
    assert load["action_length"] == pytest.approx(found["tokens_per_sample"]["mean"])


@pytest.mark.parametrize("more", [(), ("--model-size", "70B", "--gpus", "64", "--price-per-hour", "200")])
def test_nothing_is_wider_than_80_columns(
    more: tuple[str, ...], run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    capsys.readouterr()
    assert call("plan", run, *FLAGS, *more) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 20 and max(map(len, lines)) <= 80


def test_the_table_counts_the_model_that_is_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_tiny_model(tmp_path / "tiny")
    for arguments in (("--model", folder), (run, *FLAGS, "--model-size", folder, "--gpus", "2")):
        hardware = planned(capsys, *arguments, "--prompt-length", "500")["hardware"]
        assert hardware["shape"]["parameters"] == 90_624 and hardware["memory"]
    assert "longer than the context" in refused(capsys, 2, "plan", "--model", folder, "--prompt-length", "32000")


def test_hardware_without_a_table_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("plan", run, "--gpu-memory", 24) == 2
    assert "--gpu-memory 24.0 belongs to the table by formula; give --gpus or" in capsys.readouterr().err
    assert "the policy tabular has no model to count" in refused(capsys, 2, "plan", run, *FLAGS, "--gpus", "8")
