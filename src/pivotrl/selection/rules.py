"""Which turns are pivots, and why not (paper eq. 5). Pure: thresholds change without sampling again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeGuard

from pivotrl.advantages import action_variance, have_spread
from pivotrl.options import AtLeast1, Share, check
from pivotrl.protocols import NoPivots
from pivotrl.records import SampleGroup, Selection
from pivotrl.seeding import derive_seed

Rule = Literal["mixed", "mean_only", "random", "all"]


@dataclass(frozen=True)
class SelectionOptions:
    """Which profiled turns become pivots."""

    rule: Rule = "mixed"
    """mixed: variance > 0 and mean < max_mean (the paper). mean_only: mean <= max_mean, all-fail turns kept (the
    published run). random: as many turns as `mixed` would keep, drawn at random. all: every scored turn."""
    max_mean: Share = 0.6
    """lambda: turns that the reference policy solves more often than this are too easy."""
    max_pivots: AtLeast1 | None = None
    """Keep at most this many, drawn at random."""
    selection_seed: int = 0
    """Seed of the pivots that are drawn."""

    def __post_init__(self) -> None:
        check(self)


def select(groups: Sequence[SampleGroup], options: SelectionOptions = SelectionOptions()) -> list[Selection]:
    """One row per profiled turn, with evidence and reason, in the order of ``groups``.

    Reasons: ``pivot``; ``always_pass``, ``always_fail``, ``cut_off``, ``malformed``, ``too_easy``, ``only_noise``,
    ``no_verdict`` for turns the rule drops; ``not_drawn`` for turns that only the draw dropped. ``cut_off`` and
    ``malformed`` are turns that always fail because most of their samples were cut off at the limit of tokens, or are
    no well-formed action.
    """
    reasons = {group.turn_id: _reason(group, options) for group in groups}
    chosen = [turn_id for turn_id, reason in reasons.items() if reason == "pivot"]
    limit = len(chosen) if options.max_pivots is None else min(options.max_pivots, len(chosen))
    if options.rule == "random":
        mixed = [group for group in groups if _mixed_reason(group, options.max_mean) == "pivot"]
        limit = len(mixed) if options.max_pivots is None else min(options.max_pivots, len(mixed))
    # A draw by hash: the same turns stay chosen when others are added or removed.
    kept = set(sorted(chosen, key=lambda turn_id: derive_seed(options.selection_seed, "select", turn_id))[:limit])
    return [
        Selection(
            turn_id=group.turn_id,
            selected=group.turn_id in kept,
            reason=reasons[group.turn_id]
            if reasons[group.turn_id] != "pivot" or group.turn_id in kept
            else "not_drawn",
            reward_mean=group.mean,
            reward_variance=signal_variance(group),
            num_scored=len(group.rewards),
        )
        for group in groups
    ]


def signal_variance(group: SampleGroup) -> float | None:
    """Variance of rewards at a turn (paper eq. 4). Where each is the mean of a few continuations, their noise is taken
    out: two actions of one value differ by it alone."""
    scored = [
        (completion.action, verdict)
        for completion, verdict in zip(group.completions_G, group.verdicts_G, strict=True)
        if verdict.reward is not None
    ]
    continued = [rewards for _, verdict in scored if _are_rewards(rewards := verdict.details.get("rewards"))]
    without_noise = action_variance(continued, [a for a, _ in scored]) if len(continued) == len(scored) else None
    return group.variance if without_noise is None else without_noise


def _are_rewards(value: object) -> TypeGuard[list[float]]:
    """A verifier may put anything into its details. NaN is in no interval."""
    return isinstance(value, list) and all(type(item) in (int, float) and 0 <= item <= 1 for item in value)


def _reason(group: SampleGroup, options: SelectionOptions) -> str:
    mean = group.mean
    if mean is None:
        return "no_verdict"
    if options.rule in ("random", "all"):
        return "pivot"
    if options.rule == "mean_only":
        return "pivot" if mean <= options.max_mean else "too_easy"
    return _mixed_reason(group, options.max_mean)


def _mixed_reason(group: SampleGroup, max_mean: float) -> str:
    rewards, mean = group.rewards, group.mean
    if mean is None:
        return "no_verdict"
    if not have_spread(rewards):
        return "always_pass" if rewards[0] > 0 else _why_it_fails(group)
    if signal_variance(group) == 0.0:
        return "only_noise"
    return "pivot" if mean < max_mean else "too_easy"


def _why_it_fails(group: SampleGroup) -> str:
    """For a turn that always fails: what happened to most samples before a verifier saw them."""
    total = len(group.completions_G)
    if 2 * group.num_cut_off > total:
        return "cut_off"
    return "malformed" if 2 * group.num_malformed > total else "always_fail"


_WORDS = {
    "always_fail": "always fail",
    "cut_off": "always fail (most samples were cut off at --max-tokens)",
    "malformed": "always fail (most samples are malformed)",
    "always_pass": "always succeed",
    "too_easy": "are too easy",
    "only_noise": "differ only by the noise of their continuations",
    "no_verdict": "got no verdict",
    "not_drawn": "were not drawn",
}
_REMEDIES = {
    "cut_off": "Profile again with a larger --max-tokens",
    "malformed": "Look at the samples with `pivotrl show`: the model does not write actions in the form that its chat "
    "template expects. Use another model, or warm it up by imitation (--method sft)",
    "no_verdict": "Look at the reasons with `pivotrl show` and fix what the verifier needs",
    "always_pass": "Profile harder turns, or use a stricter verifier",
    "too_easy": "Raise --max-mean, or profile harder turns",
}
_OTHERWISE = (
    "Check the verifier with `pivotrl check`, raise --max-mean, profile more turns, or start from a policy that "
    "sometimes succeeds (a warm start)"
)


def require_pivots(selections: Sequence[Selection]) -> None:
    """Explain an empty selection by its counts.

    Raises:
        NoPivots: nothing was selected.
    """
    if any(selection.selected for selection in selections):
        return
    counts = Counter(selection.reason for selection in selections).most_common()
    told = ", ".join(f"{count} {_WORDS.get(reason, reason)}" for reason, count in counts)
    remedy = _REMEDIES.get(counts[0][0], _OTHERWISE) if counts else _OTHERWISE
    raise NoPivots(f"0 of {len(selections)} turns are pivots: {told or 'there are no candidate turns'}. {remedy}")
