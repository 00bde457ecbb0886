"""What a log lacks: one audit for every format.

A reader reports what only its format can know; the audit reports what is visible in any trajectory. All codes of
losses and exclusions are listed here, with their meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pivotrl.records import Loss, Message, ToolCall, Trajectory
from pivotrl.records.strict_json import kind_of, parse_json

LOSSES = {
    "system_missing": "there is no system message; --system supplies one",
    "system_supplied": "the system message was supplied at import and is not in the log",
    "tools_missing": "tools are called but not declared; --tools supplies them",
    "tools_supplied": "the tools were supplied at import and are not in the log",
    "tools_inferred": "the tools were inferred from the calls in the log: names and types only",
    "result_without_call": "a tool result answers no call",
    "call_without_result": "a call has no result",
    "several_calls": "a turn holds more than one tool call",
    "reward_unknown": "the log does not say whether the episode succeeded",
    "reasoning_encrypted": "the agent's thoughts are encrypted",
    "reasoning_stripped": "the agent's thoughts were removed",
    "compaction": "the agent's context was summarised; what came before cannot be rebuilt",
    "subagent": "the work of a sub-agent is left out",
    "branch": "the log is a tree; one branch was followed",
    "image": "an image is left out",
    "audio": "a recording is left out",
    "document": "a file is left out",
    "result_truncated": "a tool result was cut when it was logged",
    "text_mode": "actions are text, not tool calls",
    "tools_not_logged": "the format never logs tool schemas",
    "arguments_not_logged": "the arguments of a call are not in the log",
    "context_not_logged": "the agent saw text that the log lacks, or words differently",
    "history_elided": "the agent saw less than the log holds",
    "rejected_answer": "an answer that the harness refused is not in the log",
    "action_rebuilt": "the words of an action are the agent's, but its layout is not",
    "merged_turn": "several calls of the model are logged as one turn",
    "system_rebuilt": "the system message is the benchmark's policy; the text around it is not logged",
    "input_not_logged": "the log holds the model's answer but not what it was asked",
    "adjacent_turns": "an assistant message comes right before the expected action",
    "unknown_item": "an entry of unknown type was left out",
}
"""Code of a loss -> what it means."""

EXCLUSIONS = {
    "empty_action": "the agent wrote and called nothing",
    "bad_arguments": "the arguments of a call are not a JSON object",
    "unknown_tool": "the tool called is not among the declared ones",
    "context_incomplete": "something the agent saw before is left out, such as an image",
    "duplicate_turn": "already a candidate in the shorter trajectory that this one continues",
    "context_only": "part of the given context, such as all but the last turn of a pivot row",
    "copied_context": "copied from another run or a demonstration",
    "user_requested_call": "a call that the user made, not the agent",
    "error_turn": "the harness refused the agent's output",
    "unparsable_action": "the harness could not parse the agent's output",
    "synthetic": "not written by the model",
    "merged_turn": "several calls of the model, logged as one turn",
    "context_differs": "the model saw something other than the logged messages",
    "truncated": "cut at the token limit",
    "after_compaction": "the context was summarised before, so the log does not show it",
    "subagent_turn": "a sub-agent's turn",
}
"""Code of an excluded turn -> why it is not a candidate."""

DROPS = {
    "low_reward": "reward below --min-reward",
    "exact_copy": "exact copy of another trajectory",
    "prefix_copy": "beginning of another trajectory",
}
"""Reason to leave a whole trajectory out -> what it means."""

_HIDES_CONTEXT = {"image", "audio", "document"}


def audit(trajectory: Trajectory) -> Trajectory:
    """The trajectory with its losses listed, and without the turns that cannot be judged."""
    losses = [*trajectory.losses, *_losses(trajectory)]
    excluded = _exclusions(trajectory) | trajectory.excluded  # the reader takes precedence
    return trajectory.model_copy(update={"losses": tuple(losses), "excluded": dict(sorted(excluded.items()))})


def _losses(trajectory: Trajectory) -> Iterator[Loss]:
    messages = trajectory.messages
    if not any(message.role == "system" for message in messages):
        yield Loss(code="system_missing")
    if not trajectory.tools and any(message.tool_calls for message in messages):
        yield Loss(code="tools_missing")
    if trajectory.reward is None:
        yield Loss(code="reward_unknown")
    for index, message in enumerate(messages):
        if len(message.tool_calls) > 1:
            yield Loss(code="several_calls", message=index, detail=str(len(message.tool_calls)))
    yield from _unpaired(messages)


def _exclusions(trajectory: Trajectory) -> dict[int, str]:
    found: dict[int, str] = {}
    names = frozenset(tool.name for tool in trajectory.tools)
    unseen = [loss.message for loss in trajectory.losses if loss.code in _HIDES_CONTEXT and loss.message is not None]
    hidden = min(unseen, default=None)
    for index, message in enumerate(trajectory.messages):
        if message.role == "assistant":
            reason = _fault(message, names)
            if reason is None and hidden is not None and index >= hidden:
                reason = "context_incomplete"
            if reason is not None:
                found[index] = reason
    return found


def _fault(message: Message, tools: frozenset[str]) -> str | None:
    if not message.tool_calls:
        return None if (message.content or "").strip() else "empty_action"
    if not all(_is_object(call.arguments) for call in message.tool_calls):
        return "bad_arguments"
    if tools and not all(call.name in tools for call in message.tool_calls):
        return "unknown_tool"
    return None


def _is_object(arguments: str) -> bool:
    try:
        return kind_of(parse_json(arguments)) == "object"
    except ValueError:
        return False


def _unpaired(messages: Sequence[Message]) -> Iterator[Loss]:
    """Tool results without a call and calls without a result; ids decide, order where a log has none.

    Calls in the very last message lack nothing: the log ends with them.
    """
    waiting: list[tuple[int, ToolCall]] = []
    for index, message in enumerate(messages):
        if message.role == "assistant":
            yield from _unanswered(waiting)
            waiting = [(index, call) for call in message.tool_calls]
        elif message.role == "tool":
            same = [item for item in waiting if item[1].id == message.tool_call_id]
            nameless = [item for item in waiting if None in (item[1].id, message.tool_call_id)]
            if same or nameless:
                waiting.remove((same or nameless)[0])
            else:
                yield Loss(code="result_without_call", message=index)
    if messages and messages[-1].role != "assistant":
        yield from _unanswered(waiting)


def _unanswered(waiting: Iterable[tuple[int, ToolCall]]) -> Iterator[Loss]:
    return (Loss(code="call_without_result", message=index, detail=call.name) for index, call in waiting)
