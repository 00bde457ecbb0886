"""Documents of the Agent Trajectory Interchange Format, with the reward of the Harbor trial that they lie in.

A step of the agent is one message; each result of its observation follows as a tool message, or as the user's where it
answers no call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.reading.chat_messages import arguments_text, declared_tools, task_hash, text_of
from pivotrl.reading.fields import as_object, each, identifier, member, optional
from pivotrl.reading.sources import Entry, convert_entries, file_refusal, load_document
from pivotrl.records import Loss, Message, Refusal, Role, ToolCall, Trajectory

_VERSION = re.compile(r"ATIF-v1\.[0-8]")
_ROLES: dict[str, Role] = {"system": "system", "user": "user", "agent": "assistant"}
_AGENTS_FAULT = {
    *("AgentTimeoutError", "AgentSafetyRefusalError"),
    *("ContextWindowExceededError", "OutputTokenExceededError", "ContextLengthExceededError"),
    *("OutputLengthExceededError", "ContentPolicyViolationError"),
}
"""Ends of a trial after which Harbor still counts its reward."""


def runs(
    path: Path, *, subagents: bool, shape: Callable[[Trajectory], Trajectory] = lambda run: run
) -> Iterator[Trajectory | Refusal]:
    """The trajectories of a file, or those of a trial's directory: the main one and its continuations.

    Args:
        subagents: also read embedded sub-agents, and take the turns of sub-agents as candidates.
        shape: converts each one, or raises ValueError.

    Raises:
        InputError: the file cannot be read; in a directory such a file is refused.
    """
    if path.is_dir():
        main = path / "agent" / "trajectory.json"
        others = main.parent.glob("trajectory.*.json" if subagents else "trajectory.cont-*.json")
        for file in (main, *sorted(others)):
            try:
                yield from runs(file, subagents=subagents, shape=shape)
            except InputError as error:
                yield file_refusal(file, error)
        return
    trial = _trial(path)

    def convert(value: Any, entry: Entry) -> list[Trajectory]:
        row = as_object(value)
        name = path.stem if entry.number == 1 else f"{path.stem}-{entry.number}"
        made = [_trajectory(row, name, trial, subagents)]
        if subagents:
            embedded = each("subagent_trajectories", optional(row, "subagent_trajectories", list) or (), as_object)
            made += [_trajectory(inner, f"{made[0].id}-sub", {}, True) for inner in embedded]
        return [shape(run) for run in made]

    yield from convert_entries(path, convert)


def _trajectory(row: dict[str, Any], name: str, trial: dict[str, Any], subagents: bool) -> Trajectory:
    version = member(row, "schema_version", str)
    if not _VERSION.fullmatch(version):
        raise ValueError(f"schema_version is {version}; there are ATIF-v1.0 to ATIF-v1.8")
    agent = member(row, "agent", dict)
    extra = optional(agent, "extra", dict) or {}
    is_subagent = identifier(extra, "parent_session_id") is not None
    reading = _Reading(extra.get("original_format"))
    for index, step in enumerate(member(row, "steps", list)):
        try:
            reading.add(as_object(step))
        except ValueError as error:
            raise ValueError(f"steps[{index}]: {error}") from error
    turns = [i for i, message in enumerate(reading.messages) if message.role == "assistant"]
    if not turns:
        raise ValueError("there is no agent step, so there is no turn to learn from")
    if is_subagent and not subagents:
        reading.excluded = dict.fromkeys(turns, "subagent_turn") | reading.excluded
    if reading.is_swe_agent:
        reading.losses.append(Loss(code="arguments_not_logged", detail="Harbor rewrote a .traj; read that instead"))
    embedded = optional(row, "subagent_trajectories", list) or []
    if embedded and not subagents:
        reading.losses.append(Loss(code="subagent", detail=f"{len(embedded)} embedded, left out"))
    return Trajectory(
        id=identifier(row, "trajectory_id", "session_id") or name,
        task_id=trial.get("task_name") or task_hash(reading.messages),
        messages=tuple(reading.messages),
        tools=declared_tools(agent.get("tool_definitions")),
        reward=None if is_subagent else trial.get("reward"),
        excluded=reading.excluded,
        metadata={"foreign": _foreign(row, agent, trial)},
        losses=tuple(_placed(loss, len(reading.messages)) for loss in reading.losses),
    )


def _placed(loss: Loss, num_messages: int) -> Loss:
    """What was lost after the last message concerns the whole."""
    return loss if (loss.message or 0) < num_messages else loss.model_copy(update={"message": None})


def _foreign(row: dict[str, Any], agent: dict[str, Any], trial: dict[str, Any]) -> dict[str, Any]:
    kept = {key: row.get(key) for key in ("schema_version", "session_id", "notes", "continued_trajectory_ref")}
    told = {key: agent.get(key) for key in ("name", "version", "model_name", "extra") if agent.get(key) is not None}
    known = {**kept, "agent": told, **{key: trial.get(key) for key in ("trial_name", "rewards", "exception")}}
    return {key: value for key, value in known.items() if value is not None}


# --- steps --------------------------------------------------------------------------------------------------------


class _Reading:
    """The messages of a trajectory so far."""

    def __init__(self, original_format: Any) -> None:
        self.messages: list[Message] = []
        self.losses: list[Loss] = []
        self.excluded: dict[int, str] = {}
        self.is_swe_agent = original_format == "swe-agent-traj"
        self._is_compacted = False

    def add(self, step: dict[str, Any]) -> None:
        source = member(step, "source", str)
        if source not in _ROLES:
            raise ValueError(f"source is {source[:40]!r}; there are {', '.join(_ROLES)}")
        management = (optional(step, "extra", dict) or {}).get("context_management")
        if isinstance(management, dict) and management.get("type") == "compaction":
            self._is_compacted = True
            self.losses.append(Loss(code="compaction", message=len(self.messages), detail="the context was replaced"))
            if source == "system":
                self._tell_subagents(self._results(step))
                return  # the harness notes what it did; the model does not see the note
        calls = each("tool_calls", optional(step, "tool_calls", list) or (), _call)
        if source == "agent":
            self._exclude(step, calls)
        text = self._text(step.get("message"))
        thought = optional(step, "reasoning_content", str)
        self.messages.append(
            Message(
                role=_ROLES[source],
                content=text or None if calls else text,
                # Some of Harbor's converters write the whole answer a second time as the thought.
                reasoning=None if thought == text else thought or None,
                tool_calls=tuple(calls),
            )
        )
        self._add_results(self._results(step), calls)

    def _exclude(self, step: dict[str, Any], calls: Sequence[ToolCall]) -> None:
        place = len(self.messages)
        count = step.get("llm_call_count")
        if self.is_swe_agent and any(call.name == "swe_agent_action" for call in calls):
            self.excluded[place] = "synthetic"
        if isinstance(count, int) and count > 1:
            self.losses.append(Loss(code="merged_turn", message=place, detail=f"{count} answers"))
            self.excluded[place] = "merged_turn"
        if self._is_compacted:
            self.excluded[place] = "after_compaction"
        if count == 0 and not isinstance(count, bool):
            self.excluded[place] = "synthetic"
        if step.get("is_copied_context") is True:
            self.excluded[place] = "copied_context"

    def _add_results(self, results: Sequence[dict[str, Any]], calls: Sequence[ToolCall]) -> None:
        """Results answer by id; those without one answer what is still open, in order; then they are the user's."""
        named = {identifier(result, "source_call_id") for result in results}
        waiting = [call.id for call in calls if call.id not in named]
        for result in results:
            call_id = identifier(result, "source_call_id") or (waiting.pop(0) if waiting else None)
            self._tell_subagents([result])
            content = self._text(result.get("content"))
            if content is not None or call_id is not None:
                self.messages.append(Message(role="tool" if call_id else "user", content=content, tool_call_id=call_id))

    def _results(self, step: dict[str, Any]) -> list[dict[str, Any]]:
        observation = optional(step, "observation", dict) or {}
        return each("results", optional(observation, "results", list) or (), as_object)

    def _tell_subagents(self, results: Sequence[dict[str, Any]]) -> None:
        for result in results:
            if references := optional(result, "subagent_trajectory_ref", list):
                detail = f"{len(references)} referred to"
                self.losses.append(Loss(code="subagent", message=len(self.messages), detail=detail))

    def _text(self, content: Any) -> str | None:
        found: list[Loss] = []
        text = text_of(content, losses=found)
        self.losses += [loss.model_copy(update={"message": len(self.messages)}) for loss in found]
        return text


def _call(item: Any) -> ToolCall:
    row = as_object(item)
    return ToolCall(
        name=member(row, "function_name", str),
        arguments=arguments_text(row.get("arguments")),
        id=identifier(row, "tool_call_id"),
    )


# --- the trial around a file --------------------------------------------------------------------------------------


def _trial(path: Path) -> dict[str, Any]:
    """``task_name``, ``trial_name``, ``reward``, ``rewards`` and ``exception`` of the trial; empty outside of one."""
    if path.parent.name != "agent":
        return {}
    place = path.resolve().parent.parent
    step = place.name if place.parent.name == "steps" else None
    try:
        row = as_object(load_document((place.parent.parent if step else place) / "result.json"))
        results = each("step_results", optional(row, "step_results", list) or (), as_object)
        part = next((r for r in results if r.get("step_name") == step), {}) if step else row
        rewards = (optional(part, "verifier_result", dict) or {}).get("rewards")
        exception = identifier(optional(part, "exception_info", dict) or {}, "exception_type")
        known = {"task_name": identifier(row, "task_name"), "trial_name": identifier(row, "trial_name")}
    except (InputError, ValueError):
        return {}
    reward = _single(rewards) if exception is None or exception in _AGENTS_FAULT else None
    return {**known, "reward": reward, "rewards": rewards, "exception": exception}


def _single(rewards: Any) -> float | None:
    """The reward called so, or the only one; of several others none is known to be the outcome."""
    if not isinstance(rewards, dict):
        return None
    value = rewards.get("reward", next(iter(rewards.values())) if len(rewards) == 1 else None)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
