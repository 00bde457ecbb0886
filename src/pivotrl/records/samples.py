"""What a policy did at turns, how it was judged, and which turns were selected."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from pivotrl.records.base import Record
from pivotrl.records.logs import Action


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


Logprob = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A log-probability; NaN if unknown, which JSON writes as null."""


class Completion(Record):
    """One sampled action: the tokens as sampled, their log-probabilities, and the action they parse to.

    ``logprobs_T`` are natural logs under the distribution that was sampled from (after temperature, top-k and top-p).
    ``token_ids_T`` ends with the stop token unless ``finish_reason`` is ``length``. Samples that came as text leave
    both empty; a server that gives token ids alone leaves log-probabilities of NaN. Such samples can be judged, but
    not trained on.
    """

    action: Action
    text: str
    token_ids_T: tuple[int, ...]
    logprobs_T: tuple[Logprob, ...]
    finish_reason: Literal["stop", "length"]
    parse_error: str | None = None
    """Why the text is not a well-formed action; None if it is."""
    fault: str | None = None
    """Why there is no sample, such as ``server_unavailable``: it gets no verdict. None for a sample."""


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
    version: int | None = None
    """Updates behind the weights that drew the group, where another engine draws: at most :attr:`step`, and less for
    samples drawn ahead. None elsewhere: the weights are those of the step."""
    cost: float | None = None
    """Money that a server took for these samples, requests of no use included; None if unknown or free."""
    num_paid_tokens: int | None = None
    """Tokens that a server counted as sampled for them, in requests of no use too; None if it did not count."""
    num_taken: int = Field(default=0, ge=0)
    """How many of the samples, the first ones, were drawn and paid for by the pilot of `pivotrl plan`."""

    @property
    def fault(self) -> str | None:
        """Why samples are missing; None if the group is whole."""
        return next((completion.fault for completion in self.completions_G if completion.fault), None)

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

    @property
    def num_sampled_tokens(self) -> int | None:
        """Tokens sampled for this group; None if unknown. What a pilot paid for is left out."""
        if self.num_paid_tokens is not None:
            return self.num_paid_tokens
        drawn = self.completions_G[self.num_taken :]
        if any(completion.text and not completion.token_ids_T for completion in drawn):
            return None
        return sum(len(completion.token_ids_T) for completion in drawn)

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
                "num_taken": self.num_taken + group.num_taken,
                "cost": group.cost if self.cost is None else self.cost + (group.cost or 0.0),
                "num_paid_tokens": group.num_paid_tokens
                if self.num_paid_tokens is None
                else self.num_paid_tokens + (group.num_paid_tokens or 0),
            }
        )

    def taken(self, first: int, count: int) -> SampleGroup:
        """Those of the samples ``first`` to ``first + count - 1`` that the group has, for a stage that does not pay for
        them."""
        place = slice(max(0, first - self.first), max(0, first - self.first + count))
        completions = self.completions_G[place]
        return self.model_copy(
            update={
                "first": first,
                "completions_G": completions,
                "verdicts_G": self.verdicts_G[place],
                "num_prefilled_tokens": 0,
                "num_taken": len(completions),
                "cost": None,
                "num_paid_tokens": None,
            }
        )

    @property
    def key(self) -> str:
        name = self.turn_id if self.step is None else f"{self.step}/{self.turn_id}"
        return f"{name}~{self.first}" if self.first else name


class LostTry(Record):
    """A try at a turn for which a server gave no samples, and what it took all the same."""

    turn_id: str
    first: int = 0
    """Number of the first sample that was asked for."""
    temperature: float | None = None
    """Of an evaluation."""
    number: int = 0
    """Which lost try at these samples it is, from 0."""
    reason: str
    cost: float | None = None
    num_tokens: int = 0
    """Sampled, as the server counted them."""

    @property
    def key(self) -> str:
        return f"{self.turn_id}~{self.first}@{self.temperature}#{self.number}"


Route = Literal["imitate", "practise", "leave"]
"""What a profile advises for a turn: imitate the demonstration, practise it by RL, or leave it alone."""


class Selection(Record):
    """Whether a candidate turn became a pivot, and why (not).

    The fields from ``pass_rate`` on are None where they are unknown, and in files of older versions. G is the option
    ``selection_group_size``.
    """

    turn_id: str
    selected: bool
    reason: str
    reward_mean: float | None
    reward_variance: float | None
    num_scored: int
    pass_rate: float | None = None
    """Mean of the posterior of the pass rate, under a prior fitted to all turns of the profile."""
    pass_rate_low: float | None = None
    pass_rate_high: float | None = None
    """The 95 % interval of the posterior."""
    chance_mixed: float | None = None
    """Probability that the next group of G samples has both passes and failures."""
    deviation: float | None = None
    """Expected standard deviation of the reward, to which the signal is proportional (Theorem 3.2)."""
    entropy: float | None = None
    """Entropy of the distinct actions, nats, corrected for the number of samples (``selection.actions.entropy``)."""
    route: Route | None = None
    """A turn without a verdict is left alone."""
    group_tokens: float | None = None
    """Tokens that a group of G is expected to sample: G times the mean length here."""

    def without_evidence(self) -> Selection:
        """The row as versions without these fields wrote it."""
        return Selection(**{name: getattr(self, name) for name in list(Selection.model_fields)[:6]})

    @property
    def key(self) -> str:
        return self.turn_id


class Label(Record):
    """What a person said of a turn of the logs; it belongs to a selection."""

    turn_id: str
    drop: bool = False
    """The turn becomes no pivot."""
    accept: tuple[Action, ...] = ()
    """Other actions that are right there, too."""
    note: str = ""

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
