"""Cutting, splitting and drawing: no turn lost without a reason, no task on both sides."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pivotrl import Message, ToolCall, Trajectory, TurnOptions, cut
from pivotrl.protocols import Turn
from pivotrl.turns import draw_by_task, in_rounds, split_by_task, whole_trajectories


def message(role: str, text: str | None = None, *calls: str, call_id: str | None = None) -> Message:
    return Message(role=role, content=text, tool_calls=tuple(ToolCall(name=c) for c in calls), tool_call_id=call_id)


def trajectory(*messages: Message, id: str = "a", task: str = "t", **more: object) -> Trajectory:
    return Trajectory(id=id, task_id=task, messages=messages, **more)


SWE = trajectory(
    message("system", "s"),
    message("user", "fix it"),
    message("assistant", None, "bash"),
    message("tool", "Error: no such file"),
    message("assistant", "let me see", "str_replace_editor"),
    message("tool", "done"),
    message("assistant", "It is fixed."),
    message("assistant", ""),
)


def by_reason(domain: str) -> tuple[list[int], dict[int, str]]:
    turns, skipped = cut([SWE], TurnOptions(domain=domain))
    return [turn.index for turn in turns], {int(s.turn_id.split("#")[1]): s.reason for s in skipped}


def test_conversation_takes_every_turn_that_says_something() -> None:
    assert by_reason("conversation") == ([2, 4, 6], {7: "empty_action"})


def test_swe_takes_tool_calls_that_did_not_fail() -> None:
    assert by_reason("swe") == ([4], {2: "tool_call_failed", 6: "not_a_tool_call", 7: "empty_action"})


def test_terminal_takes_shell_actions() -> None:
    assert by_reason("terminal")[0] == [2]


def test_search_takes_search_calls() -> None:
    searching = trajectory(
        message("user", "who?"), message("assistant", None, "web_search"), message("assistant", None, "submit")
    )
    turns, skipped = cut([searching], TurnOptions(domain="search"))
    assert [turn.index for turn in turns] == [1]
    assert [skip.reason for skip in skipped] == ["not_a_search_action"]


def test_the_reader_may_exclude_turns() -> None:
    turns, skipped = cut([SWE.model_copy(update={"excluded": {2: "synthetic", 6: "error_turn"}})])
    assert [turn.index for turn in turns] == [4]
    assert {skip.turn_id.partition("#")[2]: skip.reason for skip in skipped} == {
        "2": "synthetic",
        "6": "error_turn",
        "7": "empty_action",
    }


def test_context_is_what_the_agent_saw() -> None:
    assert Turn(SWE, 4).context == SWE.messages[:4]
    windowed = SWE.model_copy(update={"context_window": 1})
    assert [m.role for m in Turn(windowed, 4).context] == ["system", "tool"]
    assert [m.content for m in Turn(windowed, 2).context] == ["s", "fix it"]


def chat(id: str, task: str, turns: int) -> Trajectory:
    messages = [m for _ in range(turns) for m in (message("user", "q"), message("assistant", "a"))]
    return trajectory(*messages, id=id, task=task)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 4)), max_size=40), st.floats(0, 1))
def test_a_task_lands_on_one_side_and_stays_there(specs: list[tuple[int, int]], fraction: float) -> None:
    logs = [chat(f"x{i}", f"task{task}", turns) for i, (task, turns) in enumerate(specs)]
    train, heldout = split_by_task(logs, fraction)
    assert {t.task_id for t in train}.isdisjoint(t.task_id for t in heldout)
    assert sorted(t.id for t in train + heldout) == sorted(t.id for t in logs)
    more_train, _ = split_by_task([*logs, chat("new", "task-new", 1)], fraction)
    assert {t.id for t in train} <= {t.id for t in more_train}


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.integers(0, 5))
def test_rounds_visit_every_task_before_any_comes_back(sizes: list[int], seed: int) -> None:
    turns, _ = cut([chat(f"x{i}", f"task{i}", size) for i, size in enumerate(sizes)])
    ordered = in_rounds(turns, seed)
    assert sorted(t.id for t in ordered) == sorted(t.id for t in turns)
    first = [t.trajectory.task_id for t in ordered[: len(sizes)]]
    assert len(set(first)) == len(sizes)
    assert ordered == in_rounds(turns, seed)


@given(st.lists(st.integers(1, 9), min_size=4, max_size=12), st.integers(0, 5), st.integers(1, 4))
def test_a_trajectory_sends_a_few_turns_at_a_time(sizes: list[int], seed: int, together: int) -> None:
    """Side by side, no more than asked for; and no task comes back before every other had its share."""
    turns, _ = cut([chat(f"x{i}", f"task{i}", size) for i, size in enumerate(sizes)])
    ordered = in_rounds(turns, seed, together=together)
    assert sorted(t.id for t in ordered) == sorted(t.id for t in turns)
    expected = {f"x{i}": min(together, size) for i, size in enumerate(sizes)}
    first = [turn.trajectory.id for turn in ordered[: sum(expected.values())]]
    assert {name: len(list(group)) for name, group in itertools.groupby(first)} == expected
    assert in_rounds(turns, seed, together=1) == in_rounds(turns, seed)


def test_two_trajectories_of_a_task_are_not_mixed_in_a_share() -> None:
    turns, _ = cut([chat("a", "t", 3), chat("b", "t", 3), chat("c", "u", 2)])
    shares = [t.trajectory.id for t in in_rounds(turns, 0, together=2)]
    assert shares[0] == shares[1] != shares[2] == shares[3]
    assert sorted(shares) == [*"aaabbbcc"]


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(1, 12))
def test_batches_never_cut_a_trajectory(sizes: list[int], size: int) -> None:
    turns, _ = cut([chat(f"x{i}", f"task{i}", n) for i, n in enumerate(sizes)])
    batches = whole_trajectories(turns, size)
    assert [turn for batch in batches for turn in batch] == list(turns)
    owners = [{turn.trajectory.id for turn in batch} for batch in batches]
    assert sum(map(len, owners)) == len(sizes)
    assert all(len(batch) <= size or len(owner) == 1 for batch, owner in zip(batches, owners, strict=True))
    assert all(len(a) + len(b) > size for a, b in itertools.pairwise(batches)) or not batches


def test_drawing_prefers_new_tasks_over_more_of_the_same() -> None:
    turns, _ = cut([chat("long", "a", 10), chat("b", "b", 1), chat("c", "c", 1)])
    assert {t.trajectory.task_id for t in draw_by_task(turns, None, 3, 0)} == {"a", "b", "c"}
    assert len(draw_by_task(turns, 2, None, 0)) == 4
    drawn, skipped = cut([chat("long", "a", 10)], TurnOptions(max_per_task=3))
    assert len(drawn) == 3 and [s.reason for s in skipped] == ["not_drawn"] * 7
