"""train(): the loop, on one screen. Read this second.

At every step a *method* (:mod:`pivotrl.methods`, one file each) turns a batch of turns into groups of weighted
completions, and the policy is updated once on all of them. PivotRL lets the current policy act at the turns, verifies
its actions, and weighs each by how much better it was than the others at its turn. Imitation takes the demonstrated
action with weight 1.

The rest of the algorithm: the objective (paper eq. 7) is in ``engine/objective.py`` and ``engine/losses.py``, the
advantages in ``advantages.py``. The reference policy is the policy before its first update; ``policies/hf.py`` makes it
from the frozen weights in ``engine/weights.py``. The group size G here may differ from K of the profile. Verdicts are
made in other processes (``judging/guarded.py``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pivotrl.advantages import Estimator, group_advantages
from pivotrl.options import flag
from pivotrl.plugins.shapes import taught
from pivotrl.protocols import (
    Environments,
    NotRenderable,
    ObjectiveName,
    Policy,
    TrainingGroup,
    Turn,
    Verifier,
)
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import EpisodeResult, SampleGroup, Sampling, StepMetrics
from pivotrl.rollouts import SampleFaults, judged_groups, sample_groups
from pivotrl.runs.checkpoints import keep_newest, restore, save_checkpoint
from pivotrl.runs.step_draws import StepDraws, draws_of
from pivotrl.runs.step_metrics import calls_left_out, in_short, sample_metrics
from pivotrl.seeding import derive_seed
from pivotrl.storage.record_files import RecordFile
from pivotrl.training_options import TrainingOptions as TrainingOptions
from pivotrl.training_options import rate_at, update_options, warn_of_rate, warn_of_spent_pivots, with_policy_defaults
from pivotrl.training_options.guard_rails import GuardRail
from pivotrl.turns import in_rounds


@dataclass(frozen=True)
class Lesson:
    """The output of a method at one step."""

    groups: Sequence[TrainingGroup]
    """Every group that counts in the loss denominators; empty if there is nothing to learn."""
    teaches: bool
    """Whether the groups give a gradient. If not, there is no update and nothing moves, not even Adam's momentum."""
    metrics: dict[str, float]


@dataclass(frozen=True)
class Step:
    """The input of a method at one step."""

    number: int
    turns: Sequence[Turn]
    """The batch: at most B different turns."""
    policy: Policy
    verifier: Verifier
    options: TrainingOptions
    groups_file: RecordFile[SampleGroup]
    episodes_file: RecordFile[EpisodeResult]
    environments: Mapping[str, Environments]
    """What a method that plays whole episodes plays in, by name."""
    pool: Sequence[Turn]
    """Every turn of the training."""
    memory: dict[str, Any]
    """What the method keeps from step to step. It is empty when a training begins or resumes, so the method must be
    able to restore it from the stored groups."""
    draws: StepDraws | None = None
    """How another engine draws for the policy; None: the policy draws itself."""

    def sample(self, turns: Sequence[Turn] | None = None) -> list[SampleGroup]:
        """G verified actions of the current policy at each turn. Stored samples are read back; new ones are stored
        before use.

        Args:
            turns: None: the batch.
        """
        sampling, size, draws = self.sampling("step", self.number), self.options.group_size, self.draws
        chosen = self.turns if turns is None else turns
        if draws is None:
            return self.stored(chosen, lambda asked: sample_groups(asked, self.policy, self.verifier, size, sampling))
        left = [turn for turn in chosen if f"{self.number}/{turn.id}" not in self.groups_file]
        groups = draws.take(self.number, left, size, sampling) if left else []
        self.groups_file.append(judged_groups(left, groups, self.verifier))
        draws.forget(self.number)
        return [self.groups_file.get(f"{self.number}/{turn.id}") for turn in chosen]

    def draw_ahead(self, turns: Sequence[Turn]) -> None:
        """Begin to draw the samples of the next step, with the present weights."""
        assert self.draws is not None
        number = self.number + 1
        following = dataclasses.replace(self, number=number)
        left = [turn for turn in turns if f"{number}/{turn.id}" not in self.groups_file]
        self.draws.begin(number, left, self.options.group_size, following.sampling("step", number), version=self.number)

    def sampling(self, *purpose: str | int) -> Sampling:
        """How the training draws samples; the purpose gives them a seed of their own."""
        options = self.options
        return Sampling(
            temperature=options.train_temperature,
            max_tokens=options.train_max_tokens,
            seed=derive_seed(options.train_seed, *purpose),
        )

    def stored(
        self, turns: Sequence[Turn], draw: Callable[[Sequence[Turn]], Iterable[SampleGroup]]
    ) -> list[SampleGroup]:
        """This step's group of each turn. Stored ones are read back; if any is missing, all are drawn together, and the
        missing ones are stored before use."""
        keys = [f"{self.number}/{turn.id}" for turn in turns]
        if not all(key in self.groups_file for key in keys):
            stamped = [group.model_copy(update={"step": self.number}) for group in draw(turns)]
            new = [group for group, key in zip(stamped, keys, strict=True) if key not in self.groups_file]
            self.groups_file.append(new)
        return [self.groups_file.get(key) for key in keys]

    def demonstrations(self, turns: Sequence[Turn]) -> tuple[list[TrainingGroup], dict[str, float]]:
        """The demonstrated action of each turn as a group of one with weight 1, and the metrics. Leaves out and counts
        turns whose demonstrated action the chat template cannot write."""
        groups = []
        for turn in turns:
            try:
                demonstrated = self.policy.encode_action(turn, turn.expected_action)
            except NotRenderable:
                continue
            groups.append(TrainingGroup(turn, [demonstrated], [1.0]))
        return groups, {"groups/not_renderable": float(len(turns) - len(groups))}

    def weigh(
        self, groups: Sequence[SampleGroup], turns: Sequence[Turn] | None = None
    ) -> tuple[list[TrainingGroup], dict[str, float]]:
        """The groups with an advantage for each completion that has a verdict, and the metrics of the samples.

        Args:
            turns: of the groups; None: the batch.
        """
        return _with_advantages(self.turns if turns is None else turns, groups, self.options.advantage)

    def practise(self, samples: Sequence[SampleGroup], turns: Sequence[Turn] | None = None) -> Lesson:
        """What the differences within each group teach (paper eq. 7): nothing if no rewards differ and there is no KL
        term.

        Args:
            turns: of the samples; None: the batch.
        """
        groups, metrics = self.weigh(samples, turns)
        with_signal = [group for group in groups if any(group.advantages_G)]
        if self.options.average_over == "signal":
            groups = with_signal
        return Lesson(groups, bool(with_signal) or (bool(groups) and self.options.kl_coefficient > 0), metrics)


class Method(Protocol):
    """How to make the groups of a step. A module exports it as ``Method``, with its options as keywords."""

    @property
    def title(self) -> str:
        """Name in the report, such as "PivotRL"."""
        ...

    @property
    def objective(self) -> ObjectiveName: ...

    @property
    def verifies(self) -> bool:
        """Whether the method asks the verifier, which is then checked first."""
        ...

    @property
    def plays(self) -> bool:
        """Whether the method plays environments instead of acting at turns; its steps then have no turns. One that does
        neither need a profile says so with ``needs_pivots = False``. One that samples at the turns of its batch and
        nowhere else says ``acts_at_batch = True``: they may then be sampled a step ahead."""
        ...

    def check(self, options: TrainingOptions) -> None:
        """
        Raises:
            InputError: options contradict each other or have no effect on this method.
        """
        ...

    def lesson(self, step: Step) -> Lesson: ...


def train(
    policy: Policy,
    turns: Sequence[Turn],
    verifier: Verifier,
    directory: Path,
    options: TrainingOptions | None = None,
    observer: Observer = SILENT,
    environments: Mapping[str, Environments] | None = None,
) -> list[StepMetrics]:
    """Train the policy at the given turns; continue where ``directory`` stopped.

    Writes ``groups.jsonl`` or ``episodes.jsonl`` (every sample), ``metrics.jsonl`` (exactly one row per step) and
    ``checkpoints/step_NNNNNN``. An interrupted and resumed run ends with the same weights, bit for bit, as an
    uninterrupted one with the same number of threads: stored samples are read back, not drawn again.

    Returns:
        the metrics of every step; docs/runs.md explains each.

    Raises:
        Collapsed: a guard rail ended the training. The samples and the last checkpoint are kept.
        InputError: an update made weights that are not finite. As above.
    """
    options = with_policy_defaults(options or TrainingOptions(), policy)
    method: Method = options.load_method()
    groups_file = RecordFile(directory / "groups.jsonl", SampleGroup)
    episodes_file = RecordFile(directory / "episodes.jsonl", EpisodeResult)
    metrics_file = RecordFile(directory / "metrics.jsonl", StepMetrics)
    start = restore(policy, directory / "checkpoints")
    keeps_all = options.keep_checkpoints == "all"
    if not keeps_all:
        keep_newest(directory / "checkpoints")  # a killed process may have left an older one
    batch_of, objective = _schedule(turns, options), update_options(options, method.objective)
    has_warned, is_spent, memory = False, False, dict[str, Any]()
    past = [row.metrics for row in metrics_file][:start]
    variances = [row.get("reward/group_variance") for row in past]
    guard_rail = GuardRail(options, options.learning_rate, past)
    draws = draws_of(policy, directory / "drawn", options)
    observer.progress("steps", start, options.num_steps)
    if start < options.num_steps:
        warn_of_rate(options, policy)
    with draws or contextlib.nullcontext():
        for number in range(start, options.num_steps):
            began = time.monotonic()
            batch = [] if method.plays else batch_of(number)
            played_in = environments or {}
            files = (groups_file, episodes_file)
            step = Step(number, batch, policy, verifier, options, *files, played_in, turns, memory, draws)
            lesson: Lesson = taught(method, step)
            has_warned = has_warned or _warn_of_faults(lesson.metrics, options)
            variances.append(lesson.metrics.get("reward/group_variance"))
            is_spent = is_spent or (needs_pivots(method) and warn_of_spent_pivots(variances))
            sampled, metrics = time.monotonic(), dict(lesson.metrics)
            if options.sample_ahead and draws is not None and number + 1 < options.num_steps:
                step.draw_ahead(batch_of(number + 1))
            if lesson.teaches:
                metrics |= policy.update(lesson.groups, rate_at(number, options), objective)  # eq. 7
            metrics |= {"time/sample_seconds": sampled - began, "time/update_seconds": time.monotonic() - sampled}
            metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
            if str(number) not in metrics_file:
                metrics_file.append([StepMetrics(step=number, metrics=metrics)])
            observer.step(number, metrics)
            if number + 1 < options.num_steps:
                guard_rail.look(metrics)
            if (number + 1) % options.checkpoint_every == 0 or number + 1 == options.num_steps:
                save_checkpoint(policy, directory / "checkpoints", number + 1, keeps_all)
            observer.progress("steps", number + 1, options.num_steps, in_short(metrics))
    return list(metrics_file)


def needs_pivots(method: Method) -> bool:
    """Whether a profile and a selection come before the training."""
    return bool(getattr(method, "needs_pivots", not method.plays))


def _schedule(turns: Sequence[Turn], options: TrainingOptions) -> Callable[[int], list[Turn]]:
    """step -> its turns: passes over all turns, each with a new shuffle by task."""
    passes: dict[int, list[Turn]] = {}

    def batch(step: int) -> list[Turn]:
        chosen = []
        for position in range(step * options.turns_per_step, (step + 1) * options.turns_per_step):
            number, index = divmod(position, len(turns))
            if number not in passes:
                seed = derive_seed(options.train_seed, "pass", number)
                passes[number] = in_rounds(turns, seed, together=options.turns_per_trajectory)
            chosen.append(passes[number][index])
        return list({turn.id: turn for turn in chosen}.values())

    return batch


def _warn_of_faults(metrics: Mapping[str, float], options: TrainingOptions) -> bool:
    names = ("total", "cut_off", "malformed", "without_verdict")
    total, cut_off, malformed, without_verdict = (int(metrics.get(f"samples/{name}", 0)) for name in names)
    faults = SampleFaults(total, cut_off, malformed - cut_off, without_verdict)  # what is cut off is malformed too
    return faults.warn(f"{flag('train_max_tokens')} ({options.train_max_tokens})")


def _with_advantages(
    batch: Sequence[Turn], groups: Sequence[SampleGroup], estimator: Estimator
) -> tuple[list[TrainingGroup], dict[str, float]]:
    """The groups with an advantage for each completion, and the metrics of the step's samples.

    Completions without a verdict and groups without any verdict are left out: unknown is not 0.
    """
    training_groups = []
    for turn, group in zip(batch, groups, strict=True):
        scored = [
            (completion, verdict.reward)
            for completion, verdict in zip(group.completions_G, group.verdicts_G, strict=True)
            if verdict.reward is not None
        ]
        advantages = group_advantages([reward for _, reward in scored], estimator)
        if scored:
            training_groups.append(TrainingGroup(turn, [c for c, _ in scored], advantages, group.prompt_sha256))
    return training_groups, {
        "groups/with_verdict": float(len(training_groups)),
        "groups/with_signal": float(sum(any(group.advantages_G) for group in training_groups)),
        **sample_metrics(groups),
        **calls_left_out(batch, groups),
    }
