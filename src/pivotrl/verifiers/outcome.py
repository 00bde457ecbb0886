"""Judges an action by its consequences: continues the episode to its end and takes the environment's final reward.

The reward of a verdict is the mean over a few continuations, so it is noisy. Every verdict reports the noise, and
:func:`pivotrl.advantages.action_variance` subtracts it from the variance between the actions of a turn.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from pivotrl.environments import load_restore
from pivotrl.episodes import play_episodes
from pivotrl.options import AtLeast1, NotNegative
from pivotrl.protocols import InputError, NotRestorable, Observation, Restore, RestoredEnvironment, Sampler, Turn
from pivotrl.records import Action, Message, Sampling, Verdict
from pivotrl.seeding import derive_seed

_UNFINISHED = frozenset({"context_too_long", "not_renderable", "sandbox_failed", "no_end_within_max_turns"})
"""Reasons why a continuation stops without a result from the environment."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Continues an action's episode to its end ``continuations`` times; the reward is the mean final reward.

    Args:
        environment: an environment whose module exports ``restore``, with options, such as
            ``plancraft(max_turns=20)``; in Python the function itself.
        continuations: number of continuations; the standard error of a reward in [0, 1] is at most
            0.5 / sqrt(continuations - 1).
        threshold: the least mean reward with which the action passes. Training uses the graded reward, not this. With
            final rewards of 0 and 1 the default means "at least as likely to succeed as to fail".
        max_turns: maximum turns of a continuation. The environment's own limit should be lower, since it gives a
            reward.
        policy: which policy continues the episode during training. ``reference`` is a fixed yardstick; ``current``
            measures what the trained policy would achieve.
        temperature, max_tokens: sampling options of that policy.
        seed: with the turn and the action it determines the continuations, so equal actions get equal verdicts.
        sampler: the policy itself; bound by :meth:`with_policy`.
    """

    environment: str | Restore
    continuations: int = 4
    threshold: float = 0.5
    max_turns: int = 50
    policy: Literal["current", "reference"] = "current"
    temperature: NotNegative = 1.0
    max_tokens: AtLeast1 = 256
    seed: int = 0
    sampler: Sampler | None = field(default=None, repr=False)

    judges_effects: ClassVar[bool] = True
    in_process: ClassVar[bool] = True
    """It must run in the policy's process; a forked child cannot use the policy."""

    def __post_init__(self) -> None:
        if self.continuations < 1 or self.max_turns < 1 or not 0.0 < self.threshold <= 1.0:
            raise InputError(
                "outcome needs continuations >= 1, max_turns >= 1 and a threshold in (0, 1], not "
                f"{self.continuations}, {self.max_turns} and {self.threshold}"
            )
        if self.policy not in ("current", "reference"):
            raise InputError(f"outcome has no policy {self.policy!r}; there are 'current' and 'reference'")

    def with_policy(self, sampler: Sampler) -> Outcome:
        """The same verifier, bound to the policy that continues episodes.

        Raises:
            InputError: the reference policy is requested, but the policy keeps none.
        """
        if self.policy == "current":
            return dataclasses.replace(self, sampler=sampler)
        reference: Sampler | None = getattr(sampler, "reference", None)
        if reference is None:
            raise InputError("outcome(policy='reference') needs a policy that keeps its reference; use 'current'")
        return dataclasses.replace(self, sampler=reference)

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        """Pass if the mean final reward reaches the threshold.

        Details: ``rewards`` of the continuations and the ``standard_error`` of their mean (None for a single one),
        ``ends`` (reason -> count), and, even without a verdict, ``num_rollout_turns`` (actions sampled from the
        policy) and ``num_tokens``.

        Reasons: reaches_threshold; below_threshold, empty_action; and without a verdict those of
        :class:`NotRestorable`, context_too_long, not_renderable, sandbox_failed, no_end_within_max_turns,
        no_final_reward, reward_out_of_range.

        Raises:
            InputError: no policy is bound, or the environment does not exist.
        """
        if self.sampler is None:
            raise InputError("outcome needs a policy to continue episodes; bind one with .with_policy(sampler)")
        if action.is_empty:
            return Verdict.failed("empty_action")
        restore = load_restore(self.environment) if isinstance(self.environment, str) else self.environment
        with contextlib.ExitStack() as stack:
            try:
                copies = [stack.enter_context(contextlib.closing(restore(turn))) for _ in range(self.continuations)]
            except NotRestorable as error:
                return Verdict.unknown(error.reason, error=error.detail, num_rollout_turns=0, num_tokens=0)
            starts = [_Continuation(turn, action, copy, self.max_turns) for copy in copies]
            ends = [_End(start.first.reward, start.first.reason, 0, 0) for start in starts if start.first.done]
            return self._judge(ends + self._play_on([start for start in starts if not start.first.done], turn, action))

    def _play_on(self, starts: list[_Continuation], turn: Turn, action: Action) -> list[_End]:
        assert self.sampler is not None
        seed = derive_seed(self.seed, "outcome", turn.id, action.model_dump_json())
        sampling = Sampling(temperature=self.temperature, max_tokens=self.max_tokens, seed=seed)
        results = sorted(play_episodes(starts, self.sampler, sampling), key=lambda result: result.number)
        return [_End(r.reward, r.reason, r.num_turns, r.num_tokens) for r in results]

    def _judge(self, ends: list[_End]) -> Verdict:
        details: dict[str, Any] = {
            "ends": dict(sorted(Counter(end.reason for end in ends).items())),
            "num_rollout_turns": sum(end.num_turns for end in ends),
            "num_tokens": sum(end.num_tokens for end in ends),
        }
        for end in ends:
            if end.reason in _UNFINISHED:
                return Verdict.unknown(end.reason, **details)
            if end.reward is None:
                return Verdict.unknown("no_final_reward", **details)
            if not (math.isfinite(end.reward) and 0.0 <= end.reward <= 1.0):
                return Verdict.unknown("reward_out_of_range", **details)
        rewards = [float(end.reward) for end in ends if end.reward is not None]
        error = statistics.stdev(rewards) / math.sqrt(len(rewards)) if len(rewards) > 1 else None
        details |= {"rewards": rewards, "standard_error": error}
        mean = math.fsum(rewards) / len(rewards)
        if mean >= self.threshold:
            return Verdict.passed("reaches_threshold", mean, **details)
        return Verdict.failed("below_threshold", mean, **details)


class _End(NamedTuple):
    """The end of a continuation, with the turns and tokens sampled in it."""

    reward: float | None
    reason: str
    num_turns: int
    num_tokens: int


class _Continuation:
    """The rest of an episode, from the action on, as an environment."""

    def __init__(self, turn: Turn, action: Action, environment: RestoredEnvironment, max_turns: int) -> None:
        self.task_id, self.context_window = turn.id, turn.trajectory.context_window
        self.pinned_messages = turn.trajectory.pinned_messages
        self.tags, self.tools = dict[str, str](), turn.trajectory.tools
        self._environment, self._turns_left = environment, max_turns
        self.first = self._unless_failed(environment.step(action))
        taken = Message(role="assistant", content=action.content, tool_calls=action.tool_calls)
        self._messages = (*turn.trajectory.messages[: turn.index], taken, *self.first.messages)

    def reset(self) -> tuple[Message, ...]:
        return self._messages

    def step(self, action: Action) -> Observation:
        observation = self._unless_failed(self._environment.step(action))
        self._turns_left -= 1
        if observation.done or self._turns_left > 0:
            return observation
        return dataclasses.replace(observation, done=True, reward=None, reason="no_end_within_max_turns")

    @staticmethod
    def _unless_failed(observation: Observation) -> Observation:
        if observation.fault != "sandbox_failed":
            return observation
        return dataclasses.replace(observation, done=True, reward=None, reason=observation.fault)


verify = Outcome
