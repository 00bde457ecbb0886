"""Rollout files of the Codex CLI: a session as JSON lines of ``{timestamp, type, payload}``.

Only ``response_item`` lines hold what the model saw and wrote; ``event_msg`` lines repeat it for the screen. After a
compaction, a new trajectory begins with the new context. The system message is logged by newer versions
(``base_instructions``), the tools only where they are part of the input (``additional_tools``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import task_hash
from pivotrl.reading.fields import identifier, member, optional
from pivotrl.reading.formats.codex_items import flat_tools, is_summarised, is_turn, plain_item, says
from pivotrl.reading.formats.response_items import conversation, response_tools
from pivotrl.reading.formats.session_logs import Entry, read_session, stretches, whole_lines
from pivotrl.records import Loss, Message, Refusal, Trajectory

_SILENT = {"session_meta", "event_msg", "turn_context", "world_state", "token_usage_record"}
"""Lines that show the model nothing."""
_OUTPUTS = {"function_call_output", "custom_tool_call_output", "local_shell_call_output", "tool_search_output"}
_UNSEEN = {"ghost_snapshot", "configuration_update", "compaction_trigger", "other"}
"""Items that the model is not shown."""
_REFUSED = ("unsupported call: ", "unsupported custom tool call: ", "failed to parse function arguments: ")
"""How the harness answers a call that it cannot run."""
_KEPT = ("cli_version", "originator", "source", "model_provider", "forked_from_id", "parent_thread_id", "agent_role")


def recognises(head: Sequence[Any]) -> bool:
    """A ``session_meta`` line."""
    return any(
        isinstance(value, dict)
        and value.get("type") == "session_meta"
        and isinstance(value.get("payload"), dict)
        and {"id", "timestamp", "cwd"} <= value["payload"].keys()
        for value in head
    )


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory for each stretch between compactions.

    The items of one model call are one message, parallel calls first and then their results, even if the log mixes
    them. A session that continues another file shows only its own part, so its turns cannot be candidates.

    Raises:
        InputError: the file cannot be read.
    """
    return read_session(path, whole_lines(path), lambda lines: _trajectories(lines, path))


def _trajectories(lines: Sequence[Entry], path: Path) -> list[Trajectory]:
    meta = next((_payload(line) for line in lines if line.get("type") == "session_meta"), {})
    session = identifier(meta, "id") or path.stem
    instructions = meta.get("base_instructions")
    if isinstance(instructions, dict):
        instructions = instructions.get("text")
    models = [_payload(line).get("model") for line in lines if line.get("type") == "turn_context"]
    foreign = {key: meta[key] for key in _KEPT if meta.get(key)} | ({"model": models[-1]} if models else {})
    system = Message(role="system", content=instructions) if isinstance(instructions, str) else None
    return stretches(
        stretch.trajectory(session, system, foreign) for stretch in _stretches(lines, meta) if stretch.has_turns
    )


def _payload(line: Entry) -> dict[str, Any]:
    return member(line, "payload", dict)


# --- from lines to model calls ------------------------------------------------------------------------------------


class _Stretch:
    """What the model was shown between two compactions: groups of items, one for each message or model call."""

    def __init__(self, given: Sequence[Any] = (), losses: Sequence[Loss] = (), barred: str | None = None) -> None:
        self.groups: list[list[Any]] = [[item] for item in given]
        self.num_given = len(self.groups)
        self.losses = list(losses)
        self.barred = barred
        """Why none of its turns may become a candidate."""
        self.tools: list[Any] = []
        self._turn: list[Any] = []
        self._results: list[Any] = []
        self.is_over = True
        """The model call at hand is complete: the assistant's next item belongs to another one."""

    @property
    def has_turns(self) -> bool:
        return any(is_turn(group[0]) for group in self.groups[self.num_given :])

    def add(self, item: dict[str, Any]) -> None:
        kind = optional(item, "type", str)
        if kind == "additional_tools":
            self.tools += flat_tools(member(item, "tools", list))
        elif kind in _OUTPUTS:
            self._results.append(item)
        elif is_turn(item):
            if self.is_over:
                self.flush()
            self._turn.append(item)
            self.is_over = False
        elif kind not in _UNSEEN:
            self.flush()
            self.groups.append([item])

    def flush(self) -> None:
        self.groups += [self._turn] if self._turn else []
        self.groups += [[item] for item in self._results]
        self._turn, self._results, self.is_over = [], [], True

    def drop_summary(self, text: str) -> None:
        """Leave out the last turn if it wrote this summary: what asked for it is not logged."""
        for group in self.groups[-1:]:
            written = conversation([plain_item(item) for item in group]).messages if is_turn(group[0]) else ()
            if written and not written[0].tool_calls and text.endswith(written[0].content or "\0"):
                self.groups.pop()

    def trajectory(self, name: str, system: Message | None, foreign: dict[str, Any]) -> Trajectory:
        messages: tuple[Message, ...] = ()
        losses = list(self.losses)
        excluded: dict[int, str] = {}
        hidden = False
        if system is not None and not any(says(group[0], system.content) for group in self.groups):
            messages = (system,)
        for number, group in enumerate(self.groups):
            part = conversation([plain_item(item) for item in group], "payload", before=messages)
            place = len(messages)
            hidden = hidden or part.is_incomplete
            messages = part.messages
            losses += part.losses
            if is_turn(group[0]) and len(messages) > place:
                losses += [Loss(code="reasoning_encrypted", message=place) for item in group if is_summarised(item)]
                reason = "context_only" if number < self.num_given else self.barred
                reason = reason or ("context_incomplete" if hidden else part.excluded.get(place))
                excluded |= {place: reason} if reason else {}
        tools, hosted = response_tools(self.tools)
        if not tools:
            losses.append(Loss(code="tools_not_logged"))
        return Trajectory(
            id=name,
            task_id=task_hash(_prompt(messages), ("user",)),
            messages=messages,
            tools=tools,
            excluded=_refused(messages) | excluded,
            metadata={"foreign": foreign} if foreign else {},
            losses=(*losses, *hosted),
        )


def _stretches(lines: Sequence[Entry], meta: dict[str, Any]) -> Iterator[_Stretch]:
    stretch = _Stretch()
    if meta.get("history_base"):
        stretch.barred = "context_incomplete"
        origin = meta.get("forked_from_id") or "another session"
        stretch.losses.append(Loss(code="input_not_logged", detail=f"the session goes on from {origin}"))
    has_marks = any(_tokens(line) is not None or line.get("type") == "token_usage_record" for line in lines)
    tokens: Any = None
    for line in lines:
        kind, payload = member(line, "type", str), _payload(line)
        if kind == "response_item":
            stretch.add(payload)
            if not has_marks and payload.get("type") in _OUTPUTS:
                stretch.is_over = True
        elif kind in ("turn_context", "token_usage_record"):
            stretch.is_over = True
        elif kind == "compacted":
            yield from _closed(stretch, optional(payload, "message", str) or "")
            stretch = _replacement(payload, stretch.tools)
        elif kind == "event_msg" and payload.get("type") == "thread_rolled_back":
            yield from _closed(stretch, "")
            loss = Loss(code="branch", detail="turns were taken back")
            stretch = _Stretch(_items(stretch), [*stretch.losses, loss], "context_incomplete")
        elif kind not in _SILENT:
            stretch.losses.append(Loss(code="unknown_item", detail=str(kind)))
        if (counted := _tokens(line)) is not None and counted != tokens:
            stretch.is_over, tokens = True, counted
    yield from _closed(stretch, "")


def _closed(stretch: _Stretch, summary: str) -> Iterator[_Stretch]:
    stretch.flush()
    if summary:
        stretch.drop_summary(summary)
    yield stretch


def _replacement(payload: dict[str, Any], tools: list[Any]) -> _Stretch:
    """What the context became: logged by newer versions; older ones hold the summary alone, not how it was shown."""
    items = optional(payload, "replacement_history", list)
    if items is None:
        text = {"type": "message", "role": "user", "content": optional(payload, "message", str) or ""}
        stretch = _Stretch([text], barred="after_compaction")
    else:
        stretch = _Stretch(items)
    stretch.tools = tools
    return stretch


def _items(stretch: _Stretch) -> list[Any]:
    return [item for group in stretch.groups for item in group]


def _tokens(line: Entry) -> Any:
    """The total that a line counts: it changes with every model call."""
    payload = line.get("payload")
    if line.get("type") != "event_msg" or not isinstance(payload, dict) or payload.get("type") != "token_count":
        return None
    info = payload.get("info")
    return info.get("total_token_usage") if isinstance(info, dict) else None


def _prompt(messages: Sequence[Message]) -> list[Message]:
    """The user's last message before the first turn: those before it describe the machine and the day."""
    first = next((i for i, message in enumerate(messages) if message.role == "assistant"), len(messages))
    return [message for message in messages[:first] if message.role == "user"][-1:]


def _refused(messages: Sequence[Message]) -> dict[int, str]:
    """Turns whose calls the harness could not run."""
    refused = {m.tool_call_id for m in messages if m.role == "tool" and (m.content or "").startswith(_REFUSED)}
    return {i: "error_turn" for i, m in enumerate(messages) if any(call.id in refused for call in m.tool_calls)}
