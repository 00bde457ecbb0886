"""What came out of a profile, in numbers and words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from pivotrl.advantages import have_spread
from pivotrl.records import SampleGroup, SkippedTurn
from pivotrl.rollouts import SampleFaults

_NUM_REASONS = 3
_NUMBER = re.compile(r"\d+")


def why_none_fits(left_out: Sequence[SkippedTurn], max_tokens: int) -> str:
    """Why no turn can be sampled, and remedies: each reason with its count and its first turn."""
    by_reason: dict[tuple[str, str], list[SkippedTurn]] = {}
    for skip in left_out:
        by_reason.setdefault((skip.reason, _NUMBER.sub("", skip.detail)), []).append(skip)
    often = sorted(by_reason.values(), key=len, reverse=True)
    told = [
        f"{len(skips)} {skips[0].reason}{skips[0].detail and f', {skips[0].detail}'} (such as {skips[0].turn_id})"
        for skips in often[:_NUM_REASONS]
    ]
    told += [f"{len(often) - _NUM_REASONS} more reasons"] if len(often) > _NUM_REASONS else []
    remedies = {
        "context_too_long": f"For long turns, use a model with a longer context, or --max-tokens below {max_tokens}",
        "not_renderable": "For turns that cannot be rendered, use a model whose chat template writes them, or "
        "--policy \"hf(style='chatml')\" if the tokenizer has ChatML's tokens",
    }
    helps = [remedy for reason, remedy in remedies.items() if any(skip.reason == reason for skip in left_out)]
    return ". ".join(["; ".join(told), *helps])


def outcome_counts(groups: Sequence[SampleGroup]) -> dict[str, int]:
    """Counts of groups by outcome (always_pass, always_fail, mixed, no_verdict) and of samples that were cut off,
    malformed or without a verdict."""
    counts = Counter({"always_pass": 0, "always_fail": 0, "mixed": 0, "no_verdict": 0})
    for group in groups:
        rewards = group.rewards
        if not rewards:
            counts["no_verdict"] += 1
        elif have_spread(rewards):
            counts["mixed"] += 1
        elif rewards[0] > 0:
            counts["always_pass"] += 1
        else:
            counts["always_fail"] += 1
    faults = SampleFaults.of(groups)
    return {
        **counts,
        "samples_cut_off": faults.cut_off,
        "samples_malformed": faults.malformed,
        "samples_without_verdict": faults.without_verdict,
    }
