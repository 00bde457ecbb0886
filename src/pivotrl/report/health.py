"""What went wrong in a training, in plain words: collapse, a stale profile, a sample too small.

The limits are wide on purpose: a warning that is often wrong is not read. Each says what was seen and what to do.

Warnings come before the guard rails of `pivotrl.training_options.guard_rails`, with stricter limits. A rail ends a
training, so it also asks whether the reward rose; a warning ends nothing, so it does not.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from pivotrl.options import flag
from pivotrl.records import Manifest, Selection, StepMetrics
from pivotrl.report.steps import quarters

_LITTLE_ENTROPY, _SMALL_SHARE, _TINY_SHARE = 0.1, 0.25, 0.05
"""Nats per token; shares of the entropy at the start. The last is the limit of the guard rail."""
_RISE = 0.1
"""Of a share of the samples."""
_FEW_PIVOTS = 50
_FEW_SAMPLES = 4
_DEAD = 0.8
_MUCH_KL = 1.0
_FIRST_STEPS = 2
"""Steps whose samples are almost those of the policy before training."""
_STALE = 0.25
"""Difference of mean reward between profile and first steps from which the profile is called stale."""


def training_alarms(metrics: Sequence[StepMetrics]) -> list[str]:
    """Signs of collapse: the last quarter of the steps against the first. Fewer than 8 steps show nothing.

    Args:
        metrics: with shares, see :func:`pivotrl.report.steps.with_shares`.
    """

    def means(name: str) -> tuple[float, float] | None:
        first, last = quarters(metrics, name)
        return (statistics.fmean(first), statistics.fmean(last)) if first else None

    told = []
    if (pair := means("policy/entropy")) and _is_collapsed(*pair):
        told.append(
            f"Entropy collapsed from {pair[0]:.2f} to {pair[1]:.2f} nats per token: the policy hardly explores now, "
            f"and the samples of a turn become equal. Train fewer steps, lower {flag('learning_rate')} or set "
            f"{flag('kl_coefficient')}."
        )
    if (pair := means("groups/dead")) and pair[1] > _DEAD and pair[1] > pair[0]:
        told.append(
            f"At the end {pair[1]:.0%} of the groups were dead ({pair[0]:.0%} at the start): all their samples got the "
            "same reward, so later steps taught almost nothing. Stop earlier, or profile again with the trained policy."
        )
    if (pair := means("samples/malformed_share")) and pair[1] > pair[0] + _RISE:
        told.append(
            f"Malformed actions grew from {pair[0]:.0%} to {pair[1]:.0%} of the samples: the policy is losing the form "
            f"of an action. Lower {flag('learning_rate')} or set {flag('kl_coefficient')}."
        )
    if (pair := means("samples/message_share")) and pair[1] > pair[0] + _RISE:
        told.append(
            f"Where the demonstrations call tools, plain messages grew from {pair[0]:.0%} to {pair[1]:.0%} of the "
            f"samples: the policy is ceasing to act. Lower {flag('learning_rate')} or set {flag('kl_coefficient')}."
        )
    if (pair := means("samples/mean_tokens")) and pair[0] > 0 and not 0.5 <= pair[1] / pair[0] <= 2:
        told.append(
            f"Actions went from {pair[0]:.0f} to {pair[1]:.0f} tokens. Read some of the last samples: the verifier may "
            "be rewarding length, or brevity, and not the right action."
        )
    if (pair := means("loss/kl")) and pair[1] > _MUCH_KL:
        told.append(
            f"The policy moved {pair[1]:.1f} nats per token from the reference policy, which is far: look for "
            f"forgetting outside the task, lower {flag('learning_rate')} or set {flag('kl_coefficient')}."
        )
    first, last = quarters(metrics, "reward/mean")
    if first and _surely_fell(first, last):
        told.append(
            f"Reward at the pivots fell from {statistics.fmean(first):.2f} to {statistics.fmean(last):.2f} during "
            f"training: it did harm where it trained. Lower {flag('learning_rate')}."
        )
    return told


def _is_collapsed(entropy_before: float, entropy_now: float) -> bool:
    small = min(_SMALL_SHARE * entropy_before, _LITTLE_ENTROPY)
    return entropy_now < max(small, _TINY_SHARE * entropy_before)


def _surely_fell(first: Sequence[float], last: Sequence[float]) -> bool:
    fall = statistics.fmean(first) - statistics.fmean(last)
    error = math.sqrt(statistics.variance(first) / len(first) + statistics.variance(last) / len(last))
    return fall > 0.05 and fall > 2 * error


def profile_alarms(
    manifests: Mapping[str, Manifest], metrics: Sequence[StepMetrics], selections: Sequence[Selection]
) -> list[str]:
    """Whether the profile describes the policy that was trained, and whether it is large enough."""
    told = []
    train, pivots = manifests.get("train"), [row for row in selections if row.selected]
    means = [row.reward_mean for row in pivots if row.reward_mean is not None]
    first = [row.metrics["reward/mean"] for row in metrics[:_FIRST_STEPS] if "reward/mean" in row.metrics]
    if train is not None and train.counts.get("profile_differs_in"):
        facts = "; ".join(map(str, train.counts["profile_differs_in"]))
        told.append(
            f"The profile does not belong to this training, and you accepted that. It differs in: {facts}. Its pivots "
            "may be too easy or impossible here; profile again with this policy and these options."
        )
    elif means and first and abs(statistics.fmean(first) - statistics.fmean(means)) > _STALE:
        told.append(
            f"The profile is stale: its samples at the pivots had mean reward {statistics.fmean(means):.2f}, those "
            f"of the first training steps {statistics.fmean(first):.2f}. Profile and training differ in policy, "
            "temperature or limit of tokens."
        )
    if train is not None and 0 < len(pivots) < _FEW_PIVOTS:
        told.append(
            f"The sample is small: only {len(pivots)} pivots. Training sees each of them many times and may learn "
            "them by heart; profile more turns."
        )
    num_samples = manifests["profile"].options.get("num_samples") if "profile" in manifests else None
    if pivots and isinstance(num_samples, int) and num_samples < _FEW_SAMPLES:
        told.append(
            f"The profile has only {num_samples} samples a turn: whether a turn is mixed is mostly luck. Give "
            f"{flag('num_samples')} 8 or more."
        )
    return told
