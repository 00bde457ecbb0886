"""The numbers of a training step's samples, as docs/runs.md explains them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from pivotrl.protocols import Turn
from pivotrl.records import SampleGroup
from pivotrl.rollouts import continuation_turns, prompt_tokens


def sample_metrics(groups: Sequence[SampleGroup]) -> dict[str, float]:
    """How many samples there are and of what kind, their lengths, prompts and rewards."""
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
    lags = [group.step - group.version for group in groups if group.step is not None and group.version is not None]
    if lags:
        metrics["samples/max_lag"] = float(max(lags))
    for name, values in (
        ("samples/mean_lag", lags),
        ("reward/mean", means),
        ("reward/group_variance", variances),
        ("samples/mean_tokens", [len(completion.token_ids_T) for completion in completions]),
    ):
        if values:
            metrics[name] = statistics.fmean(values)
    return metrics


def calls_left_out(batch: Sequence[Turn], groups: Sequence[SampleGroup]) -> dict[str, float]:
    """Samples where the demonstration calls a tool, and those among them that are plain messages."""
    completions = [
        completion
        for turn, group in zip(batch, groups, strict=True)
        if turn.index < len(turn.trajectory.messages) and turn.expected_action.tool_calls
        for completion in group.completions_G
        if completion.fault is None
    ]
    messages = [c for c in completions if c.parse_error is None and not c.action.tool_calls]
    counts = {"samples/calls_demonstrated": float(len(completions)), "samples/messages": float(len(messages))}
    return counts if completions else {}


def in_short(metrics: Mapping[str, float]) -> str:
    """A short summary of a step."""
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
