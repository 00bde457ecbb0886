"""Episodes: each is one of its own, is closed whatever happens, and can be read back as it was played.

Run alone: python -m pytest tests/test_episodes.py
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pivotrl import Action, EvaluationOptions, InputError, Message, Observation, Tool, cut, summarise
from pivotrl.cli.choices import HeldOut
from pivotrl.episodes import Episode, episodes_of, play_episodes
from pivotrl.evaluation import compare_episodes, episode_success, evaluate_episodes
from pivotrl.plugins.environments import describe_environments, make_checked, require_environments
from pivotrl.policies.hf import Policy as HfPolicy
from pivotrl.policies.tabular import Policy
from pivotrl.protocols import TrainingGroup, Turn, UpdateOptions
from pivotrl.protocols.observing import Observer
from pivotrl.records import EpisodeResult, SampleGroup, Sampling
from pivotrl.report.run_command import resume_command
from pivotrl.stages.evaluating import evaluate_stage
from pivotrl.storage.record_files import RecordFile, encode_line, read_records
from pivotrl.verifiers.exact import verify
from tiny import save_tiny_model

WARM = Sampling(temperature=1.0, max_tokens=8)
OPTIONS = EvaluationOptions(eval_temperature=1.0, episodes_per_task=2, eval_batch=2, eval_max_tokens=8)


class Walk:
    """Every action moves on; the reward is how many different ones were taken. Notes when it is open."""

    context_window = None

    def __init__(self, task: str, turns: int = 3, noted: Counter[str] | None = None, window: int | None = None) -> None:
        self.task_id, self.tags, self._left = task, {"kind": "walk"}, turns
        self.noted, self.taken = Counter[str]() if noted is None else noted, set[str]()
        self.context_window = window

    def reset(self) -> tuple[Message, ...]:
        self.noted["opened"] += 1
        return (Message(role="system", content="Walk."), Message(role="user", content=f"You are in {self.task_id}."))

    def step(self, action: Action) -> Observation:
        self._left -= 1
        self.taken.add(str(action))
        answer = (Message(role="user", content=f"{self._left} to go."),)
        if self._left > 0:
            return Observation(answer, reward=0.25)
        return Observation(answer, reward=len(self.taken) / 3, done=True, reason="arrived")

    def close(self) -> None:
        self.noted["closed"] += 1


class Walks:
    """Two tasks, made one by one."""

    def __init__(self, *, turns: int = 3, window: int | None = None) -> None:
        self.noted, self.turns, self.window = Counter[str](), turns, window

    def tasks(self) -> list[str]:
        return ["attic", "cellar"]

    def make(self, task: str) -> Walk:
        return Walk(task, self.turns, self.noted, self.window)


class Watching:
    """A policy whose sampled turns are noted, and that stops after some of them."""

    def __init__(self, stop_after: int | None = None, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.policy, self.asked, self._left, self._error = Policy(), list[str](), stop_after, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.policy, name)

    def sample(self, turns: Sequence[Turn], num_samples: int, sampling: Sampling) -> Iterator[SampleGroup]:
        for turn in turns:
            if self._left == 0:
                raise self._error("stop")
            self._left = self._left and self._left - 1
            self.asked.append(turn.id)
            yield from self.policy.sample([turn], num_samples, sampling)


def texts(result: EpisodeResult) -> tuple[str | None, ...]:
    return tuple(message.content for message in result.transcript if message.role == "assistant")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> HfPolicy:
    folder = tmp_path_factory.mktemp("model")
    return HfPolicy(model=str(save_tiny_model(folder / "model")), lora_rank=2, dtype="float32", device="cpu")


# --- each is one of its own -------------------------------------------------------------------------------------------


def test_three_episodes_of_one_task_differ_at_temperature_1() -> None:
    episodes = [e for e in episodes_of({"walk": Walks(turns=8)}, 3) if e.task == "attic"]
    results = list(play_episodes(episodes, Policy(), WARM))
    assert len({texts(result) for result in results}) == 3
    assert sorted(result.key for result in results) == ["walk/attic~0", "walk/attic~1", "walk/attic~2"]
    again = list(play_episodes(list(reversed(episodes)), Policy(), WARM))
    assert {r.key: texts(r) for r in again} == {r.key: texts(r) for r in results}, "the name fixes what is sampled"


def test_copies_in_a_plain_list_are_numbered_and_differ() -> None:
    results = list(play_episodes([Walk("attic", 8) for _ in range(3)], Policy(), WARM))
    assert [result.number for result in results] == [0, 1, 2]
    assert len({texts(result) for result in results}) == 3


def test_greedy_episodes_of_one_task_are_one(network: HfPolicy) -> None:
    greedy = Sampling(temperature=0.0, max_tokens=8)
    one, other = play_episodes([Walk("attic") for _ in range(2)], network, greedy)
    assert one.transcript == other.transcript


def test_two_environments_with_the_same_tasks_stand_beside_each_other(tmp_path: Path) -> None:
    named = make_checked({"short": lambda: Walks(turns=2), "long": lambda: Walks(turns=5)})
    results = evaluate_episodes(Policy(), named, tmp_path / "e.jsonl", OPTIONS)
    assert Counter((r.environment, r.task_id, r.num_turns) for r in results) == {
        ("short", "attic", 2): 2,
        ("short", "cellar", 2): 2,
        ("long", "attic", 5): 2,
        ("long", "cellar", 5): 2,
    }
    estimate = episode_success(results)
    assert estimate is not None and estimate.num_items == 8 and estimate.num_clusters == 4, "clusters are tasks"


def test_an_interrupted_evaluation_goes_on_and_buys_nothing_twice(tmp_path: Path) -> None:
    whole, path = Watching(), tmp_path / "e.jsonl"
    evaluate_episodes(whole, {"walk": Walks()}, tmp_path / "whole.jsonl", OPTIONS)
    assert len(whole.asked) == len(set(whole.asked)) == 2 * 2 * 3
    first = Watching(stop_after=8)  # in the second batch of two
    with pytest.raises(KeyboardInterrupt):
        evaluate_episodes(first, {"walk": Walks()}, path, OPTIONS)
    assert [r.key for r in read_records(path, EpisodeResult)] == ["walk/attic~0@1", "walk/attic~1@1"]
    second = Watching()
    evaluate_episodes(second, {"walk": Walks()}, path, OPTIONS)
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not {turn for turn in second.asked if "/attic~" in turn}
    third = Watching()
    evaluate_episodes(third, {"walk": Walks()}, path, OPTIONS)
    assert not third.asked


@pytest.mark.parametrize("number", [0, -1])
def test_several_episodes_need_a_temperature_and_a_number(number: int) -> None:
    with pytest.raises(InputError, match="--episodes-per-task 2 at temperature 0 are one episode"):
        EvaluationOptions(episodes_per_task=2)
    with pytest.raises(InputError, match="--episodes-per-task"):
        EvaluationOptions(episodes_per_task=number)


# --- a plain list -----------------------------------------------------------------------------------------------------


def test_a_plain_list_gives_one_episode_a_task_and_refuses_a_second() -> None:
    listed = lambda: [Walk("attic"), Walk("cellar")]  # noqa: E731
    (environments,) = make_checked(listed).values()
    assert list(environments.tasks()) == ["attic", "cellar"]
    environments.make("attic")
    with pytest.raises(InputError, match=r"a list holds one environment per task.*'attic'.*tasks\(\) and make\(task\)"):
        environments.make("attic")
    for refused in (make_checked, require_environments):
        with pytest.raises(InputError, match="a list holds one environment per task"):
            refused(listed, 2)


# --- always closed ----------------------------------------------------------------------------------------------------


def test_every_environment_is_closed_when_its_episode_ends() -> None:
    walks = Walks()
    for number, _ in enumerate(play_episodes(episodes_of({"w": walks}, 2), Policy(), WARM), start=1):
        assert walks.noted == {"opened": 4, "closed": number}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_every_environment_is_closed_when_the_sampler_breaks(error: type[BaseException]) -> None:
    walks = Walks()
    with pytest.raises((error, InputError)):
        list(play_episodes(episodes_of({"w": walks}, 2), Watching(stop_after=6, error=error), WARM))
    assert walks.noted == {"opened": 4, "closed": 4}


def test_every_environment_is_closed_when_one_of_them_breaks() -> None:
    for broken in ("reset", "step", "close"):
        walks = Walks()
        bad = Walk("bad", 3, walks.noted)

        def breaks(*_: object) -> Any:
            raise RuntimeError("out of order")

        setattr(bad, broken, breaks)
        episodes = [*episodes_of({"w": walks}), Episode("w", "bad", 0, lambda bad=bad: bad)]  # type: ignore[misc]
        with pytest.raises(InputError, match=f"fails in {broken}: RuntimeError: out of order"):
            list(play_episodes(episodes, Policy(), WARM))
        assert walks.noted["closed"] == (2 if broken == "close" else 3), broken


def test_every_environment_is_closed_when_nobody_asks_for_more_results(tmp_path: Path) -> None:
    walks = Walks()
    results = play_episodes(episodes_of({"w": walks}, 2), Policy(), WARM)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert walks.noted == {"opened": 4, "closed": 4}

    class Stop(Observer):
        def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
            if done == 1:
                raise KeyboardInterrupt

    walks = Walks()
    with pytest.raises(KeyboardInterrupt) as caught:
        evaluate_episodes(Policy(), {"w": walks}, tmp_path / "e.jsonl", OPTIONS, Stop())
    assert walks.noted == {"opened": 2, "closed": 2}, caught


def test_a_fault_stays_the_one_that_is_told_when_closing_fails_as_well() -> None:
    class Jammed(Walk):
        def close(self) -> None:
            raise RuntimeError("jammed")

    with pytest.raises(KeyboardInterrupt):
        list(play_episodes([Jammed("a"), Jammed("b")], Watching(stop_after=3), WARM))


# --- read back --------------------------------------------------------------------------------------------------------


class Tooled(Walk):
    tools = (Tool(name="look", description="Look around.", parameters={"type": "object", "properties": {}}),)


@pytest.mark.parametrize("window", [None, 1])
def test_a_played_episode_read_back_has_the_prompts_that_were_played(
    network: HfPolicy, window: int | None, tmp_path: Path
) -> None:
    episode = Episode("walk", "attic", 1, lambda: Tooled("attic", 3, window=window))
    (played,) = play_episodes([episode], network, Sampling(temperature=1.0, max_tokens=24, seed=5))
    RecordFile(tmp_path / "e.jsonl", EpisodeResult).append([played])
    (result,) = read_records(tmp_path / "e.jsonl", EpisodeResult)
    assert result == played and result.seed == 5
    assert [turn.reward for turn in result.turns] == [0.25, 0.25, result.reward]
    assert result.turns[-1].reason == result.reason == "arrived"

    trajectory = result.trajectory()
    assert trajectory.id == "episode-walk/attic~1" and trajectory.tools and trajectory.reward == result.reward
    candidates, skipped = cut([trajectory])
    assert len(candidates) + len(skipped) == result.num_turns == 3
    by_index = {turn.index: turn for turn in result.turns}
    again = network.sample([Turn(trajectory, index) for index in by_index], 1, WARM)
    assert [group.prompt_sha256 for group in again] == [turn.prompt_sha256 for turn in result.turns]
    assert {turn.id for turn in candidates} <= {f"{trajectory.id}#{index}" for index in by_index}
    shorter = trajectory.model_copy(update={"tools": ()})
    (other,) = network.sample([Turn(shorter, result.turns[0].index)], 1, WARM)
    assert other.prompt_sha256 != result.turns[0].prompt_sha256, "without its tools the prompt is another one"


def test_a_played_episode_can_be_trained_on(network: HfPolicy) -> None:
    (result,) = play_episodes([Walk("attic")], network, Sampling(temperature=1.0, max_tokens=24))
    trajectory = result.trajectory()
    groups = [
        TrainingGroup(Turn(trajectory, turn.index), [completion], [1.0], turn.prompt_sha256)
        for turn, completion in zip(result.turns, result.completions(), strict=True)
    ]
    metrics = network.update(groups, 0.0, UpdateOptions())
    assert metrics["tokens/trained"] == result.num_tokens == sum(len(t.token_ids_T) for t in result.turns)
    assert metrics["policy/sampler_gap"] < 1e-3, "log-probabilities are those that were sampled with"


def test_a_stored_episode_is_replayed_from_its_actions() -> None:
    (result,) = play_episodes(episodes_of({"w": Walks()})[:1], Policy(), WARM)
    environment = Walks().make(result.task_id)
    told = list(environment.reset())
    for turn, completion in zip(result.turns, result.completions(), strict=True):
        told.append(result.transcript[turn.index])
        observation = environment.step(completion.action)
        told += observation.messages
        assert (observation.reward, observation.reason) == (turn.reward, turn.reason)
    assert tuple(told) == result.transcript


def test_messages_that_an_environment_begins_with_are_no_turns_that_were_bought() -> None:
    class Shown(Walk):
        def reset(self) -> tuple[Message, ...]:
            example = (Message(role="user", content="Where to?"), Message(role="assistant", content="North."))
            return (*example, *super().reset())

    (result,) = play_episodes([Shown("attic")], Policy(), WARM)
    assert result.num_turns == len(result.turns) == 3
    assert [turn.index for turn in result.turns] == [4, 6, 8]


# --- older files ------------------------------------------------------------------------------------------------------

OLD = {"task_id": "attic", "reward": 1.0, "reason": "arrived", "num_turns": 2, "num_tokens": 2}
"""A result as the first version stored it."""


def old_results(path: Path, rewards: Sequence[float]) -> list[EpisodeResult]:
    old = [EpisodeResult(**{**OLD, "task_id": f"t{n}", "reward": reward}) for n, reward in enumerate(rewards)]
    assert all(b"environment" not in line and b"number" not in line for line in map(encode_line, old))
    RecordFile(path, EpisodeResult).append(old)
    return read_records(path, EpisodeResult)


def test_results_of_an_older_version_are_read_and_compared(tmp_path: Path) -> None:
    before = old_results(tmp_path / "before.jsonl", [0.0, 0.0, 1.0, 0.0])
    after = old_results(tmp_path / "after.jsonl", [1.0, 1.0, 1.0, 0.0])
    assert [result.key for result in before] == ["t0~0", "t1~0", "t2~0", "t3~0"]
    difference = compare_episodes(before, after)
    assert difference is not None and difference.difference == 0.5 and difference.num_items == 4
    named = [result.model_copy(update={"environment": "walk"}) for result in after]
    assert compare_episodes(before, named) == difference, "the older side does not say which environment it was"
    with pytest.raises(ValueError, match="older version"):
        before[0].trajectory()


def test_an_older_version_s_file_is_not_gone_on_with(tmp_path: Path) -> None:
    old_results(tmp_path / "e.jsonl", [0.0])
    with pytest.raises(InputError, match="older version"):
        evaluate_episodes(Policy(), {"walk": Walks()}, tmp_path / "e.jsonl", OPTIONS)


def test_the_same_pairs_are_compared_before_and_after() -> None:
    def result(environment: str, number: int, reward: float) -> EpisodeResult:
        return EpisodeResult(**{**OLD, "environment": environment, "number": number, "reward": reward})

    before = [result("a", 0, 0.0), result("a", 1, 0.0), result("b", 0, 1.0), result("b", 1, 1.0)]
    after = [result("b", 1, 0.0), result("a", 1, 1.0), result("a", 0, 0.0)]
    difference = compare_episodes(before, after)
    assert difference is not None and difference.num_items == 3 and difference.num_clusters == 2


# --- a stage ----------------------------------------------------------------------------------------------------------


def test_a_stage_plays_several_environments_and_says_which(tmp_path: Path) -> None:
    named = {"walk(turns=2)": lambda: Walks(turns=2), "walk(turns=4)": lambda: Walks(turns=4)}
    options = EvaluationOptions(eval_temperature=1.0, episodes_per_task=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate_stage(
            tmp_path, name="before", policy=Policy(), verifier=verify, evaluation=options, environments=named
        )
    results = read_records(tmp_path / "evaluations" / "before.episodes.jsonl", EpisodeResult)
    assert len(results) == 8 and {r.environment for r in results} == set(named)
    manifest = json.loads((tmp_path / "evaluations" / "before.manifest.json").read_text())
    assert manifest["options"]["environments"] == [f"environments:{name}" for name in named]
    rows = [row for row in summarise(tmp_path).breakdowns if row.tag == "environment"]
    assert [(row.value, row.before and row.before.num_items) for row in rows] == [(name, 4) for name in named]
    assert manifest["counts"]["episodes"] == 8 and manifest["num_rollout_turns"] == 2 * 2 * (2 + 4)


def test_an_environment_is_described_by_the_text_that_names_it() -> None:
    make: Any = Walks
    assert describe_environments({"plancraft(split='test')": make}) == "environments:plancraft(split='test')"
    assert describe_environments(None) is None
    assert describe_environments(make) == "test_episodes:Walks"


def test_the_command_line_names_each_environment_once() -> None:
    walk = "test_episodes:Walks"
    made = HeldOut(environments=(f"{walk}(turns=2)", f"{walk}(turns=5)")).make_environments()
    assert made is not None and list(made) == [f"{walk}(turns=2)", f"{walk}(turns=5)"]
    assert HeldOut().make_environments() is None
    for given in ((), (walk, walk)):
        with pytest.raises(InputError, match="--environments .*must name one or more environments, each once"):
            HeldOut(environments=given)


def test_the_command_that_goes_on_names_every_environment() -> None:
    from pivotrl.records import Manifest

    options = {"environments": ["environments:a(x=1)", "environments:b"], "episodes_per_task": 3}
    manifest = Manifest(stage="evaluations/before", status="complete", options=options)
    command = resume_command(Path("out"), {"evaluations/before": manifest})
    assert "--environments 'a(x=1)' b" in command and "--episodes-per-task 3" in command
