"""Every record that touches disk. Frozen, closed to unknown fields, checked on the way in and out.

Two rules hold everywhere: messages are stored once, in ``trajectories.jsonl``, and every later record points into
them with a turn id (``trajectory_id#message_index``); an outcome is pass, fail or *no verdict* with a reason, and
an unknown outcome is never written as 0.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Role = Literal["system", "user", "assistant", "tool"]


SCHEMA_VERSION = 2
"""1: episodes without a name of their own, and profiles without numbered samples."""


class Record(BaseModel):
    """A frozen record; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def key(self) -> str:
        """The record's key, unique within its file.

        Raises:
            NotImplementedError: records of this kind have no file of their own.
        """
        raise NotImplementedError(f"{type(self).__name__} has no key")


class ToolCall(Record):
    """One tool call, with its arguments as the raw JSON text that the agent emitted."""

    name: str
    arguments: str = "{}"
    id: str | None = None


class Message(Record):
    """One chat message. Every trace format is mapped to this shape."""

    role: Role
    content: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class Tool(Record):
    """A tool the agent could call; ``parameters`` is a JSON schema."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)


class Action(Record):
    """What an agent did in one turn, without its reasoning: text, tool calls, or both."""

    content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.tool_calls and not (self.content or "").strip()


class Loss(Record):
    """Something useful for training that the log lacks or the reader could not keep."""

    code: str
    """A code of :mod:`pivotrl.reading.audit`."""
    message: int | None = None
    """Index of the message concerned; None for the whole trajectory."""
    detail: str = ""


class Trajectory(Record):
    """A recorded run of an agent."""

    id: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    task_id: str
    """Trajectories of the same task share it; splits are made by task."""
    reward: float | None = Field(default=None, allow_inf_nan=False)
    """Final reward of the episode, finite; None if the log does not say."""
    excluded: dict[int, str] = Field(default_factory=dict)
    """Index of an assistant message -> why it must not become a candidate (a code of :mod:`pivotrl.reading.audit`)."""
    alternatives: dict[int, tuple[Action, ...]] = Field(default_factory=dict)
    """Index of an assistant message -> other actions that are right there, too."""
    context_window: int | None = None
    """How many of the latest messages (not counting the system message) the agent saw at a turn; None means all."""
    pinned_messages: int = Field(default=0, ge=0)
    """How many leading messages every context keeps in full, whatever the window: a system message and example
    exchanges. Assistant messages among them are never candidates."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    losses: tuple[Loss, ...] = ()
    """What the log lacks or the reader could not keep."""
    tools_inferred: bool = False
    """The tools are not declared in the log but inferred from the agent's calls."""

    @property
    def key(self) -> str:
        return self.id


class Refusal(Record):
    """A part of a log that could not be read."""

    place: str
    """``runs.jsonl:17 (byte 5210)``, or ``runs.json, element 3``."""
    reason: str

    @property
    def key(self) -> str:
        return self.place


class Dropped(Record):
    """A trajectory that was read but left out."""

    trajectory_id: str
    reason: str

    @property
    def key(self) -> str:
        return self.trajectory_id


class Verdict(Record):
    """A verifier's answer.

    ``reward`` is in [0, 1], and None exactly when the outcome is ``no_verdict``. ``reason`` is a short stable
    code such as ``wrong_tool``.
    """

    outcome: Literal["pass", "fail", "no_verdict"]
    reward: float | None
    reason: str
    details: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _reward_fits_outcome(self) -> Verdict:
        if self.outcome == "no_verdict":
            if self.reward is not None:
                raise ValueError("a verdict of 'no_verdict' has no reward; leave it None")
        elif self.reward is None or not math.isfinite(self.reward) or not 0.0 <= self.reward <= 1.0:
            raise ValueError(f"reward must be a finite number in [0, 1], not {self.reward!r}")
        return self

    @classmethod
    def passed(cls, reason: str = "match", reward: float = 1.0, **details: Any) -> Verdict:
        return cls(outcome="pass", reward=reward, reason=reason, details=details)

    @classmethod
    def failed(cls, reason: str, reward: float = 0.0, **details: Any) -> Verdict:
        return cls(outcome="fail", reward=reward, reason=reason, details=details)

    @classmethod
    def unknown(cls, reason: str, **details: Any) -> Verdict:
        return cls(outcome="no_verdict", reward=None, reason=reason, details=details)


class Sampling(Record):
    """How actions are sampled. Together with (turn id, sample index) the seed fixes each sample."""

    temperature: float = Field(default=1.0, ge=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int | None = Field(default=None, ge=1)
    max_tokens: int = Field(default=256, ge=1)
    seed: int = 0


class Completion(Record):
    """One sampled action: the tokens as sampled, their log-probabilities, and the action they parse to.

    ``logprobs_T`` are natural logs under the distribution that was sampled from (after temperature, top-k and top-p).
    ``token_ids_T`` ends with the stop token unless ``finish_reason`` is ``length``.
    """

    action: Action
    text: str
    token_ids_T: tuple[int, ...]
    logprobs_T: tuple[float, ...]
    finish_reason: Literal["stop", "length"]
    parse_error: str | None = None
    """Why the text is not a well-formed action; None if it is."""


class SampleGroup(Record):
    """The samples drawn at one turn and their verdicts, aligned index by index."""

    turn_id: str
    completions_G: tuple[Completion, ...]
    first: int = Field(default=0, ge=0)
    """Number of the first sample: completion ``g`` is sample ``first + g`` of the turn."""
    verdicts_G: tuple[Verdict, ...] = ()
    num_prompt_tokens: int = 0
    num_prefilled_tokens: int = 0
    """Prompt tokens computed for these samples, without those already counted at another turn."""
    prompt_sha256: str = ""
    """Hash of the prompt's token ids: training must render the turn in the same way."""
    step: int | None = None
    """Training step that drew the group; None for profiling and evaluation."""

    @property
    def rewards(self) -> list[float]:
        """Rewards of the completions with a verdict; the others are left out, never counted as 0."""
        return [verdict.reward for verdict in self.verdicts_G if verdict.reward is not None]

    @property
    def num_cut_off(self) -> int:
        """Completions that hit the token limit."""
        return sum(completion.finish_reason == "length" for completion in self.completions_G)

    @property
    def num_malformed(self) -> int:
        """Completions that ended by themselves and are malformed."""
        return sum(c.parse_error is not None and c.finish_reason == "stop" for c in self.completions_G)

    @property
    def mean(self) -> float | None:
        rewards = self.rewards
        return sum(rewards) / len(rewards) if rewards else None

    @property
    def variance(self) -> float | None:
        """Population variance (paper eq. 4)."""
        rewards, mean = self.rewards, self.mean
        if mean is None:
            return None
        return sum((reward - mean) ** 2 for reward in rewards) / len(rewards)

    def with_more(self, group: SampleGroup) -> SampleGroup:
        """This group and the samples that were drawn after it at the same turn, as one group.

        Raises:
            ValueError: the other group is of another turn or prompt, or its samples do not follow.
        """
        same = (group.turn_id, group.step, group.prompt_sha256) == (self.turn_id, self.step, self.prompt_sha256)
        if not same or group.first != self.first + len(self.completions_G):
            raise ValueError(f"{group.key} does not follow {len(self.completions_G)} samples of {self.key}")
        return self.model_copy(
            update={
                "completions_G": self.completions_G + group.completions_G,
                "verdicts_G": self.verdicts_G + group.verdicts_G,
                "num_prefilled_tokens": self.num_prefilled_tokens + group.num_prefilled_tokens,
            }
        )

    @property
    def key(self) -> str:
        name = self.turn_id if self.step is None else f"{self.step}/{self.turn_id}"
        return f"{name}~{self.first}" if self.first else name


class Selection(Record):
    """Whether a candidate turn became a pivot, and why (not)."""

    turn_id: str
    selected: bool
    reason: str
    reward_mean: float | None
    reward_variance: float | None
    num_scored: int

    @property
    def key(self) -> str:
        return self.turn_id


class SkippedTurn(Record):
    """An assistant turn that did not become a candidate."""

    turn_id: str
    reason: str
    detail: str = ""
    """The reason in words, such as the chat template's error message."""

    @property
    def key(self) -> str:
        return self.turn_id


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
    """Over all samples."""
    num_cut_off: int = 0
    """Samples that hit the token limit."""
    num_continuation_turns: int = 0
    """Actions that the verifier sampled to continue episodes."""
    prompt_sha256: str = ""
    token_ids_T: tuple[int, ...] = ()
    logprobs_T: tuple[float, ...] = ()
    """Of the first sample, see :class:`Completion`; an exported policy is compared with it."""

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
    logprobs_T: tuple[float, ...]
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
    """A policy's greedy answer to one question outside the task."""

    item_id: str
    source: str
    reward: float | None
    """None if there was no verdict, or if the question does not fit the model."""
    reason: str
    text: str
    num_tokens: int
    num_cut_off: int = 0
    """1 if the answer hit the token limit."""

    @property
    def key(self) -> str:
        return self.item_id


class StepMetrics(Record):
    """One row per optimizer step; each metric is defined in docs/runs.md."""

    step: int
    metrics: dict[str, float]

    @property
    def key(self) -> str:
        return str(self.step)


class Output(Record):
    """A file that a stage wrote, as it was when the stage finished."""

    sha256: str
    num_bytes: int
    num_rows: int | None = None
    """Number of records; None for other kinds of files."""


class Manifest(Record):
    """How an output was made: enough to run the stage again, and to refuse to mix it with something else."""

    schema_version: int = SCHEMA_VERSION
    """Of the manifest and of the stage's record files. Runs of older versions are read; one of a newer version is
    refused."""
    stage: str
    status: Literal["running", "complete"]
    options: dict[str, Any]
    inputs: dict[str, str] = Field(default_factory=dict)
    """sha256 of each input file or identity, by name."""
    policy: dict[str, Any] = Field(default_factory=dict)
    """The policy, for people and for a command that repeats the stage; empty if no policy was involved."""
    plugins: dict[str, str | None] = Field(default_factory=dict)
    """The texts that name the plugins of the stage on the command line; None for one that cannot be named."""
    outputs: dict[str, Output | None] | None = None
    """Each file that the stage wrote, by its path in the run directory; None for one that it could have written and did
    not. None in place of all of them: not finished, or finished by a version that did not note them."""
    counts: dict[str, Any] = Field(default_factory=dict)
    num_rollout_turns: int = 0
    """Actions that this stage sampled."""
    versions: dict[str, str] = Field(default_factory=dict)
    started_at: str = ""
    resumed_at: str = ""
    """When it last started or resumed, while running."""
    finished_at: str = ""
    wall_seconds: float = 0.0
    """Seconds of work, summed over every time the stage was resumed."""
    checksum: str = ""
    """sha256 of everything above; "" in manifests of older versions."""
