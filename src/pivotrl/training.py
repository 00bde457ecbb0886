"""train: the loop, on one screen.

At every step: draw turns, let the *current* policy act at them, verify, turn rewards into group-relative advantages,
update once. Imitation (SFT) is the same loop with the demonstrated action as the only completion of weight 1.
"""

from __future__ import annotations

import math
import re
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pivotrl.advantages import Estimator, group_advantages
from pivotrl.observing import Progress, silent
from pivotrl.options import InputError, flag
from pivotrl.protocols import NotRenderable, Policy, TrainingGroup, Turn, Verifier
from pivotrl.records import SampleGroup, Sampling, StepMetrics
from pivotrl.rollouts import SampleFaults, continuation_turns, prompt_tokens, sample_groups
from pivotrl.seeding import derive_seed
from pivotrl.storage.folders import remove_folder
from pivotrl.storage.record_files import RecordFile
from pivotrl.training_options import TrainingOptions as TrainingOptions
from pivotrl.training_options import rate_at, warn_of_rate, with_learning_rate
from pivotrl.turns import in_rounds

_MAX_SKIPPED_IN_A_ROW = 3
_CHECKPOINT = re.compile(r"step_\d+")


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

    A step at which nothing is to be learned, since no rewards differ and there is no KL term, changes nothing: there is
    no update, by which Adam's momentum and weight decay would move the weights all the same.

    Returns:
        the metrics of every step, docs/runs.md says what each is.

    Raises:
        InputError: an update made weights that are not finite, or three in a row had no finite loss or gradient. The
            samples and the last checkpoint stay.
    """
    options = with_learning_rate(options, policy)
    groups_file = RecordFile(directory / "groups.jsonl", SampleGroup, key=lambda g: f"{g.step}/{g.turn_id}")
    metrics_file = RecordFile(directory / "metrics.jsonl", StepMetrics, key=lambda row: str(row.step))
    start = restore(policy, directory / "checkpoints")
    _keep_newest(directory / "checkpoints")  # a process that was killed may have left an older one
    schedule, update_options = _schedule(turns, options), options.update_options()
    num_skipped, has_warned = 0, False
    progress(start, options.num_steps, "steps")
    if start < options.num_steps:
        warn_of_rate(options, policy)
    for step in range(start, options.num_steps):
        began = time.monotonic()
        batch = schedule(step)
        if options.method == "sft":
            training_groups = _demonstrations(policy, batch)
            metrics = {"groups/not_renderable": float(len(batch) - len(training_groups))}
            teaches = bool(training_groups)
        else:
            groups = _acquire(step, batch, policy, verifier, groups_file, options)
            has_warned = has_warned or SampleFaults.of(groups).warn(f"--train-max-tokens ({options.train_max_tokens})")
            training_groups, metrics = _with_advantages(batch, groups, options.advantage)
            teaches = any(any(group.advantages_G) for group in training_groups)
            if options.average_over == "signal":
                training_groups = [group for group in training_groups if any(group.advantages_G)]
            elif options.kl_coefficient > 0:
                teaches = bool(training_groups)
        sampled = time.monotonic()
        if teaches:
            metrics |= policy.update(training_groups, rate_at(step, options), update_options)
            num_skipped = num_skipped + 1 if metrics.get("update/skipped") else 0
        metrics |= {"time/sample_seconds": sampled - began, "time/update_seconds": time.monotonic() - sampled}
        metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
        if str(step) not in metrics_file:
            metrics_file.append([StepMetrics(step=step, metrics=metrics)])
        if num_skipped == _MAX_SKIPPED_IN_A_ROW:
            raise InputError(
                f"loss or gradient was not finite in {num_skipped} steps in a row, up to step {step + 1}; train again "
                f"with a lower {flag('learning_rate')} than {options.learning_rate:g}, or with a dtype of more range"
            )
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
    """Groups with a verdict, and what the step's samples looked like. Completions without a verdict are left out, and
    so are groups without any: what is not known is no 0."""
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
    means = [group.mean for group in groups if group.mean is not None]
    variances = [group.variance for group in groups if group.variance is not None]
    completions = [completion for group in groups for completion in group.completions_G]
    unshared, computed = prompt_tokens(groups)
    metrics = {
        "groups/sampled": float(len(groups)),
        "groups/with_verdict": float(len(training_groups)),
        "groups/with_signal": float(sum(any(group.advantages_G) for group in training_groups)),
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
    return training_groups, metrics


def _demonstrations(policy: Policy, batch: Sequence[Turn]) -> list[TrainingGroup]:
    """The turns whose demonstrated action the policy's chat template can write."""
    groups = []
    for turn in batch:
        try:
            groups.append(TrainingGroup(turn, [policy.encode_action(turn, turn.expected_action)], [1.0]))
        except NotRenderable:
            continue
    return groups


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
    """What is known of a step, in a few words."""
    words = ["steps"]
    if "groups/sampled" in metrics:
        reward, sampled = metrics.get("reward/mean"), metrics["groups/sampled"]
        words += ["no verdict" if reward is None else f"reward {reward:.2f}"]
        words += [f"{metrics['groups/with_signal']:.0f}/{sampled:.0f} groups with signal"]
        if cut_off := metrics["samples/cut_off"]:
            words += [f"{cut_off:.0f}/{metrics['samples/total']:.0f} samples cut off"]
    elif "loss/total" in metrics:
        words += [f"loss {metrics['loss/total']:.3f}"]
    if metrics.get("update/skipped"):
        words += ["update skipped"]
    return " · ".join(words)
