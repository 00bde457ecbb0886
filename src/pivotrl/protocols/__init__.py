"""The call signature of each kind of plugin. A plugin is anything that fits; it need not inherit."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

from pydantic import Field

from pivotrl.options import AtLeast1, NotNegative, Positive, check
from pivotrl.options import InputError as InputError
from pivotrl.records import Action, Completion, Message, Refusal, SampleGroup, Sampling, Trajectory, Verdict


@dataclass(frozen=True)
class Turn:
    """One assistant decision of a trajectory: a candidate pivot. Holds no copy of any message."""

    trajectory: Trajectory
    index: int
    """Position of the assistant message; equal to the number of messages if the turn is still to be played."""

    @property
    def id(self) -> str:
        return f"{self.trajectory.id}#{self.index}"

    @property
    def context(self) -> tuple[Message, ...]:
        """What the agent saw: the messages before the turn, cut to the trajectory's context window.

        A cut context holds the pinned messages, the other system messages, and then the latest of the rest.
        """
        messages, window = self.trajectory.messages, self.trajectory.context_window
        if window is None:
            return messages[: self.index]
        pinned = min(self.trajectory.pinned_messages, self.index)
        system = (place for place in _system_places(messages) if pinned <= place < self.index)
        others = (place for place in range(self.index - 1, pinned - 1, -1) if messages[place].role != "system")
        rest = sorted(itertools.islice(others, window))
        return (*messages[:pinned], *(messages[place] for place in (*system, *rest)))

    @property
    def num_context_messages(self) -> int:
        """Length of the context, computed without building a long one."""
        return self.index if self.trajectory.context_window is None else len(self.context)

    @property
    def expected_action(self) -> Action:
        """What the demonstration did at this turn.

        Raises:
            IndexError: the turn is still to be played.
        """
        if self.index == len(self.trajectory.messages):
            raise IndexError(f"{self.id} is still to be played, so nothing was demonstrated there")
        message = self.trajectory.messages[self.index]
        return Action(content=message.content, tool_calls=message.tool_calls)

    @property
    def accepted_actions(self) -> tuple[Action, ...]:
        """The expected action, then the other actions that the log accepts."""
        return (self.expected_action, *self.trajectory.alternatives.get(self.index, ()))


_SYSTEM_PLACES: dict[int, tuple[tuple[Message, ...], list[int]]] = {}
"""A cache for the last messages, which it also holds so that their ``id`` is not reused."""


def _system_places(messages: tuple[Message, ...]) -> list[int]:
    """Positions of the system messages, found once instead of at every turn of a long trajectory."""
    known = _SYSTEM_PLACES.get(id(messages))
    if known is None:
        known = messages, [place for place, message in enumerate(messages) if message.role == "system"]
        _SYSTEM_PLACES.clear()
        _SYSTEM_PLACES[id(messages)] = known
    return known[1]


@dataclass(frozen=True)
class TrainingGroup:
    """Completions at one turn, each with a weight: the advantage in RL, 1 in imitation.

    A completion of advantage 0 has no policy gradient, but it counts in the denominators and in the KL term. A
    completion that was not sampled, such as a demonstration among samples, has NaN as its log-probabilities.
    """

    turn: Turn
    completions_G: Sequence[Completion]
    advantages_G: Sequence[float]
    prompt_sha256: str = ""


ObjectiveName = Literal["policy_gradient", "likelihood", "weighted_likelihood"]
"""policy_gradient: clipped surrogate. likelihood: plain cross-entropy (SFT). weighted_likelihood: cross-entropy, each
token weighted by the policy's own probability of it, without gradient (DFT, arXiv 2508.05629)."""


@dataclass(frozen=True)
class ObjectiveOptions:
    """The user's options of the objective (paper eq. 7; defaults of the published run, docs/method.md)."""

    clip_low: Annotated[float, Field(gt=0, le=1)] = 0.2
    """The ratio of new to old probability is clipped below 1 minus this."""
    clip_high: Positive = 0.2
    """The ratio of new to old probability is clipped above 1 plus this."""
    kl_coefficient: NotNegative = 0.0
    """Weight of KL(policy || reference), estimated per token by k3. 0 disables it."""
    loss_level: Literal["token", "sequence"] = "token"
    """token: all tokens of the batch have equal weight. sequence: all completions have equal weight (paper eq. 7)."""
    importance_cap: Positive | None = None
    """Weigh each token by min(policy / sampler, cap), for samples from another engine. None: no correction; or the
    policy's own cap, 5 for vllm and 2 for hf with rounded products."""
    num_epochs: AtLeast1 = 1
    """Optimizer steps on the same groups; from the second step on, the ratio differs from 1."""
    max_gradient_norm: Positive = 1.0
    """Longer gradients are scaled down to this norm."""
    weight_decay: NotNegative = 0.0
    """Decoupled weight decay of AdamW."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class UpdateOptions(ObjectiveOptions):
    """The same, plus what the training method decides."""

    objective: ObjectiveName = "policy_gradient"
    temperature: Positive = 1.0
    """Temperature of the samples; log-probabilities are computed at the same temperature."""


class Sampler(Protocol):
    """Something that acts at turns.

    It may have ``keeping()``, a context manager: inside it the sampler may keep what it computed for an episode, for
    the episode's next turn. Turn ids that agree before their last ``#`` are of one episode. Samples are the same with
    and without it.

    A sampler whose samples cost money has ``is_paid = True``: a profile then asks only for turns that it lacks. Where
    it gets no samples, it gives completions with a ``fault``.
    """

    @property
    def identity(self) -> dict[str, Any]:
        """JSON facts that determine the samples: weights, tokenizer, template. Profiles of another identity are
        refused."""
        ...

    def sample(
        self, turns: Sequence[Turn], num_samples: int, sampling: Sampling, first: int = 0
    ) -> Iterator[SampleGroup]:
        """One group per turn, in order, without verdicts: samples ``first`` to ``first + num_samples - 1`` of each.

        (Seed, turn, sample number) determine a sample, so a second call with a higher ``first`` draws new samples. A
        turn that does not fit raises :class:`TurnTooLong` before anything is sampled; ask :meth:`fits` first.
        """
        ...

    def fits(self, turn: Turn, max_tokens: int) -> bool:
        """Whether the turn's prompt plus ``max_tokens`` fits the model's context."""
        ...


class Policy(Sampler, Protocol):
    """A sampler that can be trained. ``engine`` code sits behind this seat."""

    @property
    def training_identity(self) -> dict[str, Any]:
        """JSON facts that, with :attr:`identity`, determine the trained policy: the shape and seed of an adapter.
        A training begun with others is refused."""
        ...

    @property
    def reference(self) -> Sampler:
        """The frozen reference policy: this policy before its first update."""
        ...

    def encode_action(self, turn: Turn, action: Action) -> Completion:
        """The action as this policy would write it, with token ids; log-probabilities are zeros."""
        ...

    def update(self, groups: Sequence[TrainingGroup], learning_rate: float, options: UpdateOptions) -> dict[str, float]:
        """One batch: backward over every group, clip, optimizer step. Returns metrics ``area/name``.

        Denominators count every completion of the batch, including those of advantage 0. A step whose loss or
        gradient is not finite is skipped, and ``update/skipped`` is 1.

        Raises:
            InputError: the step made weights that are not finite.
        """
        ...

    def default_learning_rate(self, objective: ObjectiveName) -> float:
        """The default rate for the trained weights. It differs between an adapter and all weights, and between
        imitation and RL."""
        ...

    def save(self, path: Path) -> None:
        """Write weights and optimizer state so that :meth:`load` continues bit for bit."""
        ...

    def load(self, path: Path) -> None: ...

    def export(self, path: Path) -> None:
        """Write what other tools load: a model folder or an adapter."""
        ...

    def score_text(self, prompt: str, answer: str) -> tuple[float, float | None, int]:
        """(mean NLL per answer token, mean KL to the reference or None, number of tokens), teacher-forced."""
        ...


@runtime_checkable
class ScoresActions(Protocol):
    """A policy that can tell how likely a given action is; a sampler on a server cannot."""

    def action_logprobs(self, turns: Sequence[Turn], groups: Sequence[SampleGroup]) -> list[list[list[float]]]:
        """log policy(token) of every token [turn][sample][token], at temperature 1 under the present weights.

        Args:
            groups: the actions at each turn, as :meth:`Sampler.sample` or :meth:`Policy.encode_action` write them.

        Raises:
            ValueError: a group was sampled from a different rendering of its turn.
        """
        ...


@runtime_checkable
class PublishesVersions(Protocol):
    """A policy that learns here and has another engine draw its samples, such as ``vllm``: its weights are published
    in numbered versions, and training samples may be drawn by one while the next is learned."""

    @property
    def importance_cap(self) -> float | None:
        """The cap of truncated importance weights that the training takes if it is given none."""
        ...

    @property
    def max_in_flight(self) -> int:
        """How many turns are sampled at a time."""
        ...

    def publish(self, version: int | None = None, turns: Sequence[Turn] = ()) -> Sampler:
        """Bring the present weights to the engine and check that they act there.

        Args:
            version: their number, for :attr:`SampleGroup.version`.
            turns: what will be sampled next; the check may use their prompts.

        Returns:
            a sampler of these weights, for several threads at once. It is valid until the next call, also while the
            policy is updated.

        Raises:
            InputError: the engine does not take the weights, or acts with others.
        """
        ...


def describe_policy(policy: Sampler) -> dict[str, Any]:
    """For a manifest: the policy's identity under ``identity``, and its ``description``, if any: the plugin and its
    options, model, adapter, dtype and device."""
    return {**getattr(policy, "description", {}), "identity": dict(policy.identity)}


class Verifier(Protocol):
    """Judges one action at one turn. A bad action is a ``fail``, never an exception.

    A verifier may also fit :class:`BoundToPolicy`, :class:`InProcess`, :class:`JudgesEffects`, :class:`Combination`
    or :class:`Wrapping`. Nothing else is looked for.
    """

    def __call__(self, turn: Turn, action: Action) -> Verdict: ...


@runtime_checkable
class BoundToPolicy(Protocol):
    """A verifier that samples a policy, such as ``outcome``."""

    def with_policy(self, sampler: Sampler, /) -> Verifier:
        """The same verifier, bound to the policy of this run."""
        ...


@runtime_checkable
class InProcess(Protocol):
    """A verifier that may run in the policy's process, without a guard: it needs torch, or it waits for a server and
    keeps its own deadline. A function may have the attribute too.

    With ``concurrent = True`` beside it, several threads may call it at once.
    """

    @property
    def in_process(self) -> bool: ...


@runtime_checkable
class JudgesEffects(Protocol):
    """A verifier that judges what an action does, not how it is written. The lint then counts only attacks that do
    nothing as certainly wrong, since two different actions may have the same effect in a given state."""

    @property
    def judges_effects(self) -> bool: ...


@runtime_checkable
class Combination(Protocol):
    """A verifier made of others: a dataclass with the field ``verifiers``, so that each part can be bound, guarded and
    replaced on its own."""

    @property
    def verifiers(self) -> Sequence[Verifier]: ...


@runtime_checkable
class Wrapping(Protocol):
    """A verifier around the user's own, such as the guard with its time limit. ``wrapped`` is the user's verifier."""

    @property
    def wrapped(self) -> Verifier: ...


@dataclass(frozen=True)
class Observation:
    """An environment's answer to an action."""

    messages: tuple[Message, ...]
    reward: float | None = None
    done: bool = False
    reason: str = ""
    returned: Any = None
    """The action's result as JSON, if something other than the messages should be compared."""
    fault: str = ""
    """Why the answer is incomplete: ``not_executed``, ``output_truncated``, ``time_limit``, ``killed`` (memory), or
    ``sandbox_failed``, which ends the episode without a reward."""


class Environment(Protocol):
    """One task, played once: ``reset``, then ``step`` until an observation is done.

    Four more members are optional. Only :mod:`pivotrl.plugins.environments` looks for them:

    - ``pinned_messages``: how many of the first messages the agent sees at every turn, whatever ``context_window`` is:
      a system message and example exchanges. 0 without it.
    - ``tools``: a sequence of :class:`pivotrl.records.Tool` for the agent. Without it the agent has no tools.
    - ``metadata``: JSON facts of the task, a dict. They become the metadata of the episode's trajectory, where
      ``restore`` and verifiers find what a reader would have put there. Read once, after ``reset``.
    - ``close()``: releases what the environment holds. It is called once per started episode, after its last turn or
      after a fault.
    """

    @property
    def task_id(self) -> str: ...

    @property
    def tags(self) -> dict[str, str]:
        """Facts that the report groups episodes by, such as the difficulty."""
        ...

    @property
    def context_window(self) -> int | None:
        """How many of the latest messages the agent sees at a turn, besides the system message; None for all."""
        ...

    def reset(self) -> Sequence[Message]:
        """Begin the episode and return its first messages."""
        ...

    def step(self, action: Action) -> Observation: ...


class Environments(Protocol):
    """The tasks of an environment, each made when it is played. Several episodes of one task may run at once, so each
    has its own :class:`Environment`."""

    def tasks(self) -> Sequence[str]:
        """The id of every task, always in the same order."""
        ...

    def make(self, task: str) -> Environment:
        """A new environment, not yet reset, whose ``task_id`` is ``task``."""
        ...


MakeEnvironments = Callable[[], Environments | Iterable[Environment]]
"""An environment module's ``make_environments``, with its options bound. Small games may return a plain list of
environments, one per task; each of those can be played only once."""


class RestoredEnvironment(Protocol):
    """A task in the state that a turn was in: ready for the turn's action, without a reset.

    Its ``step`` is that of :class:`Environment`."""

    def step(self, action: Action) -> Observation: ...

    def state(self) -> Any:
        """JSON: what counts as the state when the effects of two actions are compared."""
        ...

    def controls(self) -> Iterator[tuple[RestoredEnvironment, bool]]:
        """The same task in other states, chosen so that actions that look at the state get other answers; empty if no
        action only looks. Each comes with whether equivalent actions should give equal answers there. The caller
        closes each before it asks for the next."""
        ...

    def close(self) -> None:
        """Release what it holds; it is not used afterwards."""
        ...


class Restore(Protocol):
    """An environment module's optional ``restore``: returns a new copy of the state before the turn each time.

    The copy holds nothing of the turn itself or of later turns.

    Raises:
        NotRestorable: the state cannot be restored.
    """

    def __call__(self, turn: Turn) -> RestoredEnvironment: ...


class NotRestorable(Exception):
    """The state of a turn cannot be restored."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


class Reader(Protocol):
    """Turns a log into trajectories; each trajectory lists what was lost in ``losses``.

    An unreadable record becomes a refusal, and reading continues. Besides ``read``, a reader's module may have
    ``recognises(head) -> bool`` (the first values of a file) and ``claims(path) -> bool`` (a directory or a binary
    file), so that ``auto`` detects its format.
    """

    def __call__(self, path: Path) -> Iterator[Trajectory | Refusal]: ...


class TurnTooLong(ValueError):
    """A turn's prompt does not fit the model; it is refused, never truncated."""


class NotRenderable(ValueError):
    """The policy's chat template cannot write a turn or an action as it is; the message says why."""


class Notice(UserWarning):
    """Something that a user should know but that stops nothing; the command line prints it as one line."""


class NoPivots(InputError):
    """The selection is empty: there is nothing to train on."""


class Collapsed(InputError):
    """A guard rail ended a training."""


class ProcessLost(RuntimeError):
    """Another process of the same training is gone. Finished work is kept; the same command continues."""
