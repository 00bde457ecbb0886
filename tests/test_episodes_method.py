"""End-to-end RL as a training method: whole episodes, outcome rewards, nothing played twice."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, pvariance
from typing import Any

import pytest

from pivotrl import Action, InputError, Message, Observation, TrainingOptions, train
from pivotrl.advantages import group_advantages
from pivotrl.policies.hf import Policy as HfPolicy
from pivotrl.policies.tabular import Policy as TabularPolicy
from pivotrl.protocols import Notice, TrainingGroup, UpdateOptions
from pivotrl.protocols.observing import Observer
from pivotrl.records import EpisodeResult
from pivotrl.stages.training import train_stage
from pivotrl.storage.record_files import read_records
from pivotrl.verifiers.exact import verify
from test_cli import FAST, call, logs, refused
from test_pipeline import write_logs
from test_training import bit_patterns
from tiny import save_tiny_model

__all__ = ["logs"]


class Parity:
    """Three turns; the reward is the share of answers that end with an odd character. One that is cut off has none."""

    context_window = None

    def __init__(self, task: str) -> None:
        self.task_id, self.tags, self._odd, self._left = task, dict[str, str](), 0, 3

    def reset(self) -> tuple[Message, ...]:
        return (Message(role="user", content=f"{self.task_id}: say something"),)

    def step(self, action: Action) -> Observation:
        self._left -= 1
        self._odd += ord((action.content or "0")[-1]) % 2
        reward = self._odd / 3 if self.task_id != "broken" else None
        return Observation((Message(role="user", content="and more"),), reward, done=self._left == 0, reason="over")


class Ending(Parity):
    """The reward is the share of answers that come to an end."""

    def step(self, action: Action) -> Observation:
        self._odd += bool(action.content)
        self._left -= 1
        return Observation((Message(role="user", content="more"),), self._odd / 3, done=self._left == 0)


class Parities:
    def __init__(self, names: Sequence[str] = ("north", "south", "west"), kind: type[Parity] = Parity) -> None:
        self.names, self.kind = names, kind

    def tasks(self) -> Sequence[str]:
        return self.names

    def make(self, task: str) -> Parity:
        return self.kind(task)


def make_environments() -> Parities:
    return Parities()


class Remembering(TabularPolicy):
    """A policy that remembers what it was updated with."""

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
    defaults = {"method": "episodes(tasks_per_step=2)", "num_steps": 3, "group_size": 4, "train_max_tokens": 12}
    return TrainingOptions(**{**defaults, "learning_rate": 1e-2, "checkpoint_every": 1, **given})


def played(directory: Path) -> list[EpisodeResult]:
    return read_records(directory / "episodes.jsonl", EpisodeResult)


def test_every_turn_gets_the_advantage_of_its_episode_over_the_others_of_the_task(tmp_path: Path) -> None:
    policy = Remembering()
    train(policy, [], verify, tmp_path, options(learning_rate=1.0), environments={"p": Parities()})
    results = played(tmp_path)
    assert len(results) == 3 * 2 * 4 == len({result.key for result in results})
    expected = {}
    for step in range(3):
        numbers = range(4 * step, 4 * step + 4)
        for task in {result.task_id for result in results}:
            group = sorted((r for r in results if r.task_id == task and r.number in numbers), key=lambda r: r.number)
            advantages = group_advantages([r.reward for r in group if r.reward is not None])
            expected |= {f"episode-{r.key}": a for r, a in zip(group, advantages, strict=True)}
    given = [group for lesson in policy.lessons for group in lesson]
    assert policy.lessons and len(given) == 3 * 8 * len(policy.lessons)  # three turns of eight episodes a step
    for group in given:
        assert list(group.advantages_G) == [pytest.approx(expected[group.turn.trajectory.id])]


def test_the_tasks_whose_rewards_vary_most_teach_alone(tmp_path: Path) -> None:
    policy, method = Remembering(), "episodes(tasks_per_step=3, keep_share=0.33)"
    rows = train(policy, [], verify, tmp_path, options(method=method, num_steps=1), environments={"p": Parities()})
    rewards: dict[str, list[float]] = {}
    for result in played(tmp_path):
        assert result.reward is not None
        rewards.setdefault(result.task_id, []).append(result.reward)
    variances = {task: pvariance(of_task) for task, of_task in rewards.items()}
    best = sorted(variances, key=lambda task: -variances[task])
    assert variances[best[0]] > variances[best[1]]  # the filter has something to choose
    trained = {group.turn.trajectory.task_id for lesson in policy.lessons for group in lesson}
    assert trained == {best[0]}
    assert (rows[0].metrics["groups/kept"], rows[0].metrics["groups/with_verdict"]) == (1, 3)


def test_malformed_turns_cost_their_episode_the_penalty_and_the_reported_reward_nothing(
    tmp_path: Path, model: Path
) -> None:
    policy = HfPolicy(model=str(model), lora_rank=4, dtype="float32", device="cpu")
    lessons: list[Sequence[TrainingGroup]] = []
    update = policy.update

    def remembering(groups: Sequence[TrainingGroup], *rest: Any) -> dict[str, float]:
        lessons.append(groups)
        return update(groups, *rest)

    policy.update = remembering  # type: ignore[method-assign]
    chosen = options(method="episodes(malformed_penalty=0.5)", num_steps=1, train_max_tokens=60)
    rows = train(policy, [], verify, tmp_path, chosen, environments={"p": Parities()})
    expected = {}
    results = played(tmp_path)
    for task in {result.task_id for result in results}:
        group = sorted((r for r in results if r.task_id == task), key=lambda r: r.number)
        rewards = [(r.reward or 0.0) - 0.5 * sum(turn.parse_error is not None for turn in r.turns) for r in group]
        advantages = group_advantages(rewards)
        assert advantages != group_advantages([r.reward or 0.0 for r in group])
        expected |= {f"episode-{r.key}": a for r, a in zip(group, advantages, strict=True)}
    (lesson,) = lessons
    assert {group.turn.trajectory.id: group.advantages_G[0] for group in lesson} == pytest.approx(expected)
    assert rows[0].metrics["reward/mean"] == pytest.approx(fmean(r.reward or 0.0 for r in results))


def test_a_task_comes_back_only_after_all_others(tmp_path: Path) -> None:
    train(TabularPolicy(), [], verify, tmp_path, options(), environments={"p": Parities()})
    order = [result.task_id for result in sorted(played(tmp_path), key=lambda r: r.number) if result.number % 4 == 0]
    assert len(order) == 6 and set(order) == {"north", "south", "west"}
    assert all(order.count(task) == 2 for task in set(order))


def test_episodes_without_a_reward_are_left_out_never_a_zero(tmp_path: Path) -> None:
    policy = Remembering()
    steps = train(policy, [], verify, tmp_path, options(), environments={"p": Parities(("broken", "north"))})
    trained = {group.turn.trajectory.task_id for lesson in policy.lessons for group in lesson}
    assert trained == {"north"}
    assert steps[0].metrics["samples/without_verdict"] == 12 and steps[0].metrics["groups/with_verdict"] == 1


def test_turns_that_are_all_cut_off_are_told_once(tmp_path: Path, model: Path) -> None:
    policy = HfPolicy(model=str(model), lora_rank=4, dtype="float32", device="cpu")
    with pytest.warns(Notice, match=r"of 24 samples were cut off .* --train-max-tokens \(1\)") as told:
        train(policy, [], verify, tmp_path, options(train_max_tokens=1), environments={"p": Parities()})
    assert sum("cut off" in str(warning.message) for warning in told) == 1


def test_the_reward_rises(model: Path, tmp_path: Path) -> None:
    policy = HfPolicy(model=str(model), lora_rank=16, dtype="float32", device="cpu")
    longer = options(num_steps=10, group_size=8, learning_rate=3e-2, checkpoint_every=10, train_max_tokens=60)
    steps = train(policy, [], verify, tmp_path, longer, environments={"p": Parities(kind=Ending)})
    rewards = [row.metrics["reward/mean"] for row in steps]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.1


@pytest.mark.parametrize("stop_at", [1, 2])
def test_an_interrupted_training_ends_with_the_same_bits_and_plays_nothing_twice(
    model: Path, tmp_path: Path, stop_at: int
) -> None:
    def fresh() -> HfPolicy:
        return HfPolicy(model=str(model), lora_rank=4, dtype="float32", device="cpu")

    class Stop(Observer):
        def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
            if done == stop_at:
                raise KeyboardInterrupt

    whole = fresh()
    train(whole, [], verify, tmp_path / "whole", options(), environments={"p": Parities()})
    with pytest.raises(KeyboardInterrupt):
        train(fresh(), [], verify, tmp_path / "cut", options(), Stop(), {"p": Parities()})
    bought = (tmp_path / "cut" / "episodes.jsonl").read_bytes()
    again = fresh()
    train(again, [], verify, tmp_path / "cut", options(), environments={"p": Parities()})
    assert bit_patterns(again) == bit_patterns(whole)
    assert (tmp_path / "cut" / "episodes.jsonl").read_bytes().startswith(bought)
    assert {r.key: r for r in played(tmp_path / "cut")} == {r.key: r for r in played(tmp_path / "whole")}


def test_an_episode_that_was_played_before_the_kill_is_read_back(tmp_path: Path) -> None:
    """Killed in the middle of a step: what had ended is on disk, and only the rest is played."""

    class Killed(Parities):
        def __init__(self, after: int | None) -> None:
            super().__init__()
            self.left, self.made = after, 0

        def make(self, task: str) -> Parity:
            self.made += 1
            parity = Parity(task)
            parity._left = 1 + self.made % 3  # so that episodes end one after another
            if self.left is not None and self.made == self.left:
                parity.step = lambda action: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
            return parity

    with pytest.raises(KeyboardInterrupt):
        train(TabularPolicy(), [], verify, tmp_path, options(num_steps=1), environments={"p": Killed(8)})
    ended = len(played(tmp_path))
    environments = Killed(None)
    train(TabularPolicy(), [], verify, tmp_path, options(num_steps=1), environments={"p": environments})
    assert environments.made == 8 - ended


def test_the_command_line_trains_on_episodes_alone(tmp_path: Path, logs: Path, monkeypatch: Any) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    arguments = [*FAST, "--method", "episodes(tasks_per_step=2)", "--train-max-tokens", "8"]
    given = ["--train-environments", "test_episodes_method:make_environments"]
    assert call("run", logs, "-o", tmp_path / "run", *arguments, *given) == 0
    run = tmp_path / "run"
    assert not (run / "profiles.jsonl").exists()  # no pivots are bought for it
    assert "end-to-end RL (GRPO)" in (run / "report.html").read_text()
    manifest = json.loads((run / "train.manifest.json").read_text())
    assert manifest["num_rollout_turns"] == 3 * sum(1 for _ in (run / "train/episodes.jsonl").open())
    assert call("train", run, "--name", "again") == 0  # the directory is enough
    assert (run / "trainings/again/episodes.jsonl").read_bytes() == (run / "train/episodes.jsonl").read_bytes()
    assert call("profile", run, "--num-samples", "4") == 0
    assert call("select", run) == 0
    assert call("train", run, "--name", "pivots", "--method", "pivotrl") == 0  # it plays nothing, and need not say so


def test_what_does_not_fit_is_refused_before_anything_is_played(
    tmp_path: Path, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert call("run", logs, "-o", run, *FAST) == 0
    told = refused(capsys, 2, "train", run, "--name", "b", "--method", "episodes")
    assert "end-to-end RL (GRPO) plays whole episodes; name environments with --train-environments" in told
    told = refused(capsys, 2, "train", run, "--name", "b", "--train-environments", "plancraft")
    assert "PivotRL plays no environments; leave out --train-environments" in told
    told = refused(capsys, 2, "train", run, "--name", "b", "--method", "episodes", "--group-size", "1")
    assert "--group-size 1 gives no advantage" in told
    assert not (run / "trainings").exists()


def test_a_list_of_environments_cannot_be_played_several_times(tmp_path: Path) -> None:
    write_logs(tmp_path / "logs.jsonl")
    assert call("read", tmp_path / "logs.jsonl", "-o", tmp_path / "run") == 0
    with pytest.raises(InputError, match="a list holds one environment per task"):
        train_stage(
            tmp_path / "run",
            policy=TabularPolicy(),
            verifier=verify,
            training=options(),
            environments=lambda: [Parity("a"), Parity("b")],
        )


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        ("1", "step returned the reward '1', not a number or None"),
        (1e308, "step returned a reward beyond 1e+100, too large to average"),
        (10**400, "step returned a reward beyond 1e+100, too large to average"),
    ],
    ids=["text", "float", "integer"],
)
def test_a_reward_that_cannot_be_averaged_is_told_in_words(reward: Any, said: str, tmp_path: Path) -> None:
    class Odd(Parities):
        def make(self, task: str) -> Parity:
            parity = Parity(task)
            parity.step = lambda action: Observation((), reward=reward, done=True)  # type: ignore[method-assign]
            return parity

    with pytest.raises(InputError, match=re.escape(said)):
        train(TabularPolicy(), [], verify, tmp_path, options(num_steps=1), environments={"p": Odd()})


def test_an_environment_is_named_once(tmp_path: Path, logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--train-environments", "plancraft", "plancraft", "--method", "episodes"]
    told = refused(capsys, 2, "run", logs, "-o", tmp_path / "run", *FAST, *given)
    assert "--train-environments plancraft plancraft must name one or more environments, each once" in told
