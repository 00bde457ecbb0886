"""A profile takes over the samples of the pilot of `pivotrl plan`: nobody draws or pays for them twice.

Run alone: python -m pytest tests/test_pilot_samples.py
"""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dying import Killed
from pivotrl.policies.tabular import Policy
from pivotrl.profiling import ProfileOptions
from pivotrl.protocols import Turn
from pivotrl.records import SampleGroup, Sampling
from pivotrl.report.following import Follower
from pivotrl.rollouts import joined
from pivotrl.runs.manifest import read_manifest
from pivotrl.runs.status import status_of
from pivotrl.stages.planning import PilotOptions, pilot_stage
from pivotrl.stages.profiling import profile_stage
from pivotrl.storage.record_files import read_records
from pivotrl.verifiers.exact import verify as exact
from test_cli import call
from test_pipeline import write_logs

OPTIONS = ProfileOptions(num_samples=8, batch_turns=4)
NUM_TURNS = 60


class Counting(Policy):
    """Counts each sample that it draws, and dies after some calls."""

    def __init__(self, lives: float = float("inf"), **options: Any) -> None:
        super().__init__(**options)
        self.lives = lives
        self.drawn = Counter[tuple[str, int]]()

    def sample(
        self, turns: Sequence[Turn], num_samples: int, sampling: Sampling, first: int = 0
    ) -> Iterator[SampleGroup]:
        self.lives -= 1
        if self.lives < 0:
            raise Killed
        if sampling.max_tokens > 1:  # not the prompts alone
            self.drawn.update(itertools.product((turn.id for turn in turns), range(first, first + num_samples)))
        return super().sample(turns, num_samples, sampling, first)


def read(tmp_path: Path, name: str) -> Path:
    logs = tmp_path / "logs.jsonl"
    if not logs.exists():
        write_logs(logs)
    assert call("read", logs, "-o", tmp_path / name, "--heldout-fraction", 0) == 0
    return tmp_path / name


def pilot(run: Path, policy: Policy, profiling: ProfileOptions = OPTIONS, turns: float = 12) -> None:
    pilot_stage(run, sampler=policy, verifier=exact, profiling=profiling, pilot=PilotOptions(turns))


def samples(run: Path) -> list[dict[str, Any]]:
    groups = joined(read_records(run / "profiles.jsonl", SampleGroup))
    left_out = {"num_taken", "num_prefilled_tokens"}  # prompts that the pilot computed do not count again
    return sorted((group.model_dump(exclude=left_out) for group in groups), key=lambda row: str(row["turn_id"]))


def costs(run: Path) -> dict[str, tuple[int | None, int | None]]:
    return {stage.stage: (stage.rollout_turns, stage.tokens) for stage in status_of(run).stages}


@pytest.mark.parametrize(
    "profiling",
    [OPTIONS, ProfileOptions(num_samples=12, batch_turns=4), ProfileOptions(num_samples=8, adaptive=0.9)],
    ids=["same", "more samples", "adaptive"],
)
def test_the_profile_is_the_same_and_draws_only_what_is_missing(tmp_path: Path, profiling: ProfileOptions) -> None:
    run, twin = read(tmp_path, "run"), read(tmp_path, "twin")
    first, second, alone = Counting(), Counting(), Counting()
    pilot(run, first)
    taken = set(first.drawn)
    assert len(taken) == 12 * 8
    profile_stage(run, sampler=second, verifier=exact, profiling=profiling)
    profile_stage(twin, sampler=alone, verifier=exact, profiling=profiling)
    assert samples(run) == samples(twin)
    assert set(second.drawn) == set(alone.drawn) - taken and set(second.drawn.values()) == {1}
    counts = read_manifest(run / "profile.manifest.json").counts
    assert counts["samples_from_pilot"] == len(taken & set(alone.drawn)) > 0
    (turns, tokens), (turns_alone, tokens_alone) = costs(run)["profile"], costs(twin)["profile"]
    assert turns is not None and tokens is not None
    assert turns_alone == turns + counts["samples_from_pilot"] and tokens_alone == tokens + counts["samples_from_pilot"]
    watched = {stage.stage: stage for stage in Follower(run).look().stages}
    assert (watched["profile"].rollout_turns, watched["profile"].tokens) == (turns, tokens), "as `pivotrl watch` tells"


def test_killed_at_any_moment_nothing_is_drawn_twice(tmp_path: Path) -> None:
    whole = read(tmp_path, "whole")
    first = Counting()
    pilot(whole, first)
    profile_stage(whole, sampler=Counting(), verifier=exact, profiling=OPTIONS)
    for lives in range(0, 15, 2):
        run = read(tmp_path, f"run{lives}")
        drawn = Counter[tuple[str, int]]()
        with pytest.raises(Killed):
            dying = Counting(min(lives, 3))  # within the pilot
            pilot(run, dying)
            profile_stage(run, sampler=dying, verifier=exact, profiling=OPTIONS)
        drawn += dying.drawn
        pilot(run, survivor := Counting())
        drawn += survivor.drawn
        dying = Counting(lives)
        with pytest.raises(Killed):
            profile_stage(run, sampler=dying, verifier=exact, profiling=OPTIONS)
            raise Killed  # it ended before
        drawn += dying.drawn
        pilot(run, late := Counting(), turns=20)  # more turns, after the profile began
        profile_stage(run, sampler=(last := Counting()), verifier=exact, profiling=OPTIONS)
        drawn += last.drawn
        assert samples(run) == samples(whole)
        assert max(drawn.values()) == 1, "no batch was in flight: each call ended"
        assert read_manifest(run / "profile.manifest.json").counts["samples_from_pilot"] == 12 * 8
        assert not set(late.drawn) & set(first.drawn)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"profiling": ProfileOptions(num_samples=8, temperature=0.5)}, "temperature"),
        ({"profiling": ProfileOptions(num_samples=8, profile_seed=1)}, "profile_seed"),
        ({"sampler": Counting(spread=1.0)}, "policy"),
        ({"verifier": lambda turn, action: exact(turn, action)}, "verifier, verifier code"),
    ],
)
def test_a_pilot_of_something_else_is_not_taken(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    run = read(tmp_path, "run")
    pilot(run, Counting())
    given: dict[str, Any] = {"sampler": Counting(), "verifier": exact, "profiling": OPTIONS} | changes
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        groups = profile_stage(run, **given)
    assert any(f"it differs from this profile in {told}" in str(warning.message) for warning in caught)
    assert not any(group.num_taken for group in groups)
    assert set(given["sampler"].drawn.values()) == {1} and len(given["sampler"].drawn) == NUM_TURNS * 8
