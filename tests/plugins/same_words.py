"""A verifier: the answer has the words of an accepted answer, in any case and without punctuation."""

from __future__ import annotations

import re

from pivotrl import Action, Turn, Verdict


def verify(turn: Turn, action: Action, *, any_order: bool = False) -> Verdict:
    """
    Args:
        any_order: "blue sky" is as good as "sky blue".
    """
    if turn.expected_action.tool_calls:
        return Verdict.unknown("expects_a_call")
    if action.tool_calls:
        return Verdict.failed("is_a_call")

    def words(one: Action) -> list[str]:
        found = re.findall(r"\w+", (one.content or "").lower())
        return sorted(found) if any_order else found

    if any(words(action) == words(accepted) for accepted in turn.accepted_actions):
        return Verdict.passed("same_words")
    return Verdict.failed("other_words")
