"""Trajectories of SWE-agent (``.traj``): function calling, or actions as text between backticks or in XML tags.

The reader uses ``history``, which holds the messages as the model saw and wrote them. ``trajectory``, the same steps
split into thought, action and observation, only shows what the history leaves out. SWE-agent's files do not describe
the tools, and do not say whether the patch solves the task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import chat_message, task_hash, text_of
from pivotrl.reading.fields import as_object, each, identifier, member, optional
from pivotrl.reading.row_facts import known_reward
from pivotrl.reading.sources import Entry, convert_entries
from pivotrl.records import Loss, Message, Refusal, Trajectory
from pivotrl.records.strict_json import parse_json

_MARKS = {"agent", "message_type", "thought"}
"""Keys that SWE-agent, and no other format, gives to a message."""
_KEPT = ("exit_status", "submission", "model_stats", "swe_agent_version", "best_attempt_idx")
_SHORTENING = {"last_n_observations", "closed_window", "remove_regex"}
"""History processors that hide parts of the history from the model."""


def recognises(head: Sequence[Any]) -> bool:
    """A document whose ``history`` holds messages with SWE-agent's marks, or ``attempts`` that do."""
    return any(_is_run(value) or any(map(_is_run, _list(value, "attempts"))) for value in head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per file, or one per attempt if the agent tries again.

    The file is named after the instance, which is the task's id unless the log gives another. A demonstration and what
    the harness wrote in the model's place are no candidates. Where a history processor hid old observations, the log
    shows more than the model saw; that is a loss of code ``history_elided``, and the turns stay candidates.

    Raises:
        InputError: the file cannot be read.
    """

    def convert(value: Any, entry: Entry) -> list[Trajectory]:
        row = as_object(value)
        instance, is_traj, _ = path.name.partition(".traj")
        name = instance.removesuffix(".json") if entry.number == 1 else f"{path.stem}-{entry.number}"
        task = instance if is_traj else None
        attempts = each("attempts", optional(row, "attempts", list) or (), as_object)
        if not attempts:
            return [_trajectory(row, name, task)]
        return [_trajectory(attempt, f"{name}-attempt-{i}", task) for i, attempt in enumerate(attempts)]

    return convert_entries(path, convert)


def _trajectory(row: dict[str, Any], name: str, task: str | None) -> Trajectory:
    history = each("history", member(row, "history", list), as_object)
    agent = next((entry.get("agent") for entry in history if not entry.get("is_demo")), None)
    others = Counter(str(e["agent"]) for e in history if e.get("agent", agent) != agent and not e.get("is_demo"))
    seen = [entry for entry in history if entry.get("agent", agent) == agent]  # the model is shown no other's
    steps = iter(each("trajectory", optional(row, "trajectory", list) or (), as_object))
    messages: list[Message] = []
    losses: list[Loss] = []
    excluded: dict[int, str] = {}
    shown: list[str] = []
    for index, entry in enumerate(seen):
        found: list[Loss] = []
        message = _message(index, entry, found)
        if message.role == "assistant":
            reason = _fault(entry)
            step = None if entry.get("is_demo") else _step_of(entry, steps)
            if step is not None and message.reasoning is None:
                message = message.model_copy(update={"reasoning": optional(step, "reasoning_content", str) or None})
            difference = _difference(step, shown)
            if difference == "more" and reason is None:
                reason = "context_incomplete"  # it answered a complaint that is not in the history
            elif difference == "other" and not any(loss.code == "history_elided" for loss in losses):
                found.append(Loss(code="history_elided", detail="the first turn that saw less"))
            if reason is not None:
                excluded[index] = reason
        losses += [loss.model_copy(update={"message": index}) for loss in found]
        messages.append(message)
        shown.append(message.content or "")
    if not any(message.role == "assistant" for message in messages):
        raise ValueError("there is no assistant message, so there is no turn to learn from")
    settings = _settings(row)
    losses += _losses_of_run(messages, settings, others, any(loss.code == "history_elided" for loss in losses))
    return Trajectory(
        id=name,
        task_id=identifier(_inner(settings, "problem_statement"), "id") or task or task_hash(messages),
        messages=tuple(messages),
        reward=known_reward(row),
        excluded=excluded,
        metadata={"foreign": _foreign(row, settings)},
        losses=tuple(losses),
    )


# --- one message --------------------------------------------------------------------------------------------------


def _message(index: int, entry: dict[str, Any], losses: list[Loss]) -> Message:
    try:
        message = chat_message(entry, losses)
        answered = optional(entry, "tool_call_ids", list) or []
        if len(answered) > 1:
            raise ValueError("answers several tool calls at once")
        thoughts = [_thought(block, losses) for block in optional(entry, "thinking_blocks", list) or ()]
        changes = {
            "tool_call_id": identifier({"id": answered[0]}, "id") if answered else message.tool_call_id,
            "reasoning": "\n".join(filter(None, thoughts)) or message.reasoning,
        }
    except ValueError as error:
        raise ValueError(f"history[{index}]: {error}") from error
    return message.model_copy(update=changes)


def _thought(block: Any, losses: list[Loss]) -> str | None:
    row = as_object(block)
    if row.get("type") == "redacted_thinking":
        losses.append(Loss(code="reasoning_encrypted"))
    return optional(row, "thinking", str)


def _fault(entry: dict[str, Any]) -> str | None:
    """Why the assistant's message must not become a candidate."""
    action, content = entry.get("action"), entry.get("content")
    if entry.get("is_demo"):
        return "copied_context"
    if action == "exit_format":
        return "unparsable_action"
    if isinstance(action, str) and action.startswith("exit_"):
        return "synthetic"
    is_notice = isinstance(content, str) and content.startswith(("Exit due to ", "Exiting due to "))
    return "synthetic" if is_notice and not action and not entry.get("tool_calls") else None


# --- what only the steps tell -------------------------------------------------------------------------------------


def _step_of(entry: dict[str, Any], steps: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
    """The step that wrote the message; those before it were failed tries, which the history leaves out."""
    return next((step for step in steps if step.get("response") == entry.get("content")), None)


def _difference(step: dict[str, Any] | None, shown: list[str]) -> str | None:
    """How the step's ``query`` differs from the history: it holds ``more`` messages, or ``other`` text."""
    query = [as_object(item) for item in _list(step, "query")]
    if not query:
        return None
    texts = [text_of(item.get("content"), losses=[]) or "" for item in query]
    if len(texts) > len(shown):
        return "more"
    return "other" if texts != shown else None


def _losses_of_run(
    messages: Sequence[Message], settings: dict[str, Any], others: Counter[str], is_elided: bool
) -> Iterator[Loss]:
    agent = _inner(settings, "agent")
    parser = identifier(_inner(_inner(agent, "tools"), "parse_function"), "type")
    if any(message.tool_calls for message in messages):
        yield Loss(code="tools_not_logged")
    else:
        yield Loss(code="text_mode", detail=parser or "")
    hiding = [p for p in (agent.get("history_processor"), *_list(agent, "history_processors")) if isinstance(p, dict)]
    names = [name for name in (str(p.get("type")) for p in hiding) if name in _SHORTENING]
    if names and not is_elided:
        yield Loss(code="history_elided", detail=f"by {', '.join(names)}")
    if others:
        told = ", ".join(f"{count} messages of {name}" for name, count in others.items())
        yield Loss(code="subagent", detail=f"{told} left out")


def _settings(row: dict[str, Any]) -> dict[str, Any]:
    """``replay_config``: an object, or its JSON text."""
    value = row.get("replay_config")
    if isinstance(value, str):
        with suppress(ValueError):  # only details are taken from it
            value = parse_json(value)
    return value if isinstance(value, dict) else {}


def _foreign(row: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    info = optional(row, "info", dict) or {}
    known = {key: info[key] for key in _KEPT if info.get(key) is not None}
    model = _inner(_inner(settings, "agent"), "model").get("name")
    return known | {key: value for key, value in (("environment", row.get("environment")), ("model", model)) if value}


def _inner(row: dict[str, Any], key: str) -> dict[str, Any]:
    value = row.get(key)
    return value if isinstance(value, dict) else {}


def _list(value: Any, key: str) -> list[Any]:
    inner = value.get(key) if isinstance(value, dict) else None
    return inner if isinstance(inner, list) else []


def _is_run(value: Any) -> bool:
    messages = [entry for entry in _list(value, "history") if isinstance(entry, dict)]
    return any(_MARKS & entry.keys() and "role" in entry for entry in messages)
