"""NVIDIA NeMo Gym: pivot rows (a state and the action expected there) and rollouts (a row, a response, its reward).

Items of the Responses API become messages. In a pivot row the expected action is appended as the last message, the
only candidate turn; in a rollout the candidates are the turns of the response.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from reprlib import repr as short
from typing import Any, Literal

from pivotrl.protocols import InputError
from pivotrl.reading.chat_messages import task_hash, text_of, tool_call
from pivotrl.reading.fields import as_object, each, identifier, member, optional
from pivotrl.reading.formats.response_items import Conversation, answered, request_conversation, response_tools
from pivotrl.reading.mirrored_calls import without_mirrored_calls
from pivotrl.reading.row_facts import outcome, task_name
from pivotrl.reading.sources import Entry, convert_entries
from pivotrl.reading.text_calls import with_calls
from pivotrl.records import Loss, Message, Refusal, Tool, Trajectory
from pivotrl.records.strict_json import parse_json

_EXPECTED = {"expected_action", "expected_answers", "expected_answer"}
_READ = {"responses_create_params"} | _EXPECTED
_PLAN = re.compile(r"\bkeystrokes\b|[\"'<]commands\b")
"""What a prompt or an answer says where the action is a plan for a terminal, written as text."""
_BULK = {
    *("response", "judge_evaluations", "model_output", "parsed_output", "model_patch"),
    *("instance_config", "config", "task", "result"),
}
"""What a rollout file adds: another policy's sample, its grading, and the set-up of the run."""
_PROFILE = re.compile(
    r"pass_(rate|threshold)|unique_actions|difficulty|qwen_235b|(mean|median|avg|std)_reward|reward_(mean|std|var)"
)


def recognises(head: Sequence[Any]) -> bool:
    """Rows with ``responses_create_params``; rollouts of tau2-bench, which hold the whole episode, are not meant."""
    rows = [row for row in head if isinstance(row, dict) and isinstance(row.get("responses_create_params"), dict)]
    return bool(rows) and not any(_holds_tau2_episode(row) for row in rows)


def read(path: Path, *, which: Literal["expected", "rollout"] = "expected") -> Iterator[Trajectory | Refusal]:
    """One trajectory a row.

    Rows of one source trajectory (``trajectory_id``, ``metadata.source_trajectory_uid``) are one task. Other keys are
    kept as ``metadata["foreign"]``; those that are a profile (``pass_rate``, ...) are named in
    ``metadata["foreign_profile"]``: they belong to the policy that was profiled and do not carry over to another.

    Args:
        which: ``expected`` reads the expected action, without a reward, and the response only of rows that expect
            nothing; ``rollout`` reads the response with its reward always.

    Raises:
        InputError: the file cannot be read, or ``which`` is neither.
    """
    if which not in ("expected", "rollout"):
        raise InputError(f"unknown which={which!r}; give 'expected' or 'rollout'")

    def convert(value: Any, entry: Entry) -> Trajectory:
        row = as_object(value)
        parameters = member(row, "responses_create_params", dict)
        context = request_conversation(parameters)
        tools, lost = response_tools(parameters.get("tools"))
        names = {tool.name for tool in tools}
        expected = None if which == "rollout" else _expected_message(row, context, names)
        made = _rollout(row, context, tools) if expected is None else _pivot(context, expected, tools)
        name = f"{path.stem}-{entry.number}"
        return Trajectory(
            id=name,
            task_id=_task(row, parameters) or (task_hash(context.messages, ("user",)) if context.messages else name),
            messages=made.messages,
            tools=made.tools,
            reward=None if expected is not None or row.get("mask_sample") else outcome(row),
            excluded=made.excluded,
            metadata=_metadata(row, expected),
            losses=(*made.losses, *lost),
        )

    return convert_entries(path, convert)


def _holds_tau2_episode(row: dict[str, Any]) -> bool:
    result = row.get("result")
    return isinstance(result, dict) and "termination_reason" in result


def _task(row: dict[str, Any], parameters: dict[str, Any]) -> str | None:
    """The source trajectory of a row or the benchmark's task: what must stay on one side of a split."""
    own, asked = optional(row, "metadata", dict) or {}, optional(parameters, "metadata", dict) or {}
    return (
        identifier(row, "pivotrl_task_id", "trajectory_id")
        or identifier(own, "source_trajectory_uid")
        or identifier(asked, "instance_id")
        or task_name(row)
    )


def _metadata(row: dict[str, Any], expected: Message | None) -> dict[str, Any]:
    used = _READ if expected is not None else _READ - {key for key in _EXPECTED if row.get(key)}
    foreign = {key: row[key] for key in row if key not in used | _BULK}
    profile = [key for key, value in foreign.items() if _is_profile(key, value)]
    return {"foreign": foreign, **({"foreign_profile": profile} if profile else {})}


def _is_profile(key: str, value: Any) -> bool:
    names = [key, *value] if isinstance(value, dict) else [key]
    return any(_PROFILE.search(name) for name in names)


# --- the two kinds of rows ----------------------------------------------------------------------------------------


def _pivot(context: Conversation, expected: Message, tools: tuple[Tool, ...]) -> Conversation:
    messages = (*context.messages, expected)
    last = len(context.messages)
    losses = list(context.losses)
    if context.messages and context.messages[-1].role == "assistant":
        losses.append(Loss(code="adjacent_turns", message=last))
    unseen = {last: "context_incomplete"} if context.is_incomplete else {}
    return Conversation(messages, tuple(losses), {**_given(context), **unseen}, (*tools, *context.tools))


def _rollout(row: dict[str, Any], context: Conversation, tools: tuple[Tool, ...]) -> Conversation:
    """The response as it was made; actions that the agent wrote as text stay text, or become the calls they are."""
    response = optional(row, "response", dict)
    if response is None:
        told = f"; its {', '.join(sorted(_EXPECTED & row.keys()))} is no action but what a grader compares with"
        raise ValueError(
            "there is no expected_action, expected_answers or expected_answer that is an action, and no response, "
            f"so it is neither a pivot row nor a rollout{told if _EXPECTED & row.keys() else ''}"
        )
    made = answered(context, response)
    tools = (*tools, *made.tools)
    changes: dict[str, Any] = {"excluded": {**made.excluded, **_given(context)}, "tools": tools}
    if not tools and (own := without_mirrored_calls(made.messages)) is not None:
        changes |= {"messages": own, "losses": (*made.losses, Loss(code="text_mode"))}
    elif (written := with_calls(made.messages, tools)) is not None:
        changes |= {"messages": written.messages, "tools": written.tools, "losses": (*made.losses, *written.losses)}
        changes["excluded"] = written.excluded | changes["excluded"]
    return replace(made, **changes)


def _given(context: Conversation) -> dict[int, str]:
    return {i: "context_only" for i, message in enumerate(context.messages) if message.role == "assistant"}


# --- the expected action ------------------------------------------------------------------------------------------


def _expected_message(row: dict[str, Any], asked: Conversation, tools: set[str]) -> Message | None:
    """The expected action: ``expected_action``, xlam's ``expected_answers``, ``expected_answer``, or in the metadata.

    An ``expected_answer`` is an action when it reads as a function call (swe_pivot), or as the plan that the prompt
    asks for, or in a row that names Terminus as its harness. Any other one is what a grader compares with: a reference
    answer or a rubric, not the agent's.
    """
    if action := optional(row, "expected_action", dict):
        return _action_message(action)
    calls = row.get("expected_answers")
    if isinstance(calls, list) and calls and all(isinstance(call, dict) for call in calls):
        return _calls_message("expected_answers", calls)
    answer = row.get("expected_answer")
    value = _object(answer)
    if value is not None and value.get("type") in ("function_call", "function_call_batch"):
        return _action_message(value)
    if value is not None and value.get("name") in tools and "arguments" in value:
        return _calls_message("expected_answer", [value])
    if isinstance(answer, str) and (_is_of_terminus(row) or (_is_plan(answer, value) and _asks_for_plan(asked))):
        return Message(role="assistant", content=answer)
    if action := optional(optional(row, "metadata", dict) or {}, "expected_action", dict):
        return _action_message(action)
    return None


def _object(text: Any) -> dict[str, Any] | None:
    """The object that a JSON text holds, None when it holds none."""
    with suppress(ValueError):
        value = parse_json(text) if isinstance(text, str) else text
        return value if isinstance(value, dict) else None
    return None


def _is_plan(answer: str, value: dict[str, Any] | None) -> bool:
    return _PLAN.search(answer) is not None and (value is not None or answer.lstrip().startswith("<"))


def _is_of_terminus(row: dict[str, Any]) -> bool:
    harness = (optional(row, "metadata", dict) or {}).get("harness")
    return isinstance(harness, str) and harness.startswith("terminus")


def _asks_for_plan(asked: Conversation) -> bool:
    said = (message.content or "" for message in asked.messages if message.role in ("system", "user"))
    return any(_PLAN.search(text) for text in said)


def _action_message(action: dict[str, Any]) -> Message:
    kind = action.get("type")
    if kind == "message":
        return Message(role="assistant", content=text_of(action.get("content")))
    if kind == "function_call":
        return _calls_message("expected_action", [action])
    if kind == "function_call_batch":
        return _calls_message("calls", member(action, "calls", list))
    raise ValueError(
        f"expected_action of unknown type {short(kind)}; there are message, function_call, function_call_batch"
    )


def _calls_message(name: str, calls: Sequence[Any]) -> Message:
    return Message(role="assistant", tool_calls=tuple(each(name, calls, tool_call)))
