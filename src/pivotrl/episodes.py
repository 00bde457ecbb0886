"""Plays episodes to the end with a policy, all side by side: each round plays one turn of every episode."""

from __future__ import annotations

import contextlib
import functools
import random
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pivotrl.plugins.environments import begun, closed, metadata_of, pinned_of, stepped, tools_of
from pivotrl.plugins.shapes import sampled
from pivotrl.protocols import Environment, Environments, InputError, Observation, Sampler, Turn
from pivotrl.records import EpisodeResult, EpisodeTurn, Message, SampleGroup, Sampling, Trajectory, episode_key
from pivotrl.rollouts import cost_of_groups, misfit, storable, tokens_of_groups
from pivotrl.seeding import derive_seed
from pivotrl.storage.record_files import RecordFile


@dataclass(frozen=True)
class Episode:
    """One run through a task. Environment, task and number name it; with the seed they fix its samples."""

    environment: str
    task: str
    number: int
    make: Callable[[], Environment]
    """Makes an environment for this episode alone."""

    @property
    def key(self) -> str:
        return episode_key(self.environment, self.task, self.number)


def episodes_of(environments: Mapping[str, Environments], per_task: int = 1) -> list[Episode]:
    """Every task of every named environment, ``per_task`` times. Episodes of one task are consecutive."""
    return [
        Episode(name, task, number, functools.partial(made.make, task))
        for name, made in environments.items()
        for task in made.tasks()
        for number in range(per_task)
    ]


def draw_tasks(environments: Mapping[str, Environments], num_tasks: int, step: int, seed: int) -> list[Episode]:
    """The different tasks of a training step, each as its first episode. A task comes back only after all others.

    Raises:
        InputError: there are no tasks.
    """
    tasks = episodes_of(environments)
    if not tasks:
        raise InputError("this method plays episodes; name environments with --train-environments")
    drawn = []
    for position in range(step * num_tasks, (step + 1) * num_tasks):
        number, index = divmod(position, len(tasks))
        order = random.Random(derive_seed(seed, "tasks", number))  # noqa: S311
        drawn.append(order.sample(tasks, len(tasks))[index])
    return list({episode.key: episode for episode in drawn}.values())


def play_once(
    episodes: Sequence[Episode], sampler: Sampler, sampling: Sampling, file: RecordFile[EpisodeResult]
) -> list[EpisodeResult]:
    """The results of the episodes, in order. Those in the file are read back; each new one is stored as it ends."""
    for result in play_episodes([one for one in episodes if one.key not in file], sampler, sampling):
        file.append([result])
    return [file.get(episode.key) for episode in episodes]


def turns_of(result: EpisodeResult) -> list[Turn]:
    """Every sampled turn of an episode, with nothing but what came before it: still to be played."""
    whole = result.trajectory()
    return [
        Turn(whole.model_copy(update={"messages": whole.messages[: turn.index]}), turn.index) for turn in result.turns
    ]


def play_episodes(
    episodes: Iterable[Episode | Environment], sampler: Sampler, sampling: Sampling
) -> Generator[EpisodeResult]:
    """Yield one result per episode, as soon as the episode has ended and its environment is closed.

    Every started environment is closed, even if an environment or the sampler fails or the caller stops iterating.

    Args:
        episodes: a bare environment is an episode of an environment without a name; episodes of one task are then
            numbered in order.

    Raises:
        InputError: an environment fails or returns a value of the wrong shape.
    """
    with getattr(sampler, "keeping", contextlib.nullcontext)():
        yield from _played(episodes, sampler, sampling)


def _played(episodes: Iterable[Episode | Environment], sampler: Sampler, sampling: Sampling) -> Iterator[EpisodeResult]:
    playing: list[_Playing] = []
    try:
        for episode in _named(episodes):
            playing.append(_Playing(episode, sampling.seed))
            playing[-1].begin()
        while playing:
            turns = [one.next_turn() for one in playing]
            faults = [misfit(sampler, turn, sampling.max_tokens) for turn in turns]
            playable = [turn for turn, fault in zip(turns, faults, strict=True) if fault is None]
            groups = sampled(sampler, playable, 1, sampling)
            for one, fault in zip(tuple(playing), faults, strict=True):
                last = one.act(next(groups)) if fault is None else Observation((), 0.0, True, fault.reason)
                if last.done:
                    playing.remove(one)
                    closed(one.environment)
                    yield one.result(last)
    except BaseException:  # the error matters more than an environment that fails to close after it
        for one in playing:
            with contextlib.suppress(Exception):
                closed(one.environment)
        raise


class _Playing:
    """A running episode."""

    def __init__(self, episode: Episode, seed: int) -> None:
        self.episode, self.seed, self.environment = episode, seed, episode.make()
        self.messages: list[Message] = []
        self.turns: list[EpisodeTurn] = []
        self.groups: list[SampleGroup] = []
        """What was sampled, turns without a sample included."""

    def begin(self) -> None:
        self.messages += begun(self.environment)
        self.tools, self.pinned = tools_of(self.environment), pinned_of(self.environment)
        self.metadata = metadata_of(self.environment)

    def next_turn(self) -> Turn:
        trajectory = Trajectory(
            id=f"episode-{self.episode.key}",
            task_id=self.episode.task,
            messages=tuple(self.messages),
            tools=self.tools,
            context_window=self.environment.context_window,
            pinned_messages=self.pinned,
        )
        return Turn(trajectory, len(self.messages))

    def act(self, group: SampleGroup) -> Observation:
        """Take the sampled action and return the environment's answer."""
        self.groups.append(group)
        completion = storable(group.completions_G[0])
        if completion.fault is not None:
            return Observation((), None, True, completion.fault)
        action, index = completion.action, len(self.messages)
        self.messages.append(Message(role="assistant", content=action.content, tool_calls=action.tool_calls))
        observation = stepped(self.environment, action)
        self.messages += observation.messages
        self.turns.append(
            EpisodeTurn(
                index=index,
                text=completion.text,
                token_ids_T=completion.token_ids_T,
                logprobs_T=completion.logprobs_T,
                finish_reason=completion.finish_reason,
                parse_error=completion.parse_error,
                prompt_sha256=group.prompt_sha256,
                reward=observation.reward,
                reason=observation.reason,
                fault=observation.fault,
            )
        )
        return observation

    def result(self, last: Observation) -> EpisodeResult:
        return EpisodeResult(
            environment=self.episode.environment,
            task_id=self.episode.task,
            number=self.episode.number,
            reward=last.reward,
            reason=last.reason,
            num_turns=len(self.turns),
            num_tokens=tokens_of_groups(self.groups),
            cost=cost_of_groups(self.groups),
            tags=self.environment.tags,
            metadata=self.metadata,
            seed=self.seed,
            tools=self.tools,
            context_window=self.environment.context_window,
            pinned_messages=self.pinned,
            turns=tuple(self.turns),
            transcript=tuple(self.messages),
        )


def _named(episodes: Iterable[Episode | Environment]) -> Iterator[Episode]:
    seen = Counter[str]()
    for given in episodes:
        if isinstance(given, Episode):
            yield given
        else:
            yield Episode("", given.task_id, seen[given.task_id], functools.partial(_itself, given))
            seen[given.task_id] += 1


def _itself(environment: Environment) -> Environment:
    return environment
