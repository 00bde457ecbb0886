"""Which turns are pivots, and why not (paper eq. 5). Pure: thresholds change without sampling again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pivotrl.advantages import have_spread
from pivotrl.protocols import NoPivots
from pivotrl.records import SampleGroup, Selection
from pivotrl.selection.actions import action_entropy
from pivotrl.selection.draws import Draw
from pivotrl.selection.evidence import TurnEvidence, evidence_of, group_tokens
from pivotrl.selection.limits import Facts, within_limits
from pivotrl.selection.options import SelectionOptions


def select(
    groups: Sequence[SampleGroup], options: SelectionOptions = SelectionOptions(), facts: Facts = Facts()
) -> list[Selection]:
    """One row per profiled turn, with evidence and reason, in the order of ``groups``.

    Reasons: ``pivot``; ``always_pass``, ``always_fail``, ``cut_off``, ``malformed``, ``too_easy``, ``only_noise``,
    ``unlikely_mixed``, ``practise``, ``leave``, ``no_verdict`` for turns the rule drops; ``not_drawn``, ``over_cap``,
    ``over_budget`` for turns that only a limit dropped. ``cut_off`` and ``malformed`` are turns that always fail
    because most of their samples were cut off at the limit of tokens, or are no well-formed action. A turn that labels
    drop has the reason ``dropped_by_label``, whatever its samples.

    Raises:
        InputError: a limit needs something that ``facts`` or the samples do not tell.
    """
    draws = [Draw.of(group) for group in groups]
    known = evidence_of(draws, options)
    reasons = decide(draws, known, options, facts)
    return [_row(draw, one, reason, options) for draw, one, reason in zip(draws, known, reasons, strict=True)]


def decide(
    draws: Sequence[Draw], known: Sequence[TurnEvidence | None], options: SelectionOptions, facts: Facts = Facts()
) -> list[str]:
    """The reason of each turn, as :func:`select`; that of a pivot is ``pivot``.

    Args:
        known: of :func:`pivotrl.selection.evidence.evidence_of`; may be None where no posterior is needed.
    """
    drawn = zip(draws, known, strict=True)
    reasons = [
        DROPPED if draw.group.turn_id in facts.dropped else _reason(draw, evidence, options) for draw, evidence in drawn
    ]
    accepted = [draw.group for draw, reason in zip(draws, reasons, strict=True) if reason == "pivot"]
    evidence = {draw.group.turn_id: one for draw, one in zip(draws, known, strict=True) if one is not None}
    limit = options.max_pivots
    if options.rule == "random":
        kept = (draw for draw in draws if draw.group.turn_id not in facts.dropped)
        num_mixed = sum(_mixed_reason(draw, options.max_mean) == "pivot" for draw in kept)
        limit = num_mixed if limit is None else min(limit, num_mixed)
    limited = within_limits(accepted, evidence, options, facts, limit)
    return [limited.get(draw.group.turn_id, reason) for draw, reason in zip(draws, reasons, strict=True)]


def _row(draw: Draw, known: TurnEvidence | None, reason: str, options: SelectionOptions) -> Selection:
    found: dict[str, Any] = {"route": "leave"}
    if known is not None:
        found = {
            "pass_rate": _rounded(known.pass_rate),
            "pass_rate_low": _rounded(known.low),
            "pass_rate_high": _rounded(known.high),
            "chance_mixed": _rounded(known.chance_mixed),
            "deviation": _rounded(known.deviation),
            "route": known.route,
        }
    return Selection(
        turn_id=draw.group.turn_id,
        selected=reason == "pivot",
        reason=reason,
        reward_mean=draw.mean,
        reward_variance=draw.variance,
        num_scored=len(draw.rewards),
        entropy=_rounded(action_entropy(draw.completions)),
        group_tokens=_rounded(group_tokens(draw.group, options.selection_group_size)),
        **found,
    )


def _rounded(value: float | None) -> float | None:
    """To six decimals, so that machines whose last digits differ write the same file."""
    return None if value is None else round(value, 6)


def _reason(draw: Draw, known: TurnEvidence | None, options: SelectionOptions) -> str:
    if draw.mean is None:
        return "no_verdict"
    if options.rule in ("random", "all"):
        return "pivot"
    if options.rule == "mean_only":
        return "pivot" if draw.mean <= options.max_mean else "too_easy"
    if options.rule == "mixed":
        return _mixed_reason(draw, options.max_mean)
    assert known is not None
    if options.rule == "imitate":
        return "pivot" if known.route == "imitate" else known.route
    return _likely_mixed_reason(draw, known, options)


def _likely_mixed_reason(draw: Draw, known: TurnEvidence, options: SelectionOptions) -> str:
    if known.chance_mixed < options.min_mixed:
        reason = _mixed_reason(draw, 1.0)
        return "unlikely_mixed" if reason == "pivot" else reason
    if have_spread(draw.rewards) and draw.variance == 0.0:
        return "only_noise"
    return "pivot" if known.pass_rate < options.max_mean else "too_easy"


def _mixed_reason(draw: Draw, max_mean: float) -> str:
    if draw.mean is None:
        return "no_verdict"
    if not have_spread(draw.rewards):
        return "always_pass" if draw.rewards[0] > 0 else _why_it_fails(draw.group)
    if draw.variance == 0.0:
        return "only_noise"
    return "pivot" if draw.mean < max_mean else "too_easy"


def _why_it_fails(group: SampleGroup) -> str:
    """For a turn that always fails: what happened to most samples before a verifier saw them."""
    total = len(group.completions_G)
    if 2 * group.num_cut_off > total:
        return "cut_off"
    return "malformed" if 2 * group.num_malformed > total else "always_fail"


DROPPED = "dropped_by_label"
WORDS = {
    DROPPED: "are dropped by a label",
    "always_fail": "always fail",
    "cut_off": "always fail (most samples were cut off at --max-tokens)",
    "malformed": "always fail (most samples are malformed)",
    "always_pass": "always succeed",
    "too_easy": "are too easy",
    "only_noise": "differ only by the noise of their continuations",
    "unlikely_mixed": "are unlikely to be mixed again",
    "practise": "are sometimes solved, so they are practised",
    "leave": "are solved, so they are left alone",
    "no_verdict": "got no verdict",
    "not_drawn": "are beyond the limit",
    "over_cap": "are beyond a limit per trajectory, tool or message",
    "over_budget": "do not fit the budget",
}
_REMEDIES = {
    "cut_off": "Profile again with a larger --max-tokens",
    "malformed": "Look at the samples with `pivotrl show`: the model does not write actions in the form that its chat "
    "template expects. Use another model, or warm it up by imitation (--method sft)",
    "no_verdict": "Look at the reasons with `pivotrl show` and fix what the verifier needs",
    "always_pass": "Profile harder turns, or use a stricter verifier",
    "too_easy": "Raise --max-mean, or profile harder turns",
    "unlikely_mixed": "Lower --min-mixed, or profile with more samples",
    "practise": "Train at them with PivotRL: `pivotrl select` with the rule likely_mixed selects them",
    "leave": "There is nothing to imitate",
    DROPPED: "Select without --labels, or take the turns out of the file",
    "over_cap": "Raise --max-per-trajectory, --max-per-tool or --max-messages",
    "over_budget": "Raise the budget, or lower --selection-group-size",
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
    told = ", ".join(f"{count} {WORDS.get(reason, reason)}" for reason, count in counts)
    remedy = _REMEDIES.get(counts[0][0], _OTHERWISE) if counts else _OTHERWISE
    raise NoPivots(f"0 of {len(selections)} turns are pivots: {told or 'there are no candidate turns'}. {remedy}")
