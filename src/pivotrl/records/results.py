"""What an evaluation found, item by item."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from pivotrl.records.base import Record
from pivotrl.records.logs import Action, Message, Tool, Trajectory
from pivotrl.records.samples import Completion, Logprob, Verdict


class TurnResult(Record):
    """How a policy did at one held-out turn."""

    turn_id: str
    task_id: str
    temperature: float | None = None
    """At which the samples were drawn; None in results of older versions."""
    reward: float | None
    """Mean over the samples with a verdict; None if there are none."""
    reason: str
    """Of the first sample, as is ``text``."""
    text: str
    num_samples: int = 1
    num_tokens: int
    """Sampled for this result; of a server, in requests of no use too."""
    num_cut_off: int = 0
    """Samples that hit the token limit."""
    num_continuation_turns: int = 0
    """Actions that the verifier sampled to continue episodes."""
    cost: float | None = None
    """As in :class:`SampleGroup`."""
    prompt_sha256: str = ""
    token_ids_T: tuple[int, ...] = ()
    logprobs_T: tuple[Logprob, ...] = ()
    """Of the first sample, see :class:`Completion`; an exported policy is compared with it."""
    completions_G: tuple[Completion, ...] = ()
    """Every sample; none in results of older versions."""
    verdicts_G: tuple[Verdict, ...] = ()
    """Theirs."""

    @property
    def key(self) -> str:
        return at_temperature(self.turn_id, self.temperature)


class ProgressResult(Record):
    """How far a policy got along a held-out trajectory with its own actions in the history."""

    trajectory_id: str
    task_id: str
    temperature: float
    number: int = 0
    """Which walk along the trajectory it is, from 0."""
    num_turns: int
    """Turns of the trajectory."""
    num_done: int
    """Turns taken with an action that passed, before the first that did not."""
    is_known: bool
    """False if the walk stopped because an action got no verdict or the turn did not fit the model."""
    reason: str
    """Why the walk ended: ``reached_the_end``, the verdict's reason, or why the policy could not act."""
    num_sampled: int
    num_tokens: int
    num_continuation_turns: int = 0
    """Actions that the verifier sampled to continue episodes."""
    cost: float | None = None
    """As in :class:`SampleGroup`."""
    texts: tuple[str, ...] = ()
    """What was sampled, turn by turn."""

    @property
    def progress(self) -> float | None:
        """Share of the turns done; None if it is unknown how far the policy would have come."""
        return self.num_done / self.num_turns if self.is_known else None

    @property
    def key(self) -> str:
        return progress_key(self.trajectory_id, self.temperature, self.number)


class EpisodeTurn(Record):
    """One turn that was sampled in an episode, and how the environment answered. The action and the messages of the
    answer are in the transcript."""

    index: int
    """Place of the action's message in the transcript."""
    text: str
    token_ids_T: tuple[int, ...]
    logprobs_T: tuple[Logprob, ...]
    """As in :class:`Completion`."""
    finish_reason: Literal["stop", "length"]
    parse_error: str | None = None
    prompt_sha256: str = ""
    """As in :class:`SampleGroup`."""
    reward: float | None = None
    """What the answer was worth; None where the environment did not say."""
    reason: str = ""
    fault: str = ""


class EpisodeResult(Record):
    """How a policy did in one held-out episode, and all that is needed to train on it, to replay it, and to read it
    back as a trajectory.

    Example::

        EpisodeResult(environment="plancraft(split='test')", task_id="TEST0001", number=0, reward=1.0,
                      reason="crafted", num_turns=2, num_tokens=40, seed=0, context_window=1, turns=(...,),
                      transcript=(...,))
    """

    environment: str = ""
    """What the environment was named by; "" in results of older versions and where it has no name."""
    task_id: str
    number: int = 0
    """Which episode of the task it is, from 0."""
    temperature: float | None = None
    """Of an evaluation; None in training and in results of older versions."""
    reward: float | None
    reason: str
    num_turns: int
    """Turns that were sampled."""
    num_tokens: int
    cost: float | None = None
    """As in :class:`SampleGroup`."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Tags for breaking down results, such as the difficulty."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    """Facts of the task that its environment gives, for ``restore`` and verifiers."""
    seed: int | None = None
    """With :attr:`key` and the place of a turn it fixes what was sampled there."""
    tools: tuple[Tool, ...] = ()
    context_window: int | None = None
    pinned_messages: int = Field(default=0, ge=0)
    """As in :class:`Trajectory`."""
    turns: tuple[EpisodeTurn, ...] = ()
    """Every turn that was sampled; none in results of older versions."""
    transcript: tuple[Message, ...] = ()

    @property
    def key(self) -> str:
        return at_temperature(self.name, self.temperature)

    @property
    def name(self) -> str:
        """Names the episode as it was played, whatever the temperature."""
        return episode_key(self.environment, self.task_id, self.number)

    @property
    def cluster(self) -> str:
        """The task with its environment: episodes that share it are not independent."""
        return f"{self.environment}/{self.task_id}" if self.environment else self.task_id

    def completions(self) -> tuple[Completion, ...]:
        """What was sampled at each of :attr:`turns`."""
        fields = ("text", "token_ids_T", "logprobs_T", "finish_reason", "parse_error")
        return tuple(
            Completion(
                action=Action(content=message.content, tool_calls=message.tool_calls),
                **{name: getattr(turn, name) for name in fields},
            )
            for turn, message in ((turn, self.transcript[turn.index]) for turn in self.turns)
        )

    def trajectory(self) -> Trajectory:
        """The episode as a recorded run: its turns have the ids and the prompts with which they were played.

        Raises:
            ValueError: the result was stored by an older version, which did not keep the agent's view.
        """
        if len(self.turns) != self.num_turns:
            raise ValueError(f"{self.key} was stored by an older version of pivotrl, which did not keep its turns")
        return Trajectory(
            id=f"episode-{self.name}",
            messages=self.transcript,
            tools=self.tools,
            task_id=self.task_id,
            reward=self.reward if self.reward is not None and math.isfinite(self.reward) else None,
            context_window=self.context_window,
            pinned_messages=self.pinned_messages,
            metadata={
                **self.tags,
                **self.metadata,
                **{"environment": self.environment, "number": self.number, "reason": self.reason},
            },
        )


def episode_key(environment: str, task_id: str, number: int) -> str:
    """``environment/task~number``; ``task~number`` where the environment has no name."""
    return f"{environment}/{task_id}~{number}" if environment else f"{task_id}~{number}"


def at_temperature(name: str, temperature: float | None) -> str:
    """``name@temperature``: the key of a measurement; the name alone where the temperature was not noted."""
    return name if temperature is None else f"{name}@{temperature:.12g}"


def progress_key(trajectory_id: str, temperature: float, number: int) -> str:
    """``trajectory~number@temperature``."""
    return at_temperature(f"{trajectory_id}~{number}", temperature)


class RetentionResult(Record):
    """A policy's score on one reference text outside the task.

    ``nll`` is the mean negative log-likelihood per answer token (nats); ``kl`` the mean KL(policy || reference)
    over the same positions (nats), None for the reference itself.
    """

    item_id: str
    source: str
    nll: float
    kl: float | None
    num_tokens: int

    @property
    def key(self) -> str:
        return self.item_id


class KlResult(Record):
    """How far a policy has moved from its reference at one turn, from samples of the reference (nats)."""

    turn_id: str
    task_id: str
    kl: float
    """Mean over the samples of log reference - log policy, summed over the tokens of an action."""
    kl_per_token: float
    nll_per_token: float
    """Mean over the sampled tokens of -log policy."""
    num_samples: int
    num_tokens: int

    @property
    def key(self) -> str:
        return self.turn_id


class DemonstrationScore(Record):
    """How likely the reference policy finds the demonstrated action of a turn."""

    turn_id: str
    task_id: str
    nll: float | None
    """-ln p(demonstrated action) in nats, summed over its tokens; None if the policy cannot write it."""
    num_tokens: int
    reason: str = ""
    """Why there is no score."""

    @property
    def key(self) -> str:
        return self.turn_id


class AnswerResult(Record):
    """A policy's greedy answer to one question outside the task; or, of a question with options, how likely each is."""

    item_id: str
    source: str
    reward: float | None
    """None if there was no verdict, or if the question does not fit the model."""
    reason: str
    text: str
    """What the policy wrote; or its most likely option."""
    num_tokens: int
    """Sampled; 0 where the options were scored."""
    cost: float | None = None
    """As in :class:`SampleGroup`."""
    num_cut_off: int = 0
    """1 if the answer hit the token limit."""
    scores: dict[str, float] = Field(default_factory=dict)
    """Finer measures of the same answer, by name, such as ``margin`` (nats)."""
    option_logprobs_O: tuple[float, ...] = ()
    """log-probability of each option as the whole answer, with the token that ends it; in the question's order."""
    option_tokens_O: tuple[int, ...] = ()
    """Their numbers of tokens."""

    @property
    def key(self) -> str:
        return self.item_id
