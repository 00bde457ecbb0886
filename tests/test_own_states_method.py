"""Own-state pivots: the policy practises at the states that it reached itself, verified from there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pivotrl import Action, InputError, Message, Observation, TrainingOptions, Verdict, train
from pivotrl.advantages import group_advantages
from pivotrl.policies.hf import Policy as HfPolicy
from pivotrl.policies.tabular import Policy as TabularPolicy
from pivotrl.protocols import Notice, TrainingGroup, Turn, UpdateOptions
from pivotrl.protocols.observing import Observer
from pivotrl.records import EpisodeResult, SampleGroup
from pivotrl.storage.record_files import read_records
from pivotrl.verifiers.exact import verify as exact
from test_cli import FAST, call, logs, refused
from test_training import bit_patterns
from tiny import save_tiny_model

__all__ = ["logs"]


class Doors:
    """A corridor of three doors. What opens the next one is known to the environment alone, as its metadata."""

    context_window = None

    def __init__(self, task: str) -> None:
        self.task_id, self.tags, self._number = task, dict[str, str](), 0
        self.metadata = {"opens": "made-up action 1"}

    def reset(self) -> tuple[Message, ...]:
        return (Message(role="user", content=f"{self.task_id}: door 0"),)

    def step(self, action: Action) -> Observation:
        self._number += 1
        done = self._number == 3
        said = Message(role="user", content=f"door {self._number} after {action.content}")
        return Observation((said,), 1.0 if done else None, done)


class Corridors:
    def tasks(self) -> Sequence[str]:
        return ("north", "south", "west")

    def make(self, task: str) -> Doors:
        return Doors(task)


def make_environments() -> Corridors:
    return Corridors()


def opens(turn: Turn, action: Action) -> Verdict:
    """From the state alone where a state was reached; the demonstrated action at a turn of a log."""
    known = turn.trajectory.metadata.get("opens")
    wanted = turn.expected_action.content if known is None else known
    return Verdict.passed() if action == Action(content=wanted) else Verdict.failed("stays_shut")


def ends(turn: Turn, action: Action) -> Verdict:
    """What a model does that stops by itself: others are cut off and fail before this is asked."""
    return Verdict.passed() if turn.trajectory.metadata["opens"] else Verdict.failed("shut")


class Remembering(TabularPolicy):
    def __init__(self) -> None:
        super().__init__()
        self.lessons: list[Sequence[TrainingGroup]] = []

    def update(self, groups: Sequence[TrainingGroup], learning_rate: float, options: UpdateOptions) -> dict[str, float]:
        self.lessons.append(groups)
        return super().update(groups, learning_rate, options)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def options(**given: Any) -> TrainingOptions:
    method = "own_states(tasks_per_step=2, states_per_step=4)"
    defaults = {"method": method, "num_steps": 3, "group_size": 4, "train_max_tokens": 12}
    return TrainingOptions(**{**defaults, "learning_rate": 1e-2, "checkpoint_every": 1, **given})


def played(directory: Path) -> list[EpisodeResult]:
    return read_records(directory / "episodes.jsonl", EpisodeResult)


def test_groups_are_drawn_at_states_of_the_steps_own_episodes_and_verified_from_there(tmp_path: Path) -> None:
    policy, asked = Remembering(), list[Turn]()

    def verifier(turn: Turn, action: Action) -> Verdict:
        asked.append(turn)
        return opens(turn, action)

    rows = train(policy, [], verifier, tmp_path, options(learning_rate=1.0), environments={"d": Corridors()})
    episodes = {f"episode-{result.key}": result for result in played(tmp_path)}
    groups = read_records(tmp_path / "groups.jsonl", SampleGroup)
    assert len(episodes) == 3 * 2 and len(groups) == 3 * 4 and len(asked) == 3 * 4 * 4
    for turn in asked:
        result = episodes[turn.trajectory.id]
        assert turn.index == len(turn.trajectory.messages)  # nothing of what was played there or later
        assert turn.trajectory.messages == result.transcript[: turn.index]
        assert turn.index in {played.index for played in result.turns}
    for group in groups:
        assert episodes[group.turn_id.partition("#")[0]].number == group.step
    stored = {group.turn_id: group for group in groups}
    for lesson in policy.lessons:
        for group in lesson:
            rewards = [verdict.reward for verdict in stored[group.turn.id].verdicts_G]
            assert list(group.advantages_G) == group_advantages([r for r in rewards if r is not None])
    assert policy.lessons
    cost = 3 * 2 * 3 + 3 * 4 * 4  # turns of the episodes, and the samples at the states
    assert sum(row.metrics["samples/total"] for row in rows) == cost
    assert all(row.metrics["episodes/reward"] == 1.0 and row.metrics["episodes/mean_turns"] == 3 for row in rows)


def test_there_are_no_more_states_than_were_reached(tmp_path: Path) -> None:
    chosen = options(method="own_states(tasks_per_step=2, states_per_step=100)", num_steps=1)
    rows = train(TabularPolicy(), [], opens, tmp_path, chosen, environments={"d": Corridors()})
    assert rows[0].metrics["groups/sampled"] == 6


def test_the_reward_at_own_states_rises(model: Path, tmp_path: Path) -> None:
    policy = HfPolicy(model=str(model), lora_rank=16, dtype="float32", device="cpu")
    longer = options(num_steps=10, group_size=8, learning_rate=3e-2, checkpoint_every=10, train_max_tokens=60)
    steps = train(policy, [], ends, tmp_path, longer, environments={"d": Corridors()})
    rewards = [row.metrics["reward/mean"] for row in steps]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.1


@pytest.mark.parametrize("stop_at", [1, 2])
def test_an_interrupted_training_ends_with_the_same_bits(model: Path, tmp_path: Path, stop_at: int) -> None:
    chosen = options(train_max_tokens=60)

    def fresh() -> HfPolicy:
        return HfPolicy(model=str(model), lora_rank=4, dtype="float32", device="cpu")

    class Stop(Observer):
        def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
            if done == stop_at:
                raise KeyboardInterrupt

    whole, again = fresh(), fresh()
    rows = train(whole, [], ends, tmp_path / "whole", chosen, environments={"d": Corridors()})
    assert any("loss/total" in row.metrics for row in rows)
    with pytest.raises(KeyboardInterrupt):
        train(fresh(), [], ends, tmp_path / "cut", chosen, Stop(), {"d": Corridors()})
    train(again, [], ends, tmp_path / "cut", chosen, environments={"d": Corridors()})
    assert bit_patterns(again) == bit_patterns(whole)
    for name in ("groups.jsonl", "episodes.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("killed_at", ["episode", "verdict"])
def test_what_was_played_or_judged_before_a_kill_is_read_back(tmp_path: Path, killed_at: str) -> None:
    class Killed(Corridors):
        def __init__(self, after: int | None) -> None:
            self.left, self.made = after, 0

        def make(self, task: str) -> Doors:
            self.made += 1
            doors = Doors(task)
            doors._number = self.made % 2  # one ends a round before the other
            if self.left is not None and self.made == self.left:
                doors.step = lambda action: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
            return doors

    def killing(turn: Turn, action: Action) -> Verdict:
        raise KeyboardInterrupt

    train(TabularPolicy(), [], opens, tmp_path / "whole", options(num_steps=1), environments={"d": Killed(None)})
    first = Killed(2 if killed_at == "episode" else None)
    with pytest.raises(KeyboardInterrupt):
        train(TabularPolicy(), [], killing, tmp_path / "cut", options(num_steps=1), environments={"d": first})
    ended = len(played(tmp_path / "cut")) if killed_at == "verdict" else 0
    assert ended == (2 if killed_at == "verdict" else 0)
    rest = Killed(None)
    train(TabularPolicy(), [], opens, tmp_path / "cut", options(num_steps=1), environments={"d": rest})
    assert rest.made == 2 - ended
    for name in ("groups.jsonl", "episodes.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_verifier_that_needs_a_demonstration_gives_no_verdict_and_that_is_told(tmp_path: Path) -> None:
    with pytest.warns(Notice, match=r"samples got no verdict"):
        rows = train(TabularPolicy(), [], exact, tmp_path, options(num_steps=1), environments={"d": Corridors()})
    assert rows[0].metrics["groups/with_verdict"] == 0 and "loss/total" not in rows[0].metrics
    told = {v.details["error"] for g in read_records(tmp_path / "groups.jsonl", SampleGroup) for v in g.verdicts_G}
    assert all("is still to be played, so nothing was demonstrated there" in text for text in told)


def test_the_command_line_plays_and_verifies_and_checks_the_verifier_first(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    arguments = [*FAST, "--verifier", "test_own_states_method:opens", "--train-max-tokens", "8"]
    arguments += ["--method", "own_states(tasks_per_step=2, states_per_step=3)"]
    given = ["--train-environments", "test_own_states_method:make_environments"]
    run = tmp_path / "run"
    assert call("run", logs, "-o", run, *arguments, *given) == 0
    assert (run / "check.json").is_file() and not (run / "profiles.jsonl").exists()
    assert "PivotRL at own states" in (run / "report.html").read_text()
    manifest = json.loads((run / "train.manifest.json").read_text())
    rows = [json.loads(line)["metrics"] for line in (run / "train/metrics.jsonl").open()]
    checks = json.loads((run / "check.json").read_text()).get("num_rollout_turns", 0)
    assert manifest["num_rollout_turns"] == sum(row["samples/total"] for row in rows) + checks == 3 * (2 * 3 + 3 * 4)
    assert call("train", run, "--name", "again") == 0  # the directory is enough
    assert (run / "trainings/again/groups.jsonl").read_bytes() == (run / "train/groups.jsonl").read_bytes()


def test_a_verifier_that_accepts_anything_is_refused_before_an_episode_is_played(
    tmp_path: Path, logs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    run = tmp_path / "run"
    assert call("read", logs, "-o", run) == 0
    arguments = ["train", run, *FAST[:2], "--method", "own_states", "--verifier", "test_own_states_method:anything"]
    told = refused(capsys, 2, *arguments, "--train-environments", "test_own_states_method:make_environments")
    assert "wrong" in told and not (run / "train").exists()
    assert "name environments with --train-environments" in refused(capsys, 2, *arguments)


def anything(turn: Turn, action: Action) -> Verdict:
    return Verdict.passed()


@pytest.mark.parametrize("metadata", [["a"], {1: 2}, {"a": object()}, {"a": float("nan")}])
def test_metadata_that_no_record_can_hold_is_told_in_words(metadata: Any, tmp_path: Path) -> None:
    class Odd(Corridors):
        def make(self, task: str) -> Doors:
            doors = Doors(task)
            doors.metadata = metadata
            return doors

    with pytest.raises(InputError, match=r"metadata is .*, not a dict of JSON values"):
        train(TabularPolicy(), [], opens, tmp_path, options(num_steps=1), environments={"d": Odd()})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"group_size": 1}, "--group-size 1 gives no advantage"),
        ({"train_temperature": 0.0}, "gives groups of equal samples"),
        ({"method": "own_states(states_per_step=0)"}, "states_per_step"),
    ],
)
def test_options_without_effect_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        options(**given)


def test_a_plancraft_episode_is_verified_like_the_log_of_the_same_moves() -> None:
    pytest.importorskip("plancraft")
    from pivotrl.environments.plancraft import make_environments as plancraft
    from pivotrl.environments.plancraft import restore
    from pivotrl.episodes import Episode, play_episodes, turns_of
    from pivotrl.readers.plancraft import read
    from pivotrl.records import Completion, Sampling
    from pivotrl.verifiers.plancraft import verify

    trajectory = next(iter(read(Path("train"), max_tasks=1)))
    moves = [message.content for message in trajectory.messages if message.role == "assistant"]

    class Expert:
        def fits(self, turn: Turn, max_tokens: int) -> bool:
            return True

        def sample(self, turns: Sequence[Turn], *_: Any) -> Any:
            for turn in turns:
                number = sum(message.role == "assistant" for message in turn.trajectory.messages)
                text = moves[number]
                done = Completion(
                    action=Action(content=text), text=text, token_ids_T=(1,), logprobs_T=(0.0,), finish_reason="stop"
                )
                yield SampleGroup(turn_id=turn.id, completions_G=(done,))

    made = plancraft(split="train", difficulty=("easy", "medium", "hard"), distractors=(4, 8, 16))
    episode = Episode("plancraft", trajectory.task_id, 0, lambda: made.make(trajectory.task_id))
    (result,) = play_episodes([episode], Expert(), Sampling())  # type: ignore[arg-type]
    assert result.reward == 1.0
    states = turns_of(result)
    assert len(states) == len(moves)
    for state, move in zip(states, moves, strict=True):
        assert verify(state, Action(content=move)).outcome == "pass"
        assert verify(state, Action(content="nonsense")).outcome == "fail"
        assert restore(state).state()
    without = states[0].trajectory.model_copy(update={"metadata": {}})
    assert verify(Turn(without, states[0].index), Action(content=moves[0])).reason == "not_a_plancraft_turn"
