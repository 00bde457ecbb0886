"""What labels change of a profile: samples whose action a label accepts count as passes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pivotrl.records import Completion, Label, SampleGroup, Verdict
from pivotrl.selection.actions import meaning_of

ACCEPTED = "accepted_by_label"


def with_labels(groups: Sequence[SampleGroup], labels: Iterable[Label]) -> list[SampleGroup]:
    """The groups, with a pass for each sample that had none and whose action equals one that a label accepts
    (:func:`pivotrl.selection.actions.meaning_of`). A malformed sample stays a failure, as it does in training."""
    accepted = {label.turn_id: {meaning_of(action) for action in label.accept} for label in labels if label.accept}

    def judged(group: SampleGroup, completion: Completion, verdict: Verdict) -> Verdict:
        is_action = completion.parse_error is None and completion.fault is None
        if verdict.outcome != "pass" and is_action and meaning_of(completion.action) in accepted[group.turn_id]:
            return Verdict.passed(ACCEPTED)
        return verdict

    return [
        group
        if group.turn_id not in accepted
        else group.model_copy(
            update={
                "verdicts_G": tuple(
                    judged(group, completion, verdict)
                    for completion, verdict in zip(group.completions_G, group.verdicts_G, strict=True)
                )
            }
        )
        for group in groups
    ]
