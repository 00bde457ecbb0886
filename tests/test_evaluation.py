"""Evaluation: greedy and at temperature 1 together, own-history progress, and what is bought once.

Run alone: python -m pytest tests/test_evaluation.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pivotrl import Action, EvaluationOptions, InputError, Message, ToolCall, Trajectory, cut
from pivotrl.episodes import episodes_of
from pivotrl.evaluation import (
    Draw,
    compare_turns,
    evaluate_episodes,
    evaluate_progress,
    evaluate_turns,
    own_history_progress,
    own_history_success,
)
from pivotrl.policies.tabular import Policy
from pivotrl.protocols import Turn
from pivotrl.records import Completion, EpisodeResult, ProgressResult, SampleGroup, Sampling, TurnResult, Verdict
from pivotrl.storage.record_files import RecordFile, read_records
from pivotrl.verifiers.exact import verify
from test_episodes import Walk, Walks, Watching

BOTH = EvaluationOptions(eval_temperatures=(0.0, 1.0), turn_samples=4, episodes_per_task=3, eval_max_tokens=8)


def talk(name: str, answers: Sequence[str]) -> Trajectory:
    """A user and an assistant in turns."""
    messages = [Message(role="system", content="Answer.")]
    for number, answer in enumerate(answers):
        messages += [Message(role="user", content=f"question {number}"), Message(role="assistant", content=answer)]
    return Trajectory(id=name, task_id=f"task-{name}", messages=tuple(messages))


class Says:
    """Says a fixed text at each place of a trajectory, and notes the context in which it was asked."""

    identity: ClassVar = {"policy": "says"}

    def __init__(self, answers: dict[str, list[str]], stop_after: int | None = None) -> None:
        self.answers, self.asked, self._left = answers, list[tuple[str, tuple[str | None, ...]]](), stop_after

    def fits(self, turn: Turn, max_tokens: int) -> bool:
        return True

    def sample(
        self, turns: Sequence[Turn], num_samples: int, sampling: Sampling, first: int = 0
    ) -> Iterator[SampleGroup]:
        for turn in turns:
            if self._left == 0:
                raise KeyboardInterrupt
            self._left = self._left and self._left - 1
            said = [m.content for m in turn.context if m.role == "assistant"]
            self.asked.append((turn.id, tuple(said)))
            text = self.answers[turn.trajectory.id][len(said)]
            done = Completion(
                action=Action(content=text), text=text, token_ids_T=(1, 2), logprobs_T=(0.0, 0.0), finish_reason="stop"
            )
            yield SampleGroup(turn_id=turn.id, completions_G=(done,) * num_samples, first=first)


def ignoring_case(turn: Turn, action: Action) -> Verdict:
    """Passes the demonstrated text in any case; no verdict on a question mark."""
    if action.content == "?":
        return Verdict.unknown("cannot_tell")
    same = (action.content or "").lower() == (turn.expected_action.content or "").lower()
    return Verdict.passed() if same else Verdict.failed("other_text")


# --- temperatures -----------------------------------------------------------------------------------------------------


def test_one_evaluation_holds_greedy_turns_and_turns_at_temperature_1(tmp_path: Path) -> None:
    turns, _ = cut([talk(f"t{n}", ["a", "b", "c"]) for n in range(4)])
    policy, path = Policy(), tmp_path / "turns.jsonl"
    results = evaluate_turns(policy, turns, verify, path, BOTH)
    assert len(results) == len({result.key for result in results}) == 2 * len(turns)
    assert {(r.temperature, r.num_samples) for r in results} == {(0.0, 1), (1.0, 4)}
    alone = [
        evaluate_turns(policy, turns, verify, tmp_path / f"{n}.jsonl", options)
        for n, options in enumerate(
            (
                EvaluationOptions(eval_max_tokens=8),
                EvaluationOptions(turn_samples=4, turn_temperature=1.0, eval_max_tokens=8),
            )
        )
    ]
    assert results == alone[0] + alone[1], "each temperature is what it is when measured alone"


def test_a_second_call_buys_nothing_and_another_temperature_buys_only_itself(tmp_path: Path) -> None:
    (trajectory,) = [talk("t", ["a", "b"])]
    turns, _ = cut([trajectory])
    says = {"t": ["a", "x"]}
    path = tmp_path / "turns.jsonl"
    evaluate_turns(Says(says), turns, verify, path, EvaluationOptions())
    more = Says(says)
    results = evaluate_turns(more, turns, verify, path, BOTH)
    assert len(more.asked) == 2 and len(results) == 4
    nothing = Says(says)
    assert evaluate_turns(nothing, turns, verify, path, BOTH) == results and not nothing.asked


def test_results_of_an_older_version_are_continued_and_compared(tmp_path: Path) -> None:
    turns, _ = cut([talk("t", ["a", "b"])])
    whole = evaluate_turns(Says({"t": ["a", "x"]}), turns, verify, tmp_path / "whole.jsonl")
    old = [result.model_copy(update={"temperature": None}) for result in whole]
    assert [result.key for result in old] == [turn.id for turn in turns]
    file = RecordFile(tmp_path / "old.jsonl", TurnResult)
    file.append(old[:1])
    asked = Says({"t": ["a", "x"]})
    found = evaluate_turns(asked, turns[:1], verify, tmp_path / "old.jsonl")
    assert found == old[:1] and not asked.asked
    change = compare_turns(old, whole)
    assert change is not None and change.num_items == 2 and change.difference == 0.0


def test_episodes_are_played_at_each_temperature_and_bought_once(tmp_path: Path) -> None:
    path, first = tmp_path / "e.jsonl", Watching(stop_after=9)
    with pytest.raises(KeyboardInterrupt):
        evaluate_episodes(first, {"walk": Walks()}, path, BOTH)
    stored = [result.key for result in read_records(path, EpisodeResult)]
    assert stored == ["walk/attic~0@0", "walk/cellar~0@0"]
    second = Watching()
    results = evaluate_episodes(second, {"walk": Walks()}, path, BOTH)
    assert len(second.asked) == 2 * 3 * 3, "three walks at temperature 1 of each task, and no greedy one again"
    assert len(results) == 2 * (1 + 3) == len({result.key for result in results})
    keys = {episode.key for episode in episodes_of({"walk": Walks()}, 3)}
    assert {result.trajectory().id for result in results} == {f"episode-{key}" for key in keys}, "as they were played"


def test_an_episode_is_stored_as_it_ends_not_with_its_batch(tmp_path: Path) -> None:
    class Lengths:
        def tasks(self) -> list[str]:
            return ["short", "long"]

        def make(self, task: str) -> Walk:
            return Walk(task, 1 if task == "short" else 5)

    path = tmp_path / "e.jsonl"
    with pytest.raises(KeyboardInterrupt):
        evaluate_episodes(Watching(stop_after=4), {"w": Lengths()}, path)
    assert [result.key for result in read_records(path, EpisodeResult)] == ["w/short~0@0"]
    rest = Watching()
    evaluate_episodes(rest, {"w": Lengths()}, path)
    assert len(rest.asked) == 5 and all("long" in turn for turn in rest.asked)


def test_what_cannot_be_asked_for_is_refused() -> None:
    assert BOTH.turn_draws == (Draw(0.0, 1), Draw(1.0, 4)) and BOTH.episode_draws == (Draw(0.0, 1), Draw(1.0, 3))
    for wrong in ((), (1.0, 1.0), (-1.0,)):
        with pytest.raises(InputError, match="--eval-temperatures"):
            EvaluationOptions(eval_temperatures=wrong)
    with pytest.raises(InputError, match="--turn-samples 2 at temperature 0"):
        EvaluationOptions(eval_temperatures=(0.0,), turn_samples=2)


# --- own-history progress ---------------------------------------------------------------------------------------------


def test_a_walk_ends_at_the_first_wrong_action_with_its_own_history(tmp_path: Path) -> None:
    trajectories = [talk("end", ["a", "b", "c", "d"]), talk("wrong", ["a", "b", "c", "d"]), talk("open", ["a", "b"])]
    turns, _ = cut(trajectories)
    says = Says({"end": ["A", "B", "C", "D"], "wrong": ["A", "B", "x", "D"], "open": ["A", "?"]})
    results = evaluate_progress(says, turns, ignoring_case, tmp_path / "p.jsonl")
    found = {result.trajectory_id: result for result in results}
    assert {name: (r.num_done, r.num_turns, r.progress, r.reason) for name, r in found.items()} == {
        "end": (4, 4, 1.0, "reached_the_end"),
        "wrong": (2, 4, 0.5, "other_text"),
        "open": (1, 2, None, "cannot_tell"),
    }
    assert ("end#8", ("A", "B", "C")) in says.asked, "its own words are its history, not the demonstration's"
    assert not any(name == "wrong#8" for name, _ in says.asked), "nothing is bought beyond the end"
    assert sum(result.num_sampled for result in results) == len(says.asked) == 4 + 3 + 2
    progress, success = own_history_progress(results), own_history_success(results)
    assert progress is not None and progress.mean == 0.75 and progress.num_items == 2, "unknown is left out, not 0"
    assert success is not None and success.mean == 0.5


def test_walks_are_stored_one_by_one_and_bought_once(tmp_path: Path) -> None:
    trajectories = [talk("one", ["a"]), talk("two", ["a", "b", "c"])]
    turns, _ = cut(trajectories)
    answers, path = {"one": ["a"], "two": ["a", "b", "c"]}, tmp_path / "p.jsonl"
    with pytest.raises(KeyboardInterrupt):
        evaluate_progress(Says(answers, stop_after=3), turns, verify, path)
    assert [result.key for result in read_records(path, ProgressResult)] == ["one~0@0"]
    again = Says(answers)
    evaluate_progress(again, turns, verify, path)
    assert [turn for turn, _ in again.asked] == ["two#2", "two#4", "two#6"]
    options = EvaluationOptions(eval_temperatures=(0.0, 1.0), episodes_per_task=2)
    more = Says(answers)
    results = evaluate_progress(more, turns, verify, path, options)
    assert {result.key for result in results} == {f"{t}~{n}" for t in ("one", "two") for n in ("0@0", "0@1", "1@1")}
    assert len(more.asked) == 2 * 4, "the greedy walks were there"


def test_walks_at_temperature_1_differ_and_agree_with_the_table(tmp_path: Path) -> None:
    """The chance to pass the first turn is that of the demonstrated action in the table."""
    trajectories = [talk(f"t{n}", ["a", "b"]) for n in range(3)]
    turns, _ = cut(trajectories)
    policy = Policy()
    options = EvaluationOptions(eval_temperature=1.0, episodes_per_task=400, eval_batch=1000)
    results = evaluate_progress(policy, turns, verify, tmp_path / "p.jsonl", options)
    for trajectory in trajectories:
        expected = policy.probabilities(Turn(trajectory, 2))[0]
        mine = [result.num_done >= 1 for result in results if result.trajectory_id == trajectory.id]
        assert sum(mine) / len(mine) == pytest.approx(expected, abs=0.1)


def test_own_calls_take_over_the_ids_that_the_logged_answers_refer_to(tmp_path: Path) -> None:
    call = ToolCall(name="look", arguments='{"at": "a"}', id="logged-1")
    trajectory = Trajectory(
        id="calls",
        task_id="calls",
        messages=(
            Message(role="user", content="go"),
            Message(role="assistant", tool_calls=(call,)),
            Message(role="tool", content="seen", tool_call_id="logged-1"),
            Message(role="assistant", content="done"),
        ),
    )
    seen = []

    class Calls(Says):
        def sample(
            self, turns: Sequence[Turn], num_samples: int, sampling: Sampling, first: int = 0
        ) -> Iterator[SampleGroup]:
            for turn in turns:
                seen.append(turn.context)
                mine = ToolCall(name="look", arguments='{"at":"a"}')
                action = Action(tool_calls=(mine,)) if turn.index == 1 else Action(content="done")
                done = Completion(action=action, text="", token_ids_T=(1,), logprobs_T=(0.0,), finish_reason="stop")
                yield SampleGroup(turn_id=turn.id, completions_G=(done,), first=first)

    (result,) = evaluate_progress(Calls({}), cut([trajectory])[0], lambda *_: Verdict.passed(), tmp_path / "p.jsonl")
    assert result.progress == 1.0
    (own,) = seen[-1][1].tool_calls
    assert (own.id, own.arguments) == ("logged-1", '{"at":"a"}')


class Faulty(Policy):
    """A paid server that gives nothing for the first calls at some turns, or dies."""

    is_paid = True

    def __init__(self, failures: dict[str, int], lives: int = 1000) -> None:
        super().__init__()
        self.failures, self.lives, self.asked = dict(failures), lives, Counter[str]()

    def sample(self, turns: Any, num_samples: int, sampling: Any, first: int = 0) -> Any:
        self.lives -= 1
        if self.lives < 0:
            raise KeyboardInterrupt
        self.asked.update(turn.id for turn in turns)
        for group in super().sample(turns, num_samples, sampling, first):
            if self.failures.get(group.turn_id, 0) > 0:
                self.failures[group.turn_id] -= 1
                lost = [c.model_copy(update={"fault": "server_unavailable"}) for c in group.completions_G]
                group = group.model_copy(update={"completions_G": tuple(lost)})
            yield group


def test_a_turn_without_samples_is_asked_once_more_at_the_end(tmp_path: Path) -> None:
    turns = cut([talk(f"t{n}", ["a", "b"]) for n in range(4)])[0]
    once, always = turns[1].id, turns[4].id
    options = EvaluationOptions(eval_batch=2)
    sampler = Faulty({once: 1, always: 99})
    found = {r.turn_id: r for r in evaluate_turns(sampler, turns, verify, tmp_path / "a.jsonl", options)}
    assert found[once].reward is not None
    assert (found[always].reward, found[always].reason) == (None, "server_unavailable")
    assert sampler.asked == {turn.id: 2 if turn.id in (once, always) else 1 for turn in turns}

    dying = Faulty({once: 1}, lives=3)
    with pytest.raises(KeyboardInterrupt):
        evaluate_turns(dying, turns, verify, tmp_path / "b.jsonl", options)
    healthy = Faulty({})
    again = {r.turn_id: r for r in evaluate_turns(healthy, turns, verify, tmp_path / "b.jsonl", options)}
    assert again[once].reward == found[once].reward, "a fault is not stored while there is another try"
    assert (dying.asked + healthy.asked)[once] == 2, "it is asked again, and its neighbour is not paid for again"
    assert (dying.asked + healthy.asked)[turns[0].id] == 1
