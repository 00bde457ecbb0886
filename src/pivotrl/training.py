"""train: the loop, on one screen.

At every step: draw turns, let the *current* policy act at them, verify, turn rewards into group-relative advantages,
drop groups without signal, update once. Imitation (SFT) is the same loop with the demonstrated action as the only
completion of weight 1.
"""

from __future__ import annotations

import dataclasses
import math
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pivotrl.advantages import Estimator, group_advantages
from pivotrl.atomic_folder import remove_folder
from pivotrl.profiling import Progress, silent
from pivotrl.protocols import Policy, TrainingGroup, Turn, UpdateOptions, Verifier
from pivotrl.records import SampleGroup, Sampling, StepMetrics
from pivotrl.rollouts import continuation_turns, prompt_tokens, sample_groups
from pivotrl.seeding import derive_seed
from pivotrl.store import RecordFile
from pivotrl.templates.control_tokens import NotRenderable
from pivotrl.turns import in_rounds

_CHECKPOINT = re.compile(r"step_\d+")


@dataclass(frozen=True)
class TrainingOptions:
    """The loop and its objective. Defaults are those of the published run (docs/method.md)."""

    method: Literal["pivotrl", "sft"] = "pivotrl"
    """pivotrl: sample, verify, policy gradient. sft: imitate the demonstrated action."""
    num_steps: int = 100
    turns_per_step: int = 64
    """B, turns drawn for each step; a task comes back only after the others had their turn."""
    turns_per_trajectory: int = 4
    """Turns of one trajectory that are drawn for a step together: they share their prefix. More share more, and tell
    less than as many turns of different trajectories."""
    group_size: int = 16
    """G, actions sampled at each turn."""
    learning_rate: float = 1e-6
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly."""
    decay: Literal["constant", "linear"] = "constant"
    """What the learning rate does after the warm-up; linear falls to a tenth at the last step."""
    advantage: Estimator = "leave_one_out"
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl_coefficient: float = 0.0
    loss_level: Literal["token", "sequence"] = "token"
    importance_cap: float | None = None
    """Weigh each token by min(policy / sampler, cap), for samples of another engine. None: no correction."""
    num_epochs: int = 1
    """Optimizer steps on the same groups."""
    max_gradient_norm: float = 1.0
    weight_decay: float = 0.0
    train_temperature: float = 1.0
    train_max_tokens: int = 256
    train_seed: int = 0
    checkpoint_every: int = 5

    def update_options(self) -> UpdateOptions:
        return UpdateOptions(
            objective="likelihood" if self.method == "sft" else "policy_gradient",
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            kl_coefficient=self.kl_coefficient,
            loss_level=self.loss_level,
            importance_cap=self.importance_cap,
            num_epochs=self.num_epochs,
            max_gradient_norm=self.max_gradient_norm,
            weight_decay=self.weight_decay,
            temperature=self.train_temperature if self.method == "pivotrl" else 1.0,
        )


def train(
    policy: Policy,
    turns: Sequence[Turn],
    verifier: Verifier,
    directory: Path,
    options: TrainingOptions = TrainingOptions(),
    progress: Progress = silent,
) -> list[StepMetrics]:
    """Train the policy at the given turns; continue where ``directory`` stopped.

    Writes ``groups.jsonl`` (every sample bought), ``metrics.jsonl`` (one row per step, exactly) and
    ``checkpoints/step_NNNNNN``. An interrupted run ends with the same weights, bit for bit, as an uninterrupted one
    with the same number of threads: samples drawn before the interruption are read back, not drawn again.

    Returns:
        the metrics of every step, docs/runs.md says what each is.
    """
    groups_file = RecordFile(directory / "groups.jsonl", SampleGroup, key=lambda g: f"{g.step}/{g.turn_id}")
    metrics_file = RecordFile(directory / "metrics.jsonl", StepMetrics, key=lambda row: str(row.step))
    start = restore(policy, directory / "checkpoints")
    _keep_newest(directory / "checkpoints")  # a process that was killed may have left an older one
    schedule = _schedule(turns, options)
    progress(start, options.num_steps, "steps")
    for step in range(start, options.num_steps):
        began = time.monotonic()
        batch = schedule(step)
        if options.method == "sft":
            training_groups = _demonstrations(policy, batch)
            metrics = {"groups/not_renderable": float(len(batch) - len(training_groups))}
        else:
            groups = _acquire(step, batch, policy, verifier, groups_file, options)
            training_groups, metrics = _with_advantages(batch, groups, options.advantage)
        sampled = time.monotonic()
        if training_groups:
            metrics |= policy.update(training_groups, _learning_rate(step, options), options.update_options())
        metrics |= {"time/sample_seconds": sampled - began, "time/update_seconds": time.monotonic() - sampled}
        if str(step) not in metrics_file:
            known = {name: value for name, value in metrics.items() if math.isfinite(value)}
            metrics_file.append([StepMetrics(step=step, metrics=known)])
        if (step + 1) % options.checkpoint_every == 0 or step + 1 == options.num_steps:
            _checkpoint(policy, directory / "checkpoints", step + 1)
        progress(step + 1, options.num_steps, _note(metrics))
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


def _acquire(
    step: int,
    batch: Sequence[Turn],
    policy: Policy,
    verifier: Verifier,
    file: RecordFile[SampleGroup],
    options: TrainingOptions,
) -> list[SampleGroup]:
    """The step's groups: read back if they were bought before, else sampled and stored before they are used."""
    keys = [f"{step}/{turn.id}" for turn in batch]
    if not all(key in file for key in keys):
        sampling = Sampling(
            temperature=options.train_temperature,
            max_tokens=options.train_max_tokens,
            seed=derive_seed(options.train_seed, "step", step),
        )
        drawn = sample_groups(batch, policy, verifier, options.group_size, sampling)
        stamped = [group.model_copy(update={"step": step}) for group in drawn]
        file.append([group for group, key in zip(stamped, keys, strict=True) if key not in file])
    return [file.get(key) for key in keys]


def _with_advantages(
    batch: Sequence[Turn], groups: Sequence[SampleGroup], estimator: Estimator
) -> tuple[list[TrainingGroup], dict[str, float]]:
    """Groups with signal, and what the step's samples looked like. Completions without a verdict are left out."""
    training_groups = []
    for turn, group in zip(batch, groups, strict=True):
        scored = [
            (completion, verdict.reward)
            for completion, verdict in zip(group.completions_G, group.verdicts_G, strict=True)
            if verdict.reward is not None
        ]
        advantages = group_advantages([reward for _, reward in scored], estimator)
        if any(advantages):
            training_groups.append(TrainingGroup(turn, [c for c, _ in scored], advantages, group.prompt_sha256))
    means = [group.mean for group in groups if group.mean is not None]
    variances = [group.variance for group in groups if group.variance is not None]
    completions = [completion for group in groups for completion in group.completions_G]
    unshared, computed = prompt_tokens(groups)
    return training_groups, {
        "reward/mean": statistics.fmean(means) if means else 0.0,
        "reward/group_variance": statistics.fmean(variances) if variances else 0.0,
        "groups/sampled": float(len(groups)),
        "groups/with_signal": float(len(training_groups)),
        "samples/total": float(len(completions)),
        "samples/without_verdict": float(sum(len(g.verdicts_G) - len(g.rewards) for g in groups)),
        "samples/continuation_turns": float(continuation_turns(groups)),
        "samples/malformed": float(sum(completion.parse_error is not None for completion in completions)),
        "samples/mean_tokens": statistics.fmean(len(c.token_ids_T) for c in completions),
        "prompts/unshared": float(unshared),
        "prompts/computed": float(computed),
    }


def _demonstrations(policy: Policy, batch: Sequence[Turn]) -> list[TrainingGroup]:
    """The turns whose demonstrated action the policy's chat template can write."""
    groups = []
    for turn in batch:
        try:
            groups.append(TrainingGroup(turn, [policy.encode_action(turn, turn.expected_action)], [1.0]))
        except NotRenderable:
            continue
    return groups


def _learning_rate(step: int, options: TrainingOptions) -> float:
    if step < options.warmup_steps:
        return options.learning_rate * (step + 1) / options.warmup_steps
    if options.decay == "linear":
        left = (options.num_steps - 1 - step) / max(1, options.num_steps - 1 - options.warmup_steps)
        return options.learning_rate * (0.1 + 0.9 * left)
    return options.learning_rate


def _checkpoint(policy: Policy, folder: Path, step: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    policy.save(folder / f"step_{step:06d}")
    _keep_newest(folder)  # only once the new one is whole on disk


def _keep_newest(folder: Path) -> None:
    for older in _checkpoints(folder)[:-1]:
        remove_folder(older)


def _checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a training, the newest last."""
    found = {path: _CHECKPOINT.fullmatch(path.name) for path in folder.glob("step_*") if path.is_dir()}
    return sorted((path for path, name in found.items() if name), key=lambda path: int(path.name[5:]))


def restore(policy: Policy, folder: Path) -> int:
    """Load the newest checkpoint; the number of steps it has behind it, 0 without one.

    Raises:
        InputError: it is damaged; an older one is never taken instead.
    """
    found = _checkpoints(folder)
    if not found:
        return 0
    policy.load(found[-1])
    return int(found[-1].name[5:])


def _note(metrics: dict[str, float]) -> str:
    if "reward/mean" in metrics:
        signal, sampled = metrics["groups/with_signal"], metrics["groups/sampled"]
        return f"steps · reward {metrics['reward/mean']:.2f} · {signal:.0f}/{sampled:.0f} groups with signal"
    return f"steps · loss {metrics.get('loss/total', 0.0):.3f}"


def options_dict(options: object) -> dict[str, object]:
    """A dataclass of options as JSON for a manifest."""
    assert dataclasses.is_dataclass(options) and not isinstance(options, type)
    return dataclasses.asdict(options)
