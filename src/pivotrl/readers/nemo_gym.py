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

from pivotrl.logs.chat_messages import task_hash, text_of, tool_call
from pivotrl.logs.fields import as_object, each, identifier, member, optional
from pivotrl.logs.response_items import Conversation, answered, request_conversation, response_tools
from pivotrl.logs.sources import Entry, convert_entries
from pivotrl.protocols import InputError
from pivotrl.records import Loss, Message, Refusal, Trajectory
from pivotrl.strict_json import parse_json

_READ = {"responses_create_params", "expected_action", "expected_answers", "expected_answer"}
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
        raise InputError(f"which={which!r} is not known; give 'expected' or 'rollout'")

    def convert(value: Any, entry: Entry) -> Trajectory:
        row = as_object(value)
        parameters = member(row, "responses_create_params", dict)
        context = request_conversation(parameters)
        expected = None if which == "rollout" else _expected_message(row)
        made = _rollout(row, context) if expected is None else _pivot(context, expected)
        tools, lost = response_tools(parameters.get("tools"))
        name = f"{path.stem}-{entry.number}"
        return Trajectory(
            id=name,
            task_id=_task(row, parameters) or (task_hash(context.messages, ("user",)) if context.messages else name),
            messages=made.messages,
            tools=(*tools, *made.tools),
            reward=None if expected is not None or row.get("mask_sample") else row.get("reward"),
            excluded=made.excluded,
            metadata=_metadata(row),
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
    )


def _metadata(row: dict[str, Any]) -> dict[str, Any]:
    foreign = {key: row[key] for key in row if key not in _READ | _BULK}
    profile = [key for key, value in foreign.items() if _is_profile(key, value)]
    return {"foreign": foreign, **({"foreign_profile": profile} if profile else {})}


def _is_profile(key: str, value: Any) -> bool:
    names = [key, *value] if isinstance(value, dict) else [key]
    return any(_PROFILE.search(name) for name in names)


# --- the two kinds of rows ----------------------------------------------------------------------------------------


def _pivot(context: Conversation, expected: Message) -> Conversation:
    messages = (*context.messages, expected)
    last = len(context.messages)
    losses = list(context.losses)
    if context.messages and context.messages[-1].role == "assistant":
        losses.append(Loss(code="adjacent_turns", message=last))
    unseen = {last: "context_incomplete"} if context.is_incomplete else {}
    return Conversation(messages, tuple(losses), {**_given(context), **unseen}, context.tools)


def _rollout(row: dict[str, Any], context: Conversation) -> Conversation:
    response = optional(row, "response", dict)
    if response is None:
        raise ValueError(
            "there is no expected_action, expected_answers or expected_answer, and no response, "
            "so it is neither a pivot row nor a rollout"
        )
    made = answered(context, response)
    return replace(made, excluded={**made.excluded, **_given(context)})


def _given(context: Conversation) -> dict[int, str]:
    return {i: "context_only" for i, message in enumerate(context.messages) if message.role == "assistant"}


# --- the expected action ------------------------------------------------------------------------------------------


def _expected_message(row: dict[str, Any]) -> Message | None:
    """The expected action: ``expected_action``, xlam's ``expected_answers``, ``expected_answer``, or in the metadata.

    An ``expected_answer`` is a function call when it reads as one (swe_pivot), else the text to write (terminus).
    """
    if action := optional(row, "expected_action", dict):
        return _action_message(action)
    if calls := optional(row, "expected_answers", list):
        return _calls_message("expected_answers", calls)
    if answer := optional(row, "expected_answer", str):
        with suppress(ValueError):  # an answer that is no JSON is a text
            value = as_object(parse_json(answer))
            if value.get("type") == "function_call":
                action = value
        return _action_message(action) if action else Message(role="assistant", content=answer)
    if action := optional(optional(row, "metadata", dict) or {}, "expected_action", dict):
        return _action_message(action)
    return None


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
