"""Adaptive profiles: the pivots of a full profile for fewer samples, whatever happens on the way.

Run alone: python -m pytest tests/test_adaptive_profile.py
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dying import Dying, Killed
from pivotrl import InputError, ProfileOptions, Turn, cut, profile, select
from pivotrl.policies.tabular import Policy
from pivotrl.profiling.adaptive import evidence_of
from pivotrl.readers.chat import read
from pivotrl.records import SampleGroup
from pivotrl.runs.files import RunFiles
from pivotrl.selection.stopping import expected_f1
from pivotrl.stages.profiling import profile_stage
from pivotrl.stages.reading import read_stage
from pivotrl.verifiers.exact import verify
from test_continuing import pivotrl
from test_evaluation import talk
from test_pipeline import write_logs

ADAPTIVE = ProfileOptions(num_samples=32, adaptive=0.95)
FULL = ProfileOptions(num_samples=32)


def turns(number: int = 75) -> list[Turn]:
    return cut([talk(f"t{n}", ["a", "b", "c", "d"]) for n in range(number)])[0]


def spread_out() -> Policy:
    """Some turns nearly always pass, some hardly ever."""
    return Policy(spread=2.0)


def pivots(groups: Sequence[SampleGroup]) -> set[str]:
    return {row.turn_id for row in select(groups) if row.selected}


def f1(found: set[str], right: set[str]) -> float:
    return 2 * len(found & right) / (len(found) + len(right))


def test_the_pivots_are_those_of_a_full_profile_for_fewer_samples(tmp_path: Path) -> None:
    full, _ = profile(turns(), spread_out(), verify, tmp_path / "full.jsonl", FULL)
    some, skipped = profile(turns(), spread_out(), verify, tmp_path / "some.jsonl", ADAPTIVE)
    assert not skipped and len(some) == 300
    for few, all_of_them in zip(some, full, strict=True):
        drawn = len(few.completions_G)
        assert few.completions_G == all_of_them.completions_G[:drawn], "the same samples, only fewer"
        assert few.verdicts_G == all_of_them.verdicts_G[:drawn]
    share = sum(len(group.completions_G) for group in some) / (32 * 300)
    few, _ = profile(turns(), spread_out(), verify, tmp_path / "8.jsonl", ProfileOptions(num_samples=8))
    assert share < 0.5
    assert f1(pivots(some), pivots(full)) > 0.9
    assert f1(pivots(few), pivots(full)) < f1(pivots(some), pivots(full)) - 0.03, "spread evenly, samples decide less"
    expected = expected_f1([evidence_of(group) for group in some], 32, 0.6)
    assert expected is not None and expected >= 0.95


def test_a_lower_target_takes_fewer_samples(tmp_path: Path) -> None:
    counts = []
    for target in (0.8, 0.99):
        options = ProfileOptions(num_samples=32, adaptive=target)
        groups, _ = profile(turns(50), spread_out(), verify, tmp_path / f"{target}.jsonl", options)
        counts.append(sum(len(group.completions_G) for group in groups))
    assert counts[0] < 0.7 * counts[1]


@pytest.mark.parametrize(("wanted", "after"), [(None, 1), (None, 11), (None, 30), (20, 1), (20, 5), (20, 11)])
def test_a_killed_profile_ends_as_an_undisturbed_one(after: int, wanted: int | None, tmp_path: Path) -> None:
    options = ProfileOptions(num_samples=32, adaptive=0.95, wanted_pivots=wanted)
    undisturbed, skipped = profile(turns(), spread_out(), verify, tmp_path / "a.jsonl", options)

    with pytest.raises(Killed):
        profile(turns(), Dying(after, spread=2.0), verify, tmp_path / "b.jsonl", options)
    assert profile(turns(), spread_out(), verify, tmp_path / "b.jsonl", options) == (undisturbed, skipped)
    assert (tmp_path / "b.jsonl").read_bytes() == (tmp_path / "a.jsonl").read_bytes()


def test_where_nothing_passes_it_stops_early(tmp_path: Path) -> None:
    def never(turn: Turn, action: Any) -> Any:
        return verify(turn, action).failed("never")

    groups, _ = profile(turns(), spread_out(), never, tmp_path / "p.jsonl", ADAPTIVE)
    assert not pivots(groups)
    assert sum(len(group.completions_G) for group in groups) <= 16 * 300


def test_it_stops_when_the_wanted_pivots_are_found(tmp_path: Path) -> None:
    options = ProfileOptions(num_samples=32, adaptive=0.95, wanted_pivots=20)
    groups, skipped = profile(turns(150), spread_out(), verify, tmp_path / "p.jsonl", options)
    assert 20 <= len(pivots(groups)) < 100
    assert {skip.reason for skip in skipped} == {"not_needed"}
    assert len(groups) + len(skipped) == 600
    order = [group.turn_id for group in groups]
    assert order == [turn.id for turn in turns(150) if turn.id in set(order)]


def test_a_likely_demonstration_needs_no_sample(tmp_path: Path) -> None:
    policy = spread_out()
    at_least = {turn.id: policy.probabilities(turn)[0] for turn in turns()}
    groups, skipped = profile(turns(), policy, verify, tmp_path / "p.jsonl", ADAPTIVE, at_least=at_least)
    left_out = {skip.turn_id for skip in skipped}
    assert left_out and all(at_least[name] > 0.75 for name in left_out)
    full, _ = profile(turns(), policy, verify, tmp_path / "full.jsonl", FULL)
    assert not left_out & pivots(full)
    assert f1(pivots(groups), pivots(full)) > 0.9


def test_samples_without_a_verdict_say_nothing(tmp_path: Path) -> None:
    def mute(turn: Turn, action: Any) -> Any:
        return verify(turn, action).unknown("mute")

    groups, _ = profile(turns(20), spread_out(), mute, tmp_path / "p.jsonl", ADAPTIVE)
    assert len(groups) == 80
    assert not pivots(groups)


def test_the_stage_says_what_it_saved(tmp_path: Path) -> None:
    write_logs(tmp_path / "logs.jsonl", 40)
    read_stage(str(tmp_path / "logs.jsonl"), tmp_path / "run", reader=read)
    profile_stage(tmp_path / "run", sampler=spread_out(), verifier=verify, profiling=ADAPTIVE)
    counts = RunFiles(tmp_path / "run").finished("profile").counts
    assert counts["samples"] < counts["samples_at_k"]
    assert sum(counts["samples_per_turn"].values()) == counts["profiled_turns"]
    assert counts["expected_f1"] is None or counts["expected_f1"] >= 0.9


def test_options_that_need_it_are_refused_without_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--wanted-pivots 5 has an effect only with --adaptive"):
        ProfileOptions(wanted_pivots=5)
    with pytest.raises(InputError, match="--adaptive"):
        ProfileOptions(adaptive=1.0)
    write_logs(tmp_path / "logs.jsonl", 8)
    assert pivotrl("read", str(tmp_path / "logs.jsonl"), "-o", str(tmp_path / "run")) == 0
    command = ["profile", str(tmp_path / "run"), "--policy", "tabular", "--verifier", "exact", "--adaptive", "0.95"]
    assert pivotrl(*command) == 0
    told = json.loads((tmp_path / "run" / "profile.manifest.json").read_text())
    assert told["options"]["adaptive"] == 0.95


def test_whoever_reads_it_sees_each_turn_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_logs(tmp_path / "logs.jsonl", 20)
    folder = str(tmp_path / "run")
    assert pivotrl("read", str(tmp_path / "logs.jsonl"), "-o", folder) == 0
    command = ["profile", folder, "--policy", "tabular(spread=2.0)", "--verifier", "exact"]
    assert pivotrl(*command, "--adaptive", "0.95", "--num-samples", "32") == 0
    groups = RunFiles(tmp_path / "run").profiles()
    capsys.readouterr()
    assert pivotrl("waver", folder, "--json") == 0
    assert json.loads(capsys.readouterr().out)["total"]["num_turns"] == len(groups)
    most = max(groups, key=lambda group: len(group.completions_G))
    assert len(most.completions_G) > 4
    assert pivotrl("show", folder, "--all", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == len(groups)
    assert pivotrl("plan", folder) == 2
    assert "is adaptive" in capsys.readouterr().err


@pytest.mark.parametrize("options", [{"num_samples": 1}, {"num_samples": 8, "adaptive_max_mean": 0.1}])
def test_a_profile_that_cannot_have_pivots_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="--adaptive .* leaves no pivots"):
        ProfileOptions(adaptive=0.9, **options)


def test_a_run_decides_by_the_rule_that_it_selects_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_logs(tmp_path / "logs.jsonl", 12)
    folder, given = str(tmp_path / "run"), ["--policy", "tabular(spread=1.0)", "--verifier", "exact"]
    given += ["--adaptive", "0.9", "--max-mean", "0.8", "--num-steps", "1", "--turns-per-step", "4"]
    assert pivotrl("run", str(tmp_path / "logs.jsonl"), "-o", folder, *given) == 0
    assert RunFiles(tmp_path / "run").finished("profile").options["adaptive_max_mean"] == 0.8
    assert "may have too few samples" not in capsys.readouterr().err
    assert pivotrl("select", folder, "--name", "strict", "--max-mean", "0.5") == 0
    assert "the rule mixed with --max-mean 0.8 was decided" in capsys.readouterr().err
