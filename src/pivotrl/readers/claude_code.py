"""Sessions of Claude Code: JSON lines that form a tree by ``uuid`` and ``parentUuid``.

One answer of the model is split over lines of the same ``message.id``, a block each. The tree lacks
system message and tools. Newer versions also log the requests (:mod:`pivotrl.reading.formats.claude_requests`), which
are then read instead. The output of ``claude -p --output-format stream-json``
(:mod:`pivotrl.reading.formats.claude_stream`) is read in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import task_hash
from pivotrl.reading.fields import as_object, identifier, member, optional
from pivotrl.reading.formats.anthropic_messages import anthropic_messages, assistant_message, result_message
from pivotrl.reading.formats.claude_requests import Answer, has_requests, model_calls
from pivotrl.reading.formats.claude_stream import as_session, is_stream, stream_lines, with_stream_losses
from pivotrl.reading.formats.model_calls import Conversation, conversations
from pivotrl.reading.formats.session_logs import Entry, joined_users, read_session, stretches, whole_lines
from pivotrl.reading.sources import head
from pivotrl.records import Loss, Message, Refusal, Trajectory

_REFUSED = ("<tool_use_error>Error: No such tool available", "<tool_use_error>InputValidationError")
"""How the harness answers a call that it cannot run."""
_SYNTHETIC = "<synthetic>"
_SAID = ("user", "assistant")


def recognises(head: Sequence[Any]) -> bool:
    """Lines of the tree, the titles that older versions put before them, or a printed stream."""
    return any(isinstance(value, dict) and (_is_known(value) or is_stream(value)) for value in head)


def _is_known(line: Entry) -> bool:
    if line.get("type") == "summary":
        return {"summary", "leafUuid"} <= line.keys()
    return line.get("type") in _SAID and {"uuid", "parentUuid", "sessionId", "isSidechain", "message"} <= line.keys()


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory for each stretch between compactions, along the branch that ends last.

    Text that only the screen showed is left out; text that the harness wrote as the user is kept, because the model saw
    it. A sub-agent's lines are left out; in a file of its own they are read, with no candidates.

    Raises:
        InputError: the file cannot be read.
    """
    lines = stream_lines(path) if any(map(is_stream, head(path))) else whole_lines(path)
    return read_session(path, lines, lambda lines: _trajectories(lines, path))


def _trajectories(lines: Sequence[Entry], path: Path) -> list[Trajectory]:
    if any(map(is_stream, lines)):
        return [with_stream_losses(made) for made in _trajectories(as_session(lines), path)]
    tree = _Tree(lines)
    name = tree.agent or tree.session or path.stem
    if has_requests(lines) and not tree.is_subagent:
        calls = model_calls(lines, tree.answers(lines))
        return stretches(_requested(conversation, tree, name) for conversation in conversations(calls))
    return stretches(reversed([_walked(tree, chain, name) for chain in tree.chains() if any(map(_is_turn, chain))]))


def _requested(conversation: Conversation, tree: _Tree, name: str) -> Trajectory:
    messages = conversation.messages
    return Trajectory(
        id=name,
        task_id=tree.task,
        messages=messages,
        tools=conversation.last.data,
        excluded=_refused(messages) | conversation.excluded,
        metadata={"foreign": tree.facts} if tree.facts else {},
        losses=(*(loss for loss in conversation.losses if loss.code != "compaction"), *tree.left_to_others),
    )


def _refused(messages: Sequence[Message]) -> dict[int, str]:
    """Turns whose calls the harness could not run."""
    refused = {m.tool_call_id for m in messages if m.role == "tool" and (m.content or "").startswith(_REFUSED)}
    return {i: "error_turn" for i, m in enumerate(messages) if any(call.id in refused for call in m.tool_calls)}


# --- the tree -----------------------------------------------------------------------------------------------------


class _Tree:
    """The session's own lines, or a sub-agent's when the file holds no others."""

    def __init__(self, lines: Sequence[Entry]) -> None:
        nodes = [line for line in lines if isinstance(line.get("uuid"), str)]
        own = [node for node in nodes if not node.get("isSidechain")]
        self.is_subagent = not any(map(_is_said, own))
        self.nodes = nodes if self.is_subagent else own
        self.num_others = sum(1 for node in nodes if _is_said(node)) - sum(1 for node in self.nodes if _is_said(node))
        self.by_uuid = {node["uuid"]: node for node in self.nodes}
        said = [node for node in self.nodes if _is_said(node)]
        self.session = identifier(said[0], "sessionId") if said else None
        self.task = task_hash([Message(role="user", content=_prompt(said))])
        self.agent = identifier(said[0], "agentId") if said and self.is_subagent else None
        self.blocks: dict[str, list[Any]] = {}
        self.results: dict[str, dict[str, Any]] = {}
        for node in said:
            message = member(node, "message", dict)
            blocks = message.get("content")
            blocks = blocks if isinstance(blocks, list) else [{"type": "text", "text": blocks}]
            if node["type"] == "assistant":
                group = self.blocks.setdefault(_answer_id(node), [])
                group += [block for block in blocks if block not in group]
            else:
                found = [b for b in blocks if isinstance(b, dict) and b.get("type") == "tool_result"]
                self.results |= {b["tool_use_id"]: b for b in found if isinstance(b.get("tool_use_id"), str)}

    @property
    def left_to_others(self) -> list[Loss]:
        """Sub-agents' lines in a file that is not theirs."""
        return [Loss(code="subagent", detail=f"{self.num_others} lines of sub-agents")] if self.num_others else []

    @property
    def facts(self) -> dict[str, Any]:
        models = [member(n, "message", dict).get("model") for n in self.nodes if n.get("type") == "assistant"]
        models = [model for model in models if isinstance(model, str) and model != _SYNTHETIC]
        versions = [node["version"] for node in self.nodes if isinstance(node.get("version"), str)]
        return {key: values[-1] for key, values in (("model", models), ("version", versions)) if values}

    def answers(self, lines: Sequence[Entry]) -> dict[int, Answer]:
        """The assistant's answers by the line that each begins at."""
        begins: dict[str, int] = {}
        barred: dict[str, str] = {}
        for number, line in enumerate(lines):
            if _is_turn(line) and self.by_uuid.get(str(line.get("uuid"))) is line:
                begins.setdefault(_answer_id(line), number)
                if (reason := self.reason(line)) is not None:
                    barred[_answer_id(line)] = reason
        return {number: Answer(tuple(self.blocks[name]), barred.get(name)) for name, number in begins.items()}

    def reason(self, line: Entry) -> str | None:
        """Why the answer that the line belongs to must not become a candidate."""
        message = member(line, "message", dict)
        if self.is_subagent:
            return "subagent_turn"
        if line.get("isApiErrorMessage"):
            return "error_turn"
        if message.get("model") == _SYNTHETIC:
            return "synthetic"
        return "truncated" if message.get("stop_reason") == "max_tokens" else None

    def chains(self) -> Iterator[list[Entry]]:
        """The lines from root to leaf, of the last stretch first."""
        leaf = next((node for node in reversed(self.nodes) if _is_said(node) and not node.get("isMeta")), None)
        seen: set[str] = set()
        while leaf is not None:
            chain: list[Entry] = []
            node: Entry | None = leaf
            while node is not None and node["uuid"] not in seen:
                seen.add(node["uuid"])
                chain.append(node)
                node = self.by_uuid.get(str(node.get("parentUuid")))
            yield chain[::-1]
            leaf = self.by_uuid.get(str(chain[-1].get("logicalParentUuid"))) if _is_boundary(chain[-1]) else None
            leaf = leaf if leaf is None or leaf["uuid"] not in seen else None


def _is_said(line: Entry) -> bool:
    return line.get("type") in _SAID and isinstance(line.get("message"), dict)


def _prompt(said: Sequence[Entry]) -> str | None:
    """What the user asked first, which names the task; commands and reminders stand in tags."""
    heard = (line["message"].get("content") for line in said if line["type"] == "user" and not line.get("isMeta"))
    return next((text for text in heard if isinstance(text, str) and not text.startswith("<")), None)


def _is_turn(line: Entry) -> bool:
    return line.get("type") == "assistant" and _is_said(line)


def _is_boundary(line: Entry) -> bool:
    return line.get("type") == "system" and line.get("subtype") == "compact_boundary"


def _answer_id(line: Entry) -> str:
    return identifier(member(line, "message", dict), "id") or str(line["uuid"])


# --- from lines to messages ---------------------------------------------------------------------------------------


def _walked(tree: _Tree, chain: Sequence[Entry], name: str) -> Trajectory:
    """The messages of a chain, with the calls and results of parallel calls that lie beside it."""
    messages: list[Message] = []
    losses: list[Loss] = []
    excluded: dict[int, str] = {}
    places: dict[str, int] = {}
    answered: set[str] = set()
    for line in chain:
        if _is_turn(line):
            answer = _answer_id(line)
            if answer not in places:
                places[answer] = len(messages)
                message = assistant_message(tree.blocks[answer], losses, len(messages))
                messages.append(message)
                for call in message.tool_calls:
                    if call.id in tree.results and call.id not in answered:
                        messages.append(result_message(tree.results[call.id], losses, len(messages)))
                        answered.add(call.id)
            if (reason := tree.reason(line)) is not None:
                excluded[places[answer]] = reason
        else:
            _hear(line, messages, losses, answered)
    losses.append(Loss(code="tools_not_logged"))
    losses.append(Loss(code="context_not_logged", detail="reminders that the harness adds to a request"))
    losses += _left_out(tree)
    if (optional(chain[0], "compactMetadata", dict) or {}).get("preservedSegment"):
        excluded |= {i: "after_compaction" for i, m in enumerate(messages) if m.role == "assistant"}
    return Trajectory(
        id=name,
        task_id=tree.task,
        messages=tuple(messages),
        excluded=_refused(messages) | excluded,
        metadata={"foreign": tree.facts} if tree.facts else {},
        losses=tuple(losses),
    )


def _hear(line: Entry, messages: list[Message], losses: list[Loss], answered: set[str]) -> None:
    """Add what a line that is not the model's shows it."""
    if line.get("type") == "system" and line.get("subtype") == "local_command":
        row: Any = {"role": "user", "content": optional(line, "content", str) or ""}
    elif line.get("type") == "attachment" and isinstance(line.get("rendered"), list):
        row = {"role": "user", "content": "\n".join(str(as_object(part).get("content")) for part in line["rendered"])}
    elif _is_said(line):
        row = line["message"]
    else:
        return
    lost: list[Loss] = []
    for index, message in enumerate(anthropic_messages(row, lost)):
        if message.tool_call_id in answered:
            continue
        joined = joined_users(messages, message)
        if joined is not None:
            messages[-1] = joined
        else:
            messages.append(message)
        losses += [x.model_copy(update={"message": len(messages) - 1}) for x in lost if x.message == index]


def _left_out(tree: _Tree) -> Iterator[Loss]:
    yield from tree.left_to_others
    followed = {_answer_id(line) for other in tree.chains() for line in other if _is_turn(line)}
    others = {_answer_id(line) for line in tree.nodes if _is_turn(line)} - followed
    if others:
        yield Loss(code="branch", detail=f"{len(others)} answers on other branches")
