"""Profiling real trajectories: about one prompt token is computed for each token that a trajectory has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pivotrl import cut
from pivotrl.policies.hf import Policy
from pivotrl.profiling import ProfileOptions, profile
from pivotrl.protocols import Turn
from pivotrl.readers.tau_bench import read
from pivotrl.records import Message, Verdict
from tiny import save_tiny_model

EPISODES = Path(__file__).parent / "data" / "tau_bench" / "gpt-4o-airline.json"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder = save_tiny_model(tmp_path_factory.mktemp("tiny"), max_positions=1 << 15)
    return Policy(model=str(folder), lora_rank=0, dtype="float32", device="cpu", trainable=False)


@pytest.fixture
def rows(policy: Policy) -> Iterator[list[int]]:
    """Tokens of every forward. Samples of one token are drawn from the prefill, so there are no others."""
    counted: list[int] = []
    hook = policy.model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: counted.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    yield counted
    hook.remove()


def profiled(turns: list[Turn], policy: Policy, path: Path, num_samples: int = 8) -> int:
    """Prompt tokens computed, as reported."""
    options = ProfileOptions(num_samples=num_samples, max_tokens=1)
    groups, left_out = profile(turns, policy, lambda turn, action: Verdict.passed(), path, options)
    assert len(groups) == len(turns) and not left_out
    return sum(group.num_prefilled_tokens for group in groups)


def trajectory_tokens(turns: list[Turn], policy: Policy) -> int:
    """Of the longest prompt of each trajectory and the action that followed it."""
    last = {turn.trajectory.id: turn for turn in turns}.values()
    return sum(
        len(policy.renderer.prompt(turn)) + len(policy.encode_action(turn, turn.expected_action).token_ids_T)
        for turn in last
    )


def test_each_trajectory_is_prefilled_once(policy: Policy, rows: list[int], tmp_path: Path) -> None:
    """Six airline episodes of 3 to 11 turns: 0.93 to 0.98 prompt tokens computed per token of the trajectory."""
    for number, trajectory in enumerate(read(EPISODES)):
        turns, _ = cut([trajectory])
        rows.clear()
        computed = profiled(turns, policy, tmp_path / f"{number}.jsonl")
        assert computed == sum(rows)
        ratio = computed / trajectory_tokens(turns, policy)
        print(
            f"{trajectory.id}: {len(turns)} turns, {computed} prompt tokens computed, {ratio:.3f} per trajectory token"
        )
        assert 0.9 < ratio <= 1.05
        assert sum(len(policy.renderer.prompt(turn)) for turn in turns) > 2.5 * computed


def test_what_trajectories_have_in_common_is_prefilled_once_too(
    policy: Policy, rows: list[int], tmp_path: Path
) -> None:
    """All six have the airline's rules before them; those that are profiled in one batch share them."""
    turns, _ = cut(list(read(EPISODES)))
    computed = profiled(turns, policy, tmp_path / "profiles.jsonl")
    assert computed == sum(rows)
    ratio = computed / trajectory_tokens(turns, policy)
    print(f"{len(turns)} turns together: {ratio:.3f} prompt tokens computed per trajectory token")
    assert ratio < 0.8


def test_prompts_that_do_not_nest_are_counted_as_they_are_computed(
    policy: Policy, rows: list[int], tmp_path: Path
) -> None:
    """A clock at the top makes every turn's prompt another one: nothing is shared, and the count says so."""
    turns = []
    for trajectory in list(read(EPISODES))[:1]:
        for turn in cut([trajectory])[0]:
            clock = Message(role="system", content=f"{turn.index}:00 o'clock. {trajectory.messages[0].content}")
            messages = (clock, *trajectory.messages[1:])
            turns.append(replace(turn, trajectory=trajectory.model_copy(update={"messages": messages})))
    computed = profiled(turns, policy, tmp_path / "profiles.jsonl", num_samples=2)
    assert computed == sum(rows)
    assert computed > 3 * trajectory_tokens(turns, policy)
