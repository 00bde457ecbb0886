"""Play environments to their end with a policy, all of them side by side, one turn each at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from pivotrl.plugins.shapes import begun, sampled, stepped
from pivotrl.protocols import Environment, Sampler, Turn
from pivotrl.records import EpisodeResult, Message, Sampling, Trajectory
from pivotrl.rollouts import misfit, storable


def play_episodes(environments: Sequence[Environment], sampler: Sampler, sampling: Sampling) -> Iterator[EpisodeResult]:
    """One result per environment, each yielded when its episode ends.

    Raises:
        InputError: an environment breaks, or returns something else than it must.
    """
    with getattr(sampler, "keeping", contextlib.nullcontext)():
        yield from _played(environments, sampler, sampling)


def _played(environments: Sequence[Environment], sampler: Sampler, sampling: Sampling) -> Iterator[EpisodeResult]:
    playing: list[tuple[Environment, list[Message], int]] = [(e, begun(e), 0) for e in environments]
    while playing:
        turns = [_next_turn(environment, messages) for environment, messages, _ in playing]
        faults = [misfit(sampler, turn, sampling.max_tokens) for turn in turns]
        playable = [turn for turn, fault in zip(turns, faults, strict=True) if fault is None]
        groups = sampled(sampler, playable, 1, sampling)
        still: list[tuple[Environment, list[Message], int]] = []
        for (environment, messages, tokens), fault in zip(playing, faults, strict=True):
            if fault is not None:
                yield _result(environment, messages, tokens, 0.0, fault.reason)
                continue
            completion = storable(next(groups).completions_G[0])
            tokens += len(completion.token_ids_T)
            action = completion.action
            messages.append(Message(role="assistant", content=action.content, tool_calls=action.tool_calls))
            observation = stepped(environment, action)
            messages += observation.messages
            if observation.done:
                yield _result(environment, messages, tokens, observation.reward, observation.reason)
            else:
                still.append((environment, messages, tokens))
        playing = still


def _next_turn(environment: Environment, messages: Sequence[Message]) -> Turn:
    trajectory = Trajectory(
        id=f"episode-{environment.task_id}",
        task_id=environment.task_id,
        messages=tuple(messages),
        tools=tuple(getattr(environment, "tools", ())),
        context_window=environment.context_window,
    )
    return Turn(trajectory, len(messages))


def _result(
    environment: Environment, messages: Sequence[Message], tokens: int, reward: float | None, reason: str
) -> EpisodeResult:
    return EpisodeResult(
        task_id=environment.task_id,
        reward=reward,
        reason=reason,
        num_turns=sum(message.role == "assistant" for message in messages),
        num_tokens=tokens,
        tags=environment.tags,
        transcript=tuple(messages),
    )
