"""The options of training, and the learning rate, whose default depends on what is trained."""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from pivotrl import plugins
from pivotrl.advantages import Estimator
from pivotrl.options import AtLeast0, AtLeast1, InputError, NotNegative, Positive, check, flag, refuse
from pivotrl.protocols import Notice, ObjectiveName, ObjectiveOptions, Policy, UpdateOptions

_FAR = 10
"""A rate that is so many times the usual one, or a part of it, is told to the user."""


@dataclass(frozen=True)
class TrainingOptions(ObjectiveOptions):
    """The loop and its objective. Defaults are those of the published run (docs/method.md)."""

    method: str = "pivotrl"
    """Training method, with options. pivotrl: sample, verify, policy gradient. sft: imitate the demonstrated action.
    `pivotrl list methods` names them."""
    num_steps: AtLeast1 = 100
    turns_per_step: Annotated[int, Field(ge=1, le=1_000_000)] = 64
    """B, turns drawn for each step; a task comes back only after the others had their turn."""
    turns_per_trajectory: AtLeast1 = 4
    """Turns of one trajectory that are drawn for a step together: they share their prefix. More share more, and tell
    less than as many turns of different trajectories."""
    group_size: AtLeast1 = 16
    """G, actions sampled at each turn."""
    learning_rate: Positive | None = None
    """None: what suits the weights that are trained. hf with LoRA 5e-5 (imitation 2e-4), with all weights 1e-6 (1e-5);
    tabular 5."""
    warmup_steps: AtLeast0 = 0
    """Steps over which the learning rate rises linearly."""
    decay: Literal["constant", "linear"] = "constant"
    """What the learning rate does after the warm-up; linear falls to a tenth at the last step."""
    advantage: Estimator = "leave_one_out"
    average_over: Literal["all", "signal"] = "all"
    """Which groups stand in the loss, its denominators and the KL term. all: every one with a verdict (paper eq. 7), so
    a step with little signal is a small step. signal: those whose rewards differ, so every step is a whole one."""
    train_temperature: NotNegative = 1.0
    train_max_tokens: AtLeast1 = 256
    """Longest action; a longer one is cut off there and fails."""
    train_seed: int = 0
    checkpoint_every: AtLeast1 = 5

    def __post_init__(self) -> None:
        check(self)
        if self.warmup_steps > self.num_steps:
            refuse("warmup_steps", self.warmup_steps, f"is more than {flag('num_steps')} {self.num_steps}")
        self.load_method().check(self)

    def load_method(self) -> Any:
        """The :class:`pivotrl.training.Method` that is named."""
        return plugins.load("methods", self.method)


def update_options(options: TrainingOptions, objective: ObjectiveName) -> UpdateOptions:
    """What the policy is updated with. Imitation takes log-probabilities at temperature 1."""
    chosen = {field.name: getattr(options, field.name) for field in dataclasses.fields(ObjectiveOptions)}
    temperature = options.train_temperature if objective == "policy_gradient" else 1.0
    return UpdateOptions(**chosen, objective=objective, temperature=temperature)


def rate_at(step: int, options: TrainingOptions) -> float:
    """The learning rate of a step, once :func:`with_learning_rate` has fixed it."""
    rate = options.learning_rate
    assert rate is not None
    if step < options.warmup_steps:
        return rate * (step + 1) / options.warmup_steps
    if options.decay == "linear":
        left = (options.num_steps - 1 - step) / max(1, options.num_steps - 1 - options.warmup_steps)
        return rate * (0.1 + 0.9 * left)
    return rate


def usual_rate(options: TrainingOptions, policy: Policy) -> float | None:
    """What the policy takes by default; None when it does not say."""
    named = getattr(policy, "default_learning_rate", None)
    return None if named is None else float(named(options.load_method().objective))


def with_learning_rate(options: TrainingOptions, policy: Policy) -> TrainingOptions:
    """The options with a learning rate: the given one, else the policy's default.

    Raises:
        InputError: none is given and the policy has no default.
    """
    if options.learning_rate is not None:
        return options
    usual = usual_rate(options, policy)
    if usual is None:
        raise InputError(f"{type(policy).__name__} has no default learning rate; give {flag('learning_rate')}")
    return dataclasses.replace(options, learning_rate=usual)


def rate_complaint(rate: float, usual: float) -> str | None:
    """What to say of a learning rate that does not fit what is trained; None when it does."""
    if usual / _FAR <= rate <= usual * _FAR:
        return None
    fate = "hardly learn" if rate < usual else "probably collapse"
    factor = max(rate / usual, usual / rate)
    times = f"{factor:,.0f}" if factor < 1e6 else f"{factor:.0e}"
    return (
        f"the learning rate {rate:g} is {times} times {'below' if rate < usual else 'above'} the {usual:g} that "
        f"is usual for what is trained here: the policy will {fate}. Leave out {flag('learning_rate')} to take that"
    )


def warn_of_rate(options: TrainingOptions, policy: Policy) -> None:
    """Tell :func:`rate_complaint` as a notice."""
    usual = usual_rate(options, policy)
    assert options.learning_rate is not None
    if usual is not None and (told := rate_complaint(options.learning_rate, usual)):
        warnings.warn(told, Notice, stacklevel=2)
