"""Logs of inspect-ai: ``.eval`` (a zip of JSON files) and ``.json``. One trajectory per sample and epoch.

The sample's messages tell the course of the episode. The logged model calls tell what the model itself wrote (agents
rewrite its answers), which tools it had, and whether it was shown what the messages say.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.reading.chat_messages import ROLES, arguments_text, declared_tools
from pivotrl.reading.fields import as_object, each, identifier, member, optional
from pivotrl.reading.formats.inspect_files import log_document, log_header, packed_samples
from pivotrl.reading.formats.inspect_parts import content_parts, model_calls, reward_of
from pivotrl.reading.sources import refusal
from pivotrl.records import Loss, Message, Refusal, Tool, ToolCall, Trajectory

_CUT_SHORT = {"max_tokens", "model_length", "content_filter"}


def claims(path: Path) -> bool:
    """A zip file called ``.eval``, or a ``.json`` file that begins like a log."""
    try:
        if path.suffix not in (".eval", ".json") or not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError:
        return False
    if path.suffix == ".eval":
        return start.startswith(b"PK\x03\x04")
    return start.lstrip().startswith(b"{") and all(key in start for key in (b'"eval"', b'"run_id"', b'"task_id"'))


def recognises(head: Sequence[Any]) -> bool:
    """Always false: logs are claimed by their first bytes, because their numbers need not be strict JSON."""
    return False


def read(path: Path, *, scorer: str | None = None) -> Iterator[Trajectory | Refusal]:
    """The samples of a log.

    Args:
        scorer: the score that is the reward, or ``name.key`` for a member of a score that is an object; by default the
            first. The reward is unknown when the sample failed or was left unscored.

    Raises:
        InputError: the file cannot be read, or is not a log.
    """
    if path.suffix != ".eval":
        log = log_document(path)
        yield from _trajectories(path, log, ((f"sample {n}", s) for n, s in enumerate(log["samples"], start=1)), scorer)
        return
    try:
        with zipfile.ZipFile(path) as archive:
            yield from _trajectories(path, log_header(path, archive), packed_samples(path, archive), scorer)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a readable zip file: {error}; get it again") from error


def _trajectories(
    path: Path, log: dict[str, Any], samples: Iterable[tuple[str, Any]], scorer: str | None
) -> Iterator[Trajectory | Refusal]:
    evaluation = log.get("eval")
    if not isinstance(evaluation, dict):
        raise InputError(f"{path} is not a log of inspect-ai: it does not say what was evaluated; get it again")
    for place, sample in samples:
        try:
            value = sample() if callable(sample) else sample
            yield _Sample(as_object(value)).trajectory(evaluation, path.stem, scorer)
        except ValueError as error:
            yield refusal(f"{path}, {place}", error)


# --- one sample ---------------------------------------------------------------------------------------------------


class _Sample:
    """A sample with its attachments, and the model calls in it."""

    def __init__(self, sample: dict[str, Any]) -> None:
        self.sample = sample
        self.attachments = optional(sample, "attachments", dict) or {}
        self.events = each("events", optional(sample, "events", list) or (), as_object)
        self.pool = [_key(message) for message in each("pool", self._pooled(), self._message)]
        self.losses: list[Loss] = []

    def _pooled(self) -> list[Any]:
        """Messages that the events refer to by number; older logs keep them at the sample itself."""
        pools = optional(self.sample, "events_data", dict) or {}
        return optional(pools, "messages", list) or optional(self.sample, "message_pool", list) or []

    def trajectory(self, evaluation: dict[str, Any], name: str, scorer: str | None) -> Trajectory:
        sample = self.sample
        rows = each("messages", member(sample, "messages", list), as_object)
        calls = self._model_calls(rows)
        messages: list[Message] = []
        excluded: dict[int, str] = {}
        hidden = False
        for index, row in enumerate(rows):
            call = calls.get(index)
            if call is not None:
                row = _written(call)
            message = self._placed(row, index)
            hidden = hidden or any(loss.code == "unknown_item" and loss.message == index for loss in self.losses)
            if message.role == "assistant" and hidden:
                excluded[index] = "context_incomplete"
            elif message.role == "assistant" and (reason := self._reason(row, call, messages, bool(calls))):
                excluded[index] = reason
            messages.append(message)
        if not any(message.role == "assistant" for message in messages):
            raise ValueError("there is no assistant message, so there is no turn to learn from")
        task, number = identifier(evaluation, "task") or name, identifier(sample, "id") or "0"
        epoch = identifier(sample, "epoch") or "1"
        scores = optional(sample, "scores", dict) or {}
        return Trajectory(
            id=f"{task}-{number}-{epoch}",
            task_id=f"{task}/{number}",
            messages=tuple(messages),
            tools=self._tools(calls.values()),
            reward=reward_of(sample, scorer),
            excluded=excluded,
            metadata={
                "foreign": {
                    "sample_id": number,
                    "epoch": epoch,
                    "model": evaluation.get("model"),
                    "scores": {key: score.get("value") for key, score in scores.items() if isinstance(score, dict)},
                    "limit": (optional(sample, "limit", dict) or {}).get("type"),
                }
            },
            losses=tuple(self.losses),
        )

    def _model_calls(self, rows: Sequence[dict[str, Any]]) -> dict[int, dict[str, Any]]:
        """Index of a message -> the call of the model that made it; calls that made none of these are a loss.

        The message's id tells; older logs have none, and there the words tell, in their order.
        """
        spoken = {i: row for i, row in enumerate(rows) if row.get("role") == "assistant"}
        by_id = {row["id"]: i for i, row in spoken.items() if isinstance(row.get("id"), str)}
        found: dict[int, dict[str, Any]] = {}
        others = 0
        for event in self._agents_calls():
            made = _written(event)
            if isinstance(made.get("id"), str) and by_id:
                place = by_id.get(made["id"])
            else:
                said = _key(self._message({"role": "assistant", **made}))
                place = next(
                    (i for i, row in spoken.items() if i not in found and _key(self._message(row)) == said), None
                )
            if place is None:
                others += 1
            else:
                found[place] = event
        if others:
            self.losses.append(Loss(code="subagent", detail=f"{others} model calls made none of the messages"))
        return found

    def _agents_calls(self) -> Iterator[dict[str, Any]]:
        """The calls of the model that are no scorer's."""
        for event in self.events:
            if event.get("event") == "compaction":
                self.losses.append(Loss(code="compaction", detail=str(event.get("type"))))
        return (call for call, is_scorers in model_calls(self.events) if not is_scorers)

    def _reason(
        self, row: dict[str, Any], call: dict[str, Any] | None, before: Sequence[Message], is_logged: bool
    ) -> str | None:
        """Why a turn is not a candidate."""
        if call is None:
            return "context_only" if row.get("source") == "input" else "synthetic" if is_logged else None
        if any(isinstance(made, dict) and made.get("parse_error") for made in optional(row, "tool_calls", list) or ()):
            return "unparsable_action"
        if [_key(message) for message in before] != self._seen(call):
            return "context_differs"
        return "truncated" if str(call["output"]["choices"][0].get("stop_reason")) in _CUT_SHORT else None

    def _seen(self, call: dict[str, Any]) -> list[Any]:
        """What the model was shown, as keys."""
        references = optional(call, "input_refs", list)
        if references is None:
            return [_key(message) for message in each("input", optional(call, "input", list) or (), self._message)]
        try:
            return [key for start, end in references for key in self.pool[start:end]]
        except (TypeError, ValueError) as error:
            raise ValueError(f"input_refs: {error}") from error

    def _tools(self, calls: Iterable[dict[str, Any]]) -> tuple[Tool, ...]:
        """Every tool that the model had in one of the calls."""
        tools = [tool for call in calls for tool in declared_tools(self._resolved(call.get("tools")))]
        return tuple({tool.name: tool for tool in tools}.values())

    # --- messages -------------------------------------------------------------------------------------------------

    def _placed(self, row: dict[str, Any], index: int) -> Message:
        message, losses = self._converted(row)
        self.losses += [loss.model_copy(update={"message": index}) for loss in losses]
        return message

    def _message(self, row: Any) -> Message:
        return self._converted(as_object(row))[0]

    def _converted(self, row: dict[str, Any]) -> tuple[Message, list[Loss]]:
        role = ROLES.get(member(row, "role", str))
        if role is None:
            raise ValueError(f"unknown role {row['role']!r}; there are {', '.join(ROLES)}")
        content = self._resolved(row.get("content"))
        texts, thoughts, losses = content_parts(content) if isinstance(content, list) else ([content], [], [])
        if not all(text is None or isinstance(text, str) for text in texts):
            raise ValueError("the content is no text")
        error = optional(row, "error", dict) if role == "tool" else None
        if error and not any(texts):
            texts = [self._resolved(optional(error, "message", str))]
        calls = each("tool_calls", optional(row, "tool_calls", list) or (), as_object) if role == "assistant" else []
        made = Message(
            role=role,
            content="\n".join(text for text in texts if text) or None,
            reasoning="\n".join(thoughts) or None,
            tool_calls=tuple(
                ToolCall(
                    name=member(call, "function", str),
                    arguments=arguments_text(self._resolved(call.get("arguments"))),
                    id=optional(call, "id", str),
                )
                for call in calls
            ),
            tool_call_id=optional(row, "tool_call_id", str) if role == "tool" else None,
        )
        return made, losses

    def _resolved(self, value: Any) -> Any:
        """The value with long texts, which the log keeps apart, put back."""
        if isinstance(value, dict):
            return {key: self._resolved(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._resolved(item) for item in value]
        if isinstance(value, str) and value.startswith(("attachment://", "tc://")):
            return member(self.attachments, value.partition("://")[2], str)
        return value


def _written(call: dict[str, Any]) -> dict[str, Any]:
    """The message that a model call made."""
    output = optional(call, "output", dict) or {}
    choices: Sequence[Any] = optional(output, "choices", list) or ({},)
    return optional(as_object(choices[0]), "message", dict) or {}


def _key(message: Message) -> tuple[Any, ...]:
    """What tells whether two messages say the same; thoughts are shown to some models and not to others."""
    return message.role, message.content, tuple((call.name, call.arguments) for call in message.tool_calls)
