"""PivotRL along the log: the policy's own actions in the history, up to the first wrong one."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from pivotrl import Action, InputError, Message, TrainingOptions, Trajectory, Verdict, cut, train
from pivotrl.policies.hf import Policy as HfPolicy
from pivotrl.policies.tabular import Policy as TabularPolicy
from pivotrl.protocols import Turn
from pivotrl.protocols.observing import Observer
from pivotrl.records import SampleGroup, ToolCall
from pivotrl.storage.record_files import read_records
from test_training import bit_patterns, even_length, logs
from tiny import save_tiny_model

LOGS = logs(6, 4)
LAST = [turn for turn in cut(LOGS)[0] if turn.index == 7]


def options(num_steps: int = 1, **more: Any) -> TrainingOptions:
    sizes = {"turns_per_step": 6, "turns_per_trajectory": 1, "group_size": 4, "learning_rate": 1.0}
    return TrainingOptions(method="along_log", num_steps=num_steps, **{**sizes, **more})


def no_worse(turn: Turn, action: Action) -> Verdict:
    """Of the four actions of a log's menu, every other one is as good as the demonstrated one."""
    numbers = [int((each.content or "")[-1]) for each in (turn.expected_action, action)]
    return Verdict.passed() if numbers[0] % 2 == numbers[1] % 2 else Verdict.failed("wrong")


def test_each_turn_is_seen_with_the_policys_own_history_up_to_its_first_wrong_action(tmp_path: Path) -> None:
    asked: dict[str, Turn] = {}

    def verifier(turn: Turn, action: Action) -> Verdict:
        asked[turn.id] = turn
        return no_worse(turn, action)

    rows = train(TabularPolicy(), LAST, verifier, tmp_path, options())
    groups = {group.turn_id: group for group in read_records(tmp_path / "groups.jsonl", SampleGroup)}
    num_own = num_reached = 0
    for log in LOGS:
        own: list[Message] = []
        for index in (1, 3, 5, 7):
            own.append(log.messages[index - 1])
            group, turn = groups[f"{log.id}#{index}"], asked[f"{log.id}#{index}"]
            assert list(turn.trajectory.messages[:index]) == own
            assert turn.trajectory.messages[index:] == log.messages[index:]  # what was demonstrated there, and later
            num_reached += index == 7
            if group.verdicts_G[0].outcome != "pass":
                assert not any(f"{log.id}#{later}" in groups for later in range(index + 1, 9))
                break
            own.append(Message(role="assistant", content=group.completions_G[0].action.content))
            num_own += own[-1] != log.messages[index]
    assert num_own > 0 and 0 < num_reached < 6
    assert rows[0].metrics["groups/reached"] == num_reached
    assert rows[0].metrics["samples/total"] == 4 * len(groups)


def test_own_calls_take_the_ids_that_the_logged_answers_name(tmp_path: Path) -> None:
    def called(number: int) -> tuple[Message, Message]:
        call = ToolCall(name="look", arguments=f'{{"at": {number}}}', id=f"id{number}")
        return (
            Message(role="assistant", tool_calls=(call,)),
            Message(role="tool", content=f"saw {number}", tool_call_id=f"id{number}"),
        )

    messages = (Message(role="user", content="Look around."), *(m for number in range(4) for m in called(number)))
    log = Trajectory(id="log", task_id="task", messages=messages)
    seen: list[Turn] = []

    def verifier(turn: Turn, action: Action) -> Verdict:
        seen.append(turn)
        return Verdict.passed() if action.tool_calls else Verdict.failed("no_call")

    train(TabularPolicy(seed=2), [Turn(log, 7)], verifier, tmp_path, options())
    assert max(turn.index for turn in seen) == 7
    own = seen[-1].trajectory.messages[:7]
    assert own != messages[:7]
    for before, after in itertools.pairwise(own):
        if after.role == "tool":
            assert before.tool_calls[0].id == after.tool_call_id


@pytest.mark.parametrize("stop_at", [1, 2])
def test_an_interrupted_training_ends_with_the_same_bits(tmp_path: Path, stop_at: int) -> None:
    model = save_tiny_model(tmp_path / "tiny")
    chosen = options(3, learning_rate=1e-2, train_max_tokens=60, checkpoint_every=2, turns_per_step=3)

    def fresh() -> HfPolicy:
        return HfPolicy(model=str(model), lora_rank=4, dtype="float32", device="cpu")

    class Stop(Observer):
        def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
            if done == stop_at:
                raise KeyboardInterrupt

    whole, again = fresh(), fresh()
    rows = train(whole, LAST, even_length, tmp_path / "whole", chosen)
    assert any("loss/total" in row.metrics for row in rows)
    with pytest.raises(KeyboardInterrupt):
        train(fresh(), LAST, even_length, tmp_path / "cut", chosen, Stop())
    train(again, LAST, even_length, tmp_path / "cut", chosen)
    assert bit_patterns(again) == bit_patterns(whole)
    assert (tmp_path / "cut/groups.jsonl").read_bytes() == (tmp_path / "whole/groups.jsonl").read_bytes()


def test_what_was_judged_before_a_kill_in_the_middle_of_a_walk_is_read_back(tmp_path: Path) -> None:
    def killed_later(turn: Turn, action: Action) -> Verdict:
        if turn.index == 5:
            raise KeyboardInterrupt
        return no_worse(turn, action)

    train(TabularPolicy(), LAST, no_worse, tmp_path / "whole", options())
    with pytest.raises(KeyboardInterrupt):
        train(TabularPolicy(), LAST, killed_later, tmp_path / "cut", options())
    bought = (tmp_path / "cut/groups.jsonl").read_bytes()
    assert bought
    train(TabularPolicy(), LAST, no_worse, tmp_path / "cut", options())
    assert (tmp_path / "cut/groups.jsonl").read_bytes() == (tmp_path / "whole/groups.jsonl").read_bytes()


def test_a_group_of_one_is_refused() -> None:
    with pytest.raises(InputError, match="--group-size 1 gives no advantage"):
        options(group_size=1)
