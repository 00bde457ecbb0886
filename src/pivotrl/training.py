"""train: the loop, on one screen. Read this second.

At every step a *method* (:mod:`pivotrl.methods`, one file each) turns a batch of turns into groups of completions with
a weight each, and the policy is updated once on all of them. PivotRL lets the current policy act at the turns, verifies
what it did, and weighs each action by how much better it was than the others at its turn. Imitation takes the
demonstrated action with weight 1.

Where the rest of the algorithm is: the objective (paper eq. 7) in ``engine/objective.py`` and ``engine/losses.py``; the
advantages in ``advantages.py``; the reference policy behind ``Policy`` (``engine/learning.py``): it is what the policy
was before its first update. G, the group size here, need not be K of the profile. Verdicts are made in other processes
(``judging/guarded.py``).
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pivotrl.advantages import Estimator, group_advantages
from pivotrl.options import InputError, flag
from pivotrl.protocols import ObjectiveName, Policy, TrainingGroup, Turn, Verifier
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import SampleGroup, Sampling, StepMetrics
from pivotrl.rollouts import SampleFaults, continuation_turns, prompt_tokens, sample_groups
from pivotrl.runs.checkpoints import keep_newest, restore, save_checkpoint
from pivotrl.seeding import derive_seed
from pivotrl.storage.record_files import RecordFile
from pivotrl.training_options import TrainingOptions as TrainingOptions
from pivotrl.training_options import rate_at, update_options, warn_of_rate, with_learning_rate
from pivotrl.turns import in_rounds

_MAX_SKIPPED_IN_A_ROW = 3


@dataclass(frozen=True)
class Step:
    """What a method has to work with at one step."""

    number: int
    turns: Sequence[Turn]
    """The batch: B turns at most, each once."""
    policy: Policy
    verifier: Verifier
    options: TrainingOptions
    file: RecordFile[SampleGroup]

    def sample(self) -> list[SampleGroup]:
        """G verified actions of the current policy at each turn. Those that were bought before are read back; new ones
        are stored before they are used."""
        options, keys = self.options, [f"{self.number}/{turn.id}" for turn in self.turns]
        if not all(key in self.file for key in keys):
            sampling = Sampling(
                temperature=options.train_temperature,
                max_tokens=options.train_max_tokens,
                seed=derive_seed(options.train_seed, "step", self.number),
            )
            drawn = sample_groups(self.turns, self.policy, self.verifier, options.group_size, sampling)
            stamped = [group.model_copy(update={"step": self.number}) for group in drawn]
            self.file.append([group for group, key in zip(stamped, keys, strict=True) if key not in self.file])
        return [self.file.get(key) for key in keys]

    def weigh(self, groups: Sequence[SampleGroup]) -> tuple[list[TrainingGroup], dict[str, float]]:
        """The groups with an advantage for each completion that has a verdict, and what the samples looked like."""
        return _with_advantages(self.turns, groups, self.options.advantage)


@dataclass(frozen=True)
class Lesson:
    """What a method made of a step."""

    groups: Sequence[TrainingGroup]
    """All that counts in the denominators; empty when there is nothing to learn from."""
    teaches: bool
    """Whether an update would move anything by what was seen. Without one nothing moves, Adam's momentum included."""
    metrics: dict[str, float]
    samples: Sequence[SampleGroup] = ()
    """What was bought for it."""


class Method(Protocol):
    """How the groups of a step come about; the module exports it as ``Method``, with its options as keywords."""

    @property
    def title(self) -> str:
        """For the report, such as "PivotRL"."""
        ...

    @property
    def objective(self) -> ObjectiveName: ...

    @property
    def verifies(self) -> bool:
        """Whether it asks the verifier, which is then checked first."""
        ...

    def check(self, options: TrainingOptions) -> None:
        """
        Raises:
            InputError: options that contradict each other or mean nothing to this method.
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
) -> list[StepMetrics]:
    """Train the policy at the given turns; continue where ``directory`` stopped.

    Writes ``groups.jsonl`` (every sample bought), ``metrics.jsonl`` (one row per step, exactly) and
    ``checkpoints/step_NNNNNN``. An interrupted run ends with the same weights, bit for bit, as an uninterrupted one
    with the same number of threads: samples drawn before the interruption are read back, not drawn again.

    Returns:
        the metrics of every step; docs/runs.md says what each is.

    Raises:
        InputError: an update made weights that are not finite, or three in a row had no finite loss or gradient. The
            samples and the last checkpoint stay.
    """
    options = with_learning_rate(options or TrainingOptions(), policy)
    method: Method = options.load_method()
    groups_file = RecordFile(directory / "groups.jsonl", SampleGroup, key=lambda g: f"{g.step}/{g.turn_id}")
    metrics_file = RecordFile(directory / "metrics.jsonl", StepMetrics, key=lambda row: str(row.step))
    start = restore(policy, directory / "checkpoints")
    keep_newest(directory / "checkpoints")  # a process that was killed may have left an older one
    batch_of, objective = _schedule(turns, options), update_options(options, method.objective)
    num_skipped, has_warned = 0, False
    observer.progress("steps", start, options.num_steps)
    if start < options.num_steps:
        warn_of_rate(options, policy)
    for number in range(start, options.num_steps):
        began = time.monotonic()
        lesson = method.lesson(Step(number, batch_of(number), policy, verifier, options, groups_file))
        has_warned = has_warned or _warn_of_faults(lesson, options)
        sampled, metrics = time.monotonic(), dict(lesson.metrics)
        if lesson.teaches:
            metrics |= policy.update(lesson.groups, rate_at(number, options), objective)  # eq. 7
            num_skipped = num_skipped + 1 if metrics.get("update/skipped") else 0
        metrics |= {"time/sample_seconds": sampled - began, "time/update_seconds": time.monotonic() - sampled}
        metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
        if str(number) not in metrics_file:
            metrics_file.append([StepMetrics(step=number, metrics=metrics)])
        observer.step(number, metrics)
        if num_skipped == _MAX_SKIPPED_IN_A_ROW:
            raise InputError(
                f"loss or gradient was not finite in {num_skipped} steps in a row, up to step {number + 1}; train "
                f"again with a lower {flag('learning_rate')} than {options.learning_rate:g}, or with a dtype of more "
                "range"
            )
        if (number + 1) % options.checkpoint_every == 0 or number + 1 == options.num_steps:
            save_checkpoint(policy, directory / "checkpoints", number + 1)
        observer.progress("steps", number + 1, options.num_steps, _note(metrics))
    return list(metrics_file)


def _schedule(turns: Sequence[Turn], options: TrainingOptions) -> Callable[[int], list[Turn]]:
    """step -> its turns. Pass after pass over all turns, each pass shuffled by task anew."""
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


def _warn_of_faults(lesson: Lesson, options: TrainingOptions) -> bool:
    return SampleFaults.of(lesson.samples).warn(f"{flag('train_max_tokens')} ({options.train_max_tokens})")


def _with_advantages(
    batch: Sequence[Turn], groups: Sequence[SampleGroup], estimator: Estimator
) -> tuple[list[TrainingGroup], dict[str, float]]:
    """The groups with an advantage for each completion, and the metrics of the step's samples.

    Completions without a verdict are left out, and so are groups without any verdict: unknown is not 0.
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
        **_sample_metrics(groups),
    }


def _sample_metrics(groups: Sequence[SampleGroup]) -> dict[str, float]:
    means = [group.mean for group in groups if group.mean is not None]
    variances = [group.variance for group in groups if group.variance is not None]
    completions = [completion for group in groups for completion in group.completions_G]
    unshared, computed = prompt_tokens(groups)
    metrics = {
        "groups/sampled": float(len(groups)),
        "samples/total": float(len(completions)),
        "samples/without_verdict": float(sum(len(g.verdicts_G) - len(g.rewards) for g in groups)),
        "samples/continuation_turns": float(continuation_turns(groups)),
        "samples/malformed": float(sum(completion.parse_error is not None for completion in completions)),
        "samples/cut_off": float(sum(group.num_cut_off for group in groups)),
        "prompts/unshared": float(unshared),
        "prompts/computed": float(computed),
    }
    for name, values in (
        ("reward/mean", means),
        ("reward/group_variance", variances),
        ("samples/mean_tokens", [len(completion.token_ids_T) for completion in completions]),
    ):
        if values:
            metrics[name] = statistics.fmean(values)
    return metrics


def _note(metrics: dict[str, float]) -> str:
    """What is known of a step, in a few words."""
    words = []
    if "groups/sampled" in metrics:
        reward, sampled = metrics.get("reward/mean"), metrics["groups/sampled"]
        words += ["no verdict" if reward is None else f"reward {reward:.2f}"]
        words += [f"{metrics.get('groups/with_signal', 0):.0f}/{sampled:.0f} groups with signal"]
        if cut_off := metrics.get("samples/cut_off"):
            words += [f"{cut_off:.0f}/{metrics['samples/total']:.0f} samples cut off"]
    elif "loss/total" in metrics:
        words += [f"loss {metrics['loss/total']:.3f}"]
    if metrics.get("update/skipped"):
        words += ["update skipped"]
    return " · ".join(words)
