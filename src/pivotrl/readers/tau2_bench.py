"""Results of tau2-bench: ``results.json``, alone or with a directory ``simulations``, and NeMo Gym's rollouts of it.

Tool use of the simulated user (telecom) is left out, because the agent does not see it. The log keeps the provider's
raw answer, which gives the arguments as the agent wrote them, and its thoughts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from reprlib import repr as short
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.reading.chat_messages import arguments_text
from pivotrl.reading.fields import as_object, each, identifier, member, optional
from pivotrl.reading.formats.tau2_surroundings import (
    Surroundings,
    is_results,
    simulation_of,
    surroundings_of_results,
    surroundings_of_rollout,
)
from pivotrl.reading.sources import entries, file_refusal, load_document, refusal
from pivotrl.records import Loss, Message, Refusal, Role, ToolCall, Trajectory
from pivotrl.records.strict_json import kind_of

_STOP = "###STOP###"
_NOT_THE_AGENTS_FAULT = {"infrastructure_error", "unexpected_error", "user_error", "context_window_exceeded"}
"""Ends of an episode that say nothing about the agent, whatever reward is logged."""


def claims(path: Path) -> bool:
    """A directory with ``results.json`` and ``simulations``."""
    return path.is_dir() and (path / "results.json").is_file() and (path / "simulations").is_dir()


def recognises(head: Sequence[Any]) -> bool:
    """Results, single simulations, or rollouts that hold one."""
    return any(is_results(value) or simulation_of(value) is not None for value in head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """The simulated episodes, each with its final reward.

    The system message is the policy, without the agent's own instructions around it, unless the log holds the request,
    or `pivotrl bench` had the agent play alone: then it is whole, with the ticket.
    The reward is unknown when infrastructure or the simulated user failed. The greeting that the benchmark puts first,
    and messages that the task began with, are no candidates.

    Raises:
        InputError: the file, or ``results.json`` of the directory, cannot be read.
    """
    directory = path if path.is_dir() else None
    if directory is None and path.name == "results.json" and (path.parent / "simulations").is_dir():
        directory = path.parent
    if directory is None:
        yield from _file(path, Surroundings())
        return
    results = load_document(directory / "results.json")
    try:
        if not is_results(results):
            raise ValueError("info or simulations are missing")
        around = surroundings_of_results(results)
    except ValueError as error:
        raise InputError(
            f"{directory / 'results.json'} is not a result of tau2-bench: {error}; get it again"
        ) from error
    for part in sorted((directory / "simulations").glob("*.json")):
        try:
            yield from _file(part, around)
        except InputError as error:
            yield file_refusal(part, error)


# --- files and simulations ----------------------------------------------------------------------------------------


def _file(path: Path, surroundings: Surroundings) -> Iterator[Trajectory | Refusal]:
    for entry in entries(path):
        try:
            value = entry.load()
        except ValueError as error:
            yield Refusal(place=entry.place, reason=str(error))
            continue
        if not is_results(value):
            yield _converted(value, entry.place, surroundings)
            continue
        try:
            around = surroundings_of_results(value)
        except ValueError as error:
            yield refusal(entry.place, error)
            continue
        for number, simulation in enumerate(value["simulations"], start=1):
            yield _converted(simulation, f"{entry.place}, simulation {number}", around)


def _converted(value: Any, place: str, surroundings: Surroundings) -> Trajectory | Refusal:
    try:
        simulation = simulation_of(value)
        if simulation is None:
            raise ValueError("there is no simulation with messages and a termination_reason")
        if simulation is not value:
            surroundings = surroundings_of_rollout(value)
        return _trajectory(simulation, surroundings)
    except ValueError as error:
        return refusal(place, error)


# --- one episode --------------------------------------------------------------------------------------------------


def _trajectory(simulation: dict[str, Any], around: Surroundings) -> Trajectory:
    items = simulation.get("messages")
    if not isinstance(items, list):
        spoken = " (a spoken run in ticks)" if simulation.get("ticks") else ""
        raise ValueError(f"there are no messages{spoken}")
    task, domain = identifier(simulation, "task_id") or "", around.domain
    reading = _Reading(greets=not around.is_solo)
    policy = optional(simulation, "policy", str) or around.policy
    whole = around.system or around.solo_system(task)
    if system := whole or policy:
        reading.messages.append(Message(role="system", content=system))
        reading.losses += [] if whole else [Loss(code="system_rebuilt")]
    reading.losses += [] if around.tools else [Loss(code="tools_not_logged")]
    num_given = around.num_given(task)
    for index, item in enumerate(each("messages", items, as_object)):
        try:
            reading.add(item, is_given=index < num_given)
        except ValueError as error:
            raise ValueError(f"messages[{index}]: {error}") from error
    if not any(message.role == "assistant" for message in reading.messages):
        raise ValueError("there is no assistant message, so there is no turn to learn from")
    if not whole and not any(message.role == "user" for message in reading.messages):  # solo: the ticket is missing
        turns = [i for i, message in enumerate(reading.messages) if message.role == "assistant"]
        reading.excluded |= dict.fromkeys(turns, "context_incomplete")
    end = optional(simulation, "termination_reason", str)
    last = len(reading.messages) - 1
    if end == "agent_error" and reading.messages[last].role == "assistant":
        reading.excluded.setdefault(last, "error_turn")
    run = identifier(simulation, "trial") or identifier(simulation, "id") or "0"
    grading = optional(simulation, "reward_info", dict) or {}
    return Trajectory(
        id="-".join(part for part in ("tau2", domain, task, run) if part),
        task_id=f"{domain}/{task}" if domain else task,
        messages=tuple(reading.messages),
        tools=around.tools,
        reward=None if end in _NOT_THE_AGENTS_FAULT else grading.get("reward"),
        excluded=reading.excluded,
        metadata={
            "foreign": {
                **{key: simulation.get(key) for key in ("id", "trial", "seed", "termination_reason")},
                "domain": domain,
                "agent": around.agent,
                "reward_breakdown": grading.get("reward_breakdown"),
                "num_user_calls": reading.num_user_calls,
            }
        },
        losses=tuple(reading.losses),
    )


class _Reading:
    """The agent's view of an episode so far."""

    def __init__(self, greets: bool) -> None:
        self.greets = greets
        self.messages: list[Message] = []
        self.losses: list[Loss] = []
        self.excluded: dict[int, str] = {}
        self.num_user_calls = 0

    def add(self, item: dict[str, Any], is_given: bool) -> None:
        role = member(item, "role", str)
        if isinstance(item.get("tool_messages"), list):
            for result in each("tool_messages", item["tool_messages"], as_object):
                self.add(result, is_given)
        elif role == "assistant":
            self._act(item, is_given)
        elif role == "user" and item.get("tool_calls"):
            self.num_user_calls += len(member(item, "tool_calls", list))
        elif role in ("system", "user", "tool"):
            if role == "tool" and item.get("requestor") == "user":
                return
            kept: Role = "system" if role == "system" else "user" if role == "user" else "tool"
            called = identifier(item, "id") if role == "tool" else None
            self.messages.append(Message(role=kept, content=self._text(item), tool_call_id=called))
        else:
            raise ValueError(f"unknown role {short(role)}; there are system, user, assistant, tool")

    def _act(self, item: dict[str, Any], is_given: bool) -> None:
        raw, ending = _raw_answer(item)
        calls = each("tool_calls", optional(item, "tool_calls", list) or (), as_object)
        written = _written_arguments(raw)
        content = self._text(item) or None
        if content == _STOP and not calls and (last := _last_call(raw)):
            content, calls = optional(raw, "content", str), [last]
        reason = self._reason(item, calls, is_given, ending)
        if reason is not None:
            self.excluded[len(self.messages)] = reason
        thought = raw.get("reasoning_content") or raw.get("reasoning")
        self.messages.append(
            Message(
                role="assistant",
                content=content,
                reasoning=thought if isinstance(thought, str) else None,
                tool_calls=tuple(_call(call, written) for call in calls),
            )
        )

    def _reason(self, item: dict[str, Any], calls: list[dict[str, Any]], is_given: bool, ending: Any) -> str | None:
        """Why a turn must not become a candidate."""
        if is_given:
            return "copied_context"
        if any(call.get("requestor") == "user" for call in calls):
            return "user_requested_call"
        if item.get("context_truncation"):
            return "context_differs"
        if self.greets and not calls and all(message.role == "system" for message in self.messages):
            return "synthetic"  # the benchmark greets in the agent's name
        return "truncated" if ending == "length" else None

    def _text(self, item: dict[str, Any]) -> str | None:
        content = item.get("content")
        if item.get("is_audio") and content:
            self.losses.append(Loss(code="audio", message=len(self.messages)))
            return None
        if content is not None and not isinstance(content, str):
            raise ValueError(f"content is {kind_of(content)}, not text")
        return content


def _raw_answer(item: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """(the message as the provider returned it, why it ended): of a whole completion, or of its choice."""
    raw = item.get("raw_data")
    choices = raw.get("choices") if isinstance(raw, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else raw
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        return {}, None
    return choice["message"], choice.get("finish_reason")


def _last_call(raw: dict[str, Any]) -> dict[str, Any] | None:
    """The call that ended an episode of an agent that played alone: the benchmark writes a word in its place."""
    for call in optional(raw, "tool_calls", list) or ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and function.get("name") == "done":
            return {"name": "done", "arguments": {}, "id": call.get("id")}
    return None


def _written_arguments(raw: dict[str, Any]) -> dict[str, str]:
    """Call id -> arguments as the agent wrote them."""
    found = {}
    for call in optional(raw, "tool_calls", list) or ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            found[str(call.get("id"))] = function["arguments"]
    return found


def _call(call: dict[str, Any], written: dict[str, str]) -> ToolCall:
    name, id_ = member(call, "name", str), optional(call, "id", str)
    return ToolCall(
        name=name, arguments=written.get(id_ or "") or arguments_text(call.get("arguments")), id=id_ or None
    )
