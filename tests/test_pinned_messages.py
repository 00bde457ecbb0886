"""Pinned messages: examples at the head of a conversation that every context keeps.

Run alone: python -m pytest tests/test_pinned_messages.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pivotrl import Action, InputError, Message, Observation, Trajectory, cut
from pivotrl.episodes import play_episodes
from pivotrl.judging.replay import replay
from pivotrl.plugins.environments import require_environments
from pivotrl.protocols import NotRestorable, Turn
from pivotrl.reading.duplicates.finding import DuplicateFinder
from pivotrl.reading.missing_parts import completion
from pivotrl.reading.source_items import SourceItems
from pivotrl.records import EpisodeResult, Sampling
from pivotrl.rows.rows import text_prompt, turn_text
from pivotrl.samplers.scripted import Sampler


def said(role: str, text: str) -> Message:
    return Message(role=role, content=text)  # type: ignore[arg-type]


HEAD = (said("system", "s"), said("user", "1+1"), said("assistant", "2"))
LATER = (
    said("user", "2+3"),
    said("assistant", "5"),
    said("system", "note"),
    said("user", "4+4"),
    said("assistant", "8"),
)
SUMS = Trajectory(id="a", task_id="t", messages=HEAD + LATER, context_window=1, pinned_messages=3)


def seen(trajectory: Trajectory, index: int) -> list[str | None]:
    return [message.content for message in Turn(trajectory, index).context]


def test_every_context_keeps_them() -> None:
    assert seen(SUMS, 4) == ["s", "1+1", "2", "2+3"]
    assert seen(SUMS, 7) == ["s", "1+1", "2", "note", "4+4"]
    unpinned = SUMS.model_copy(update={"pinned_messages": 0})
    assert seen(unpinned, 7) == ["s", "note", "4+4"]
    whole = SUMS.model_copy(update={"context_window": None})
    assert seen(whole, 7) == [message.content for message in SUMS.messages[:7]]


@given(
    roles=st.lists(st.sampled_from(["system", "user", "assistant"]), min_size=1, max_size=12),
    pinned=st.integers(0, 14),
    window=st.none() | st.integers(0, 4),
    data=st.data(),
)
def test_a_context_is_a_part_of_the_log_in_its_order(
    roles: list[str], pinned: int, window: int | None, data: st.DataObject
) -> None:
    messages = tuple(said(role, str(place)) for place, role in enumerate(roles))
    trajectory = Trajectory(id="a", task_id="t", messages=messages, context_window=window, pinned_messages=pinned)
    index = data.draw(st.integers(0, len(roles)))
    turn = Turn(trajectory, index)
    places = [int(str(message.content)) for message in turn.context]
    assert places[: min(pinned, index)] == list(range(min(pinned, index)))
    assert len(set(places)) == len(places) == turn.num_context_messages
    free = [place for place in range(min(pinned, index), index) if roles[place] != "system"]
    wanted = free if window is None else free[len(free) - min(window, len(free)) :]
    assert [place for place in places if place >= pinned and roles[place] != "system"] == wanted


def test_examples_are_no_candidates() -> None:
    turns, skipped = cut([SUMS])
    assert [turn.index for turn in turns] == [4, 7]
    assert [(skip.turn_id, skip.reason) for skip in skipped] == [("a#2", "pinned_example")]


def test_older_records_still_read() -> None:
    row = json.loads(SUMS.model_dump_json())
    del row["pinned_messages"]
    assert Trajectory.model_validate(row).pinned_messages == 0
    result = {"task_id": "t", "reward": 1.0, "reason": "won", "num_turns": 1, "num_tokens": 1}
    assert EpisodeResult.model_validate(result).pinned_messages == 0


def test_rows_hold_what_the_agent_saw() -> None:
    turn = Turn(SUMS, 7)
    row = Trajectory.model_validate_json(turn_text(turn))
    assert Turn(row, len(row.messages) - 1).context == turn.context
    assert [message["content"] for message in text_prompt(turn)] == ["s", "1+1", "2", "note", "4+4"]


def test_a_system_message_supplied_at_import_is_pinned_with_them(tmp_path: Path) -> None:
    messages = tuple(message for message in SUMS.messages if message.role != "system")
    without = SUMS.model_copy(update={"messages": messages, "pinned_messages": 2})
    (tmp_path / "system.txt").write_text("be brief")
    items = SourceItems(lambda path: iter([without]), tmp_path)
    completed = completion(items, tools=None, system=tmp_path / "system.txt", infer_tools=False)(without)
    assert completed.pinned_messages == 3
    assert seen(completed, 6) == ["be brief", "1+1", "2", "4+4"]


def test_copies_are_told_apart_by_what_is_learned() -> None:
    finder = DuplicateFinder()
    assert finder.add(SUMS) is None
    other = finder.add(SUMS.model_copy(update={"id": "b", "pinned_messages": 1}))
    assert other is None or other.kind == "near"
    found = finder.add(SUMS.model_copy(update={"id": "c"}))
    assert found is not None and found.kind == "exact"


class Sums:
    """Two additions after an example."""

    context_window: int | None = 1
    pinned_messages: Any = 3

    def __init__(self, name: str) -> None:
        self.task_id, self.tags = name, dict[str, str]()

    def reset(self) -> tuple[Message, ...]:
        self._left = [said("user", "4+4")]
        return (*HEAD, said("user", "2+3"))

    def step(self, action: Action) -> Observation:
        if self._left:
            return Observation((self._left.pop(),))
        return Observation((), 1.0, True, "added")


def test_episodes_keep_them_and_say_so() -> None:
    script = {"episode-t~0#4": ["5"], "episode-t~0#6": ["8"]}
    (result,) = play_episodes([Sums("t")], Sampler(script=script), Sampling())
    assert (result.num_turns, result.pinned_messages, len(result.transcript)) == (2, 3, 7)
    read_back = EpisodeResult.model_validate_json(result.model_dump_json()).trajectory()
    assert seen(read_back, 6) == ["s", "1+1", "2", "4+4"]
    assert [turn.index for turn in cut([read_back])[0]] == [4, 6]


def test_replay_does_not_take_an_example_for_an_action() -> None:
    (result,) = play_episodes([Sums("t")], Sampler(script={}, otherwise="5"), Sampling())
    played = result.trajectory()
    replay(Sums("t"), Turn(played, 6))
    other = (*played.messages[:1], said("user", "9+9"), *played.messages[2:])
    with pytest.raises(NotRestorable, match="replay_differs"):
        replay(Sums("t"), Turn(played.model_copy(update={"messages": other}), 6))


@pytest.mark.parametrize("pinned", [-1, "3", 1.0, True])
def test_a_wrong_number_is_refused_by_name(pinned: Any) -> None:
    class Wrong(Sums):
        pinned_messages = pinned

    with pytest.raises(InputError, match="pinned_messages must be an integer of at least 0"):
        require_environments(lambda: [Wrong("t")])


def test_prompts_share_the_pinned_beginning(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from pivotrl.policies.hf import Policy
    from tiny import save_tiny_model

    policy = Policy(model=str(save_tiny_model(tmp_path / "model")), dtype="float32", device="cpu")
    head = policy.renderer.decode(policy.renderer.prompt(Turn(SUMS, 4))).partition("2+3")[0]
    other = SUMS.model_copy(update={"id": "b", "messages": (*HEAD, said("user", "7+7"), *LATER[1:])})
    for turn in (Turn(SUMS, 4), Turn(SUMS, 7), Turn(other, 4)):
        text = policy.renderer.decode(policy.renderer.prompt(turn))
        assert "1+1" in text and text.startswith(head.removesuffix("<|im_start|>user\n"))
    (group, _) = policy.sample([Turn(SUMS, 4), Turn(other, 4)], 1, Sampling(max_tokens=2))
    alone = len(policy.renderer.prompt(Turn(SUMS, 4)))
    both = sum(
        g.num_prefilled_tokens for g in policy.sample([Turn(SUMS, 4), Turn(other, 4)], 1, Sampling(max_tokens=2))
    )
    assert group.num_prompt_tokens == alone and alone < both < 2 * alone
