"""The training options, and the learning rate, whose default depends on the trained weights."""

from __future__ import annotations

import dataclasses
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from pivotrl import plugins
from pivotrl.advantages import Estimator
from pivotrl.options import AtLeast0, AtLeast1, InputError, NotNegative, Positive, check, flag, refuse
from pivotrl.plugins.describing import describe
from pivotrl.plugins.faults import told_of
from pivotrl.plugins.shapes import require_method
from pivotrl.protocols import Notice, ObjectiveName, ObjectiveOptions, Policy, UpdateOptions
from pivotrl.training_options.guard_rails import GuardRails

_SPENT_STEPS = 8
_SPENT_SHARE = 1 / 3
_FAR = 10
"""Warn about a learning rate more than this factor above or below the usual one."""


@dataclass(frozen=True)
class TrainingOptions(GuardRails, ObjectiveOptions):
    """Options of the loop and its objective. Defaults are those of the published run (docs/method.md)."""

    method: str = "pivotrl"
    """Training method with options. pivotrl: sample, verify, policy gradient. sft: imitate the demonstrated action.
    own_states: PivotRL at states that the policy reached. episodes: end-to-end RL. See `pivotrl list methods`."""
    num_steps: AtLeast1 = 100
    """Optimizer steps of the training, over all resumptions. More than a finished training has continue it."""
    turns_per_step: Annotated[int, Field(ge=1, le=1_000_000)] = 64
    """B, turns per step. A task comes back only after all others."""
    turns_per_trajectory: AtLeast1 = 4
    """Turns of one trajectory drawn together for a step, so that they share their prefix. More share more compute but
    carry less information than turns of different trajectories."""
    group_size: AtLeast1 = 16
    """G, actions sampled per turn."""
    learning_rate: Positive | None = None
    """None: the default for the trained weights. hf with LoRA: 5e-5 (imitation 2e-4); all weights: 1e-6 (1e-5);
    tabular: 5."""
    warmup_steps: AtLeast0 = 0
    """Steps over which the learning rate rises linearly."""
    decay: Literal["constant", "linear"] = "constant"
    """The learning rate after the warm-up; linear falls to a tenth at the last step."""
    advantage: Estimator = "leave_one_out"
    """How rewards of a group become advantages (docs/method.md)."""
    average_over: Literal["all", "signal"] = "all"
    """Groups that count in the loss, its denominators and the KL term. all: every group with a verdict (paper eq. 7),
    so a step with little signal is small. signal: only groups whose rewards differ, so every step has full size."""
    train_temperature: NotNegative = 1.0
    """Temperature at which training samples are drawn."""
    train_max_tokens: AtLeast1 = 256
    """Longest action, in tokens; a longer one is cut off and fails."""
    train_seed: int = 0
    """Seed of the order of turns and of the training samples."""
    checkpoint_every: AtLeast1 = 5
    """Steps between checkpoints; an interrupted training repeats at most these updates, and no sample."""
    keep_checkpoints: Literal["newest", "all"] = "newest"
    """all: keep every checkpoint, so that `evaluate --checkpoint` can measure each."""
    sample_ahead: bool = False
    """Sample the next step while the policy is updated, with the weights before the update. For a policy whose samples
    another engine draws (vllm)."""
    max_lag: AtLeast0 = 1
    """How many updates the weights that drew a sample may be behind its step, where another engine draws."""

    def __post_init__(self) -> None:
        check(self)
        if self.warmup_steps > self.num_steps:
            refuse("warmup_steps", self.warmup_steps, f"is more than {flag('num_steps')} {self.num_steps}")
        method = self.load_method()
        if self.sample_ahead and self.max_lag == 0:
            raise InputError(f"{flag('sample_ahead')} draws with weights one update behind; give {flag('max_lag')} 1")
        if self.sample_ahead and not getattr(method, "acts_at_batch", False):
            told = "needs a method that acts at the turns of its batch alone, such as pivotrl, not"
            raise InputError(f"{flag('sample_ahead')} {told} {self.method}")
        with told_of(method, f"the method {describe(method)} fails in check"):
            method.check(self)

    def load_method(self) -> Any:
        """The named :class:`pivotrl.training.Method`."""
        method = plugins.load("methods", self.method)
        require_method(method)
        return method


def require_groups(options: TrainingOptions) -> None:
    """For methods that learn from differences within a group.

    Raises:
        InputError: all members of a group would be equal, or a group has only one.
    """
    if options.group_size == 1:
        refuse("group_size", 1, "gives no advantage: a group of one has nothing to differ from; give at least 2")
    require_sampling(options)


def require_sampling(options: TrainingOptions) -> None:
    """For methods that learn from samples.

    Raises:
        InputError: all samples of a turn would be equal.
    """
    if options.train_temperature == 0:
        refuse("train_temperature", 0, "gives groups of equal samples, which teach nothing; give 1")


def update_options(options: TrainingOptions, objective: ObjectiveName) -> UpdateOptions:
    """The options of the policy's update. Imitation takes log-probabilities at temperature 1."""
    chosen = {field.name: getattr(options, field.name) for field in dataclasses.fields(ObjectiveOptions)}
    temperature = options.train_temperature if objective == "policy_gradient" else 1.0
    return UpdateOptions(**chosen, objective=objective, temperature=temperature)


def rate_at(step: int, options: TrainingOptions) -> float:
    """The learning rate of a step, after :func:`with_learning_rate` has fixed it."""
    rate = options.learning_rate
    assert rate is not None
    if step < options.warmup_steps:
        return rate * (step + 1) / options.warmup_steps
    if options.decay == "linear":
        left = (options.num_steps - 1 - step) / max(1, options.num_steps - 1 - options.warmup_steps)
        return rate * (0.1 + 0.9 * left)
    return rate


def usual_rate(options: TrainingOptions, policy: Policy) -> float | None:
    """The policy's default learning rate; None if it has none."""
    named = getattr(policy, "default_learning_rate", None)
    return None if named is None else float(named(options.load_method().objective))


def with_learning_rate(options: TrainingOptions, policy: Policy) -> TrainingOptions:
    """The options with a learning rate: the given one or the policy's default.

    Raises:
        InputError: none is given and the policy has no default.
    """
    if options.learning_rate is not None:
        return options
    usual = usual_rate(options, policy)
    if usual is None:
        raise InputError(f"{type(policy).__name__} has no default learning rate; give {flag('learning_rate')}")
    return dataclasses.replace(options, learning_rate=usual)


def with_policy_defaults(options: TrainingOptions, policy: Policy) -> TrainingOptions:
    """The options with a learning rate and, where another engine draws the samples, with a cap of the importance
    weights: the given ones or the policy's defaults.

    Raises:
        InputError: see :func:`with_learning_rate`.
    """
    options = with_learning_rate(options, policy)
    cap = getattr(policy, "importance_cap", None)
    if options.importance_cap is not None or cap is None or options.load_method().objective != "policy_gradient":
        return options
    return dataclasses.replace(options, importance_cap=cap)


def rate_complaint(rate: float, usual: float) -> str | None:
    """A warning if the learning rate does not fit the trained weights, otherwise None."""
    if usual / _FAR <= rate <= usual * _FAR:
        return None
    fate = "hardly learn" if rate < usual else "probably collapse"
    factor = max(rate / usual, usual / rate)
    times = f"{factor:,.0f}" if factor < 1e6 else f"{factor:.0e}"
    return (
        f"the learning rate {rate:g} is {times} times {'below' if rate < usual else 'above'} {usual:g}, the usual rate "
        f"for these weights: the policy will {fate}. Leave out {flag('learning_rate')} to use the usual rate"
    )


def warn_of_rate(options: TrainingOptions, policy: Policy) -> None:
    """Issue :func:`rate_complaint` as a notice."""
    usual = usual_rate(options, policy)
    assert options.learning_rate is not None
    if usual is not None and (told := rate_complaint(options.learning_rate, usual)):
        warnings.warn(told, Notice, stacklevel=2)


def warn_of_spent_pivots(variances: Sequence[float | None]) -> bool:
    """Issue a notice if the rewards at the pivots vary less than a third as much as at the start: most pivots are
    mastered, or have become impossible. Returns whether there was one.

    Args:
        variances: mean variance within the groups at each step so far; None where it is unknown.
    """
    known = [value for value in variances if value is not None]
    if len(known) < 2 * _SPENT_STEPS:
        return False
    first, last = statistics.fmean(known[:_SPENT_STEPS]), statistics.fmean(known[-_SPENT_STEPS:])
    if last >= _SPENT_SHARE * first:
        return False
    warnings.warn(
        f"at step {len(variances)} rewards at the pivots vary less than a third as much as at the start ({last:.3f}, "
        f"was {first:.3f}): most of them have nothing left to teach. Profile again with the trained policy, or "
        "train with --method lazy, which looks for new pivots as it goes",
        Notice,
        stacklevel=2,
    )
    return True
