"""Codes in plain words: why a sample got its verdict, and why a turn is a pivot or not."""

from __future__ import annotations

from collections.abc import Iterable

from pivotrl.reading.audit import EXCLUSIONS

STATUSES = {
    **EXCLUSIONS,
    "pivot": "selected: a pivot",
    "always_pass": "every sample passed",
    "always_fail": "every sample failed",
    "cut_off": "every sample failed, most because they were cut off at the token limit",
    "malformed": "every sample failed, most because they are malformed",
    "too_easy": "too easy: most samples passed",
    "only_noise": "its rewards differ only by the noise of their continuations",
    "unlikely_mixed": "unlikely to have mixed outcomes again",
    "practise": "sometimes solved, so it is practised",
    "imitate": "never solved, so its demonstration is imitated",
    "leave": "solved, so it is left alone",
    "no_verdict": "no sample got a verdict",
    "not_drawn": "not drawn: beyond the limit on turns",
    "over_cap": "beyond a limit per trajectory, tool or message",
    "over_budget": "does not fit the budget",
    "dropped_by_label": "dropped by a label",
    "profiled": "profiled, and no selection made yet",
    "not_profiled": "not profiled",
    "held_out": "held out for evaluation",
    "episode": "played by the policy itself",
    "pinned_example": "an example in the prompt, not the agent's own turn",
    "no_context": "nothing comes before it",
    "not_a_shell_action": "not a shell action",
    "not_a_tool_call": "not a tool call",
    "not_a_search_action": "not a search action",
    "tool_call_failed": "its tool call failed",
    "context_too_long": "its prompt does not fit the model",
    "not_renderable": "the chat template cannot write it",
    "no_samples": "no samples were given for it",
}

REASONS = {
    "expected_tool_call": "a message where a tool call was expected",
    "unexpected_tool_call": "a tool call where a message was expected",
    "wrong_tool": "calls another tool",
    "unknown_tool": "calls a tool that does not exist",
    "missing_tool_call": "a call is missing",
    "surplus_tool_call": "one call too many",
    "missing_argument": "an argument is missing",
    "unexpected_argument": "an argument that does not belong there",
    "different_type": "an argument of another type",
    "different_length": "a list of another length",
    "different_value": "an argument has another value",
    "message_omits": "the message leaves something out",
    "message_makes_up": "the message says something that nothing supports",
    "message_asks_nothing": "the message does not ask what the demonstrated one asks",
    "message_says_nothing": "the message says nothing",
    "refusal": "the agent refuses",
    "different_code": "the code in the message differs",
    "message_undecided": "the words alone do not decide",
    "argument_undecided": "a rule cannot decide on an argument",
    "not_a_command": "no accepted action here is a command",
    "not_an_edit": "no accepted action here is an edit",
    "different_command": "another command",
    "different_path": "edits another file",
    "different_result": "the edited file differs",
    "different_edit": "another edit",
    "file_not_seen": "the edits differ, and the resulting file is not known",
    "only_comments_differ": "only comments differ",
    "only_blanks_differ": "only blanks differ",
    "expected_answer_unreadable": "the expected answer cannot be read",
    "unknown_unit": "the word after a number is no known unit",
    "unknown_notation": "a date is in a notation that is not known",
    "followed": "follows its instructions",
    "not_followed": "does not follow an instruction",
    "no_instructions": "the turn has no instructions",
    "no_task": "the turn names no task",
    "different_return": "the action returns something else",
    "different_state": "the action leaves another state",
    "different_end": "the action ends the episode differently",
    "different_reward": "the action earns another reward",
    "independent_of_state": "does not look at the state, as the demonstration does",
    "different_elsewhere": "has other effects in a slightly different state",
    "not_deterministic": "the same action has different effects each time",
    "replay_differs": "replaying the log gives another state",
    "time_limit": "took too long",
    "killed": "was killed for using too much memory",
    "sandbox_failed": "the sandbox failed",
    "reaches_threshold": "the continuations earn enough",
    "below_threshold": "the continuations earn too little",
    "judge_inconsistent": "the judge contradicts itself",
    "judge_doubts_demonstration": "the judge doubts the demonstration itself",
    "judge_unavailable": "the judge could not be reached",
    "judge_unparsable": "the judge's answer cannot be read",
    "undecided": "no verifier decided",
    "verifier_error": "the verifier raised an error",
    "verifier_timeout": "the verifier took too long",
    "verifier_crashed": "the verifier crashed",
    "match": "equal to an accepted action",
    "no_match": "differs from every accepted action",
    "truncated": "cut off at the token limit",
    "not_judged": "nobody judged this sample",
    "outcome_not_kept": "an older version of pivotrl did not keep the outcome of each sample",
}


_DETAILS = {"path": "at"}


def detail_words(reason: str, name: str) -> str:
    """The name of a verdict's detail in words."""
    if (reason, name) == ("wrong_tool", "tool"):
        return "expected"  # not the tool that was called
    return _DETAILS.get(name, name.replace("_", " "))


def reasons(codes: Iterable[str]) -> dict[str, str]:
    """Those reasons of verdicts for which there are words."""
    return {code: REASONS[code] for code in codes if code in REASONS}
