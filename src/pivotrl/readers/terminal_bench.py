"""Trials of Terminus as folders ``episode-N``, as Terminal-Bench and the first versions of Harbor wrote them.

The agent has no tools. It writes a plan, as JSON or XML, whose keystrokes go to a terminal; that text is the action.
An episode is one answer: ``prompt.txt``, ``response.txt`` (``response.json`` of Terminus 1), and ``debug.json``, the
provider's call with all messages that the model saw.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.reading.chat_messages import chat_message, task_hash, text_of
from pivotrl.reading.fields import as_object, each, identifier, optional
from pivotrl.reading.formats.atif_runs import runs
from pivotrl.reading.sources import load_document, refusal
from pivotrl.records import Loss, Message, Refusal, Trajectory
from pivotrl.records.strict_json import parse_arguments, parse_json

_EPISODE = re.compile(r"episode-(\d+)")
_PARSING_ERROR = "Previous response had parsing errors:"
_TOO_LONG = "ERROR!! NONE of the actions you just requested were performed"
_HANDED_OVER = "Here are the answers the other agent provided."
_NOT_JUDGED = {"unset", "unknown", "unknown_agent_error", "agent_installation_failed", "test_timeout", "parse_error"}
"""Ends of a trial after which it was not tested, or the tests told nothing."""


def claims(path: Path) -> bool:
    """A directory with ``episode-0``, or a trial's directory around it; not of another agent of Harbor."""
    return _episodes_of(path) is not None


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory for each stretch of a run in which the context only grew.

    When the context is full, Terminus cuts and summarises it. With ``debug.json`` the new context is known: the rest is
    another trajectory, whose older turns are context. Without it, the turns after the cut are excluded.

    Raises:
        InputError: the directory holds no run of Terminus.
    """
    directory = _episodes_of(path)
    if directory is None:
        raise InputError(f"{path} contains no episode-0/prompt.txt; give the directory of a trial")
    try:
        yield from _read(directory)
    except ValueError as error:
        yield refusal(str(directory), error)


def _read(directory: Path) -> Iterator[Trajectory]:
    trial = _trial(directory)
    name = trial.get("name") or (directory.parent if directory.name in ("agent", "agent-logs") else directory).name
    stretches: list[_Stretch] = []
    model = None
    for _, folder in sorted(_folders(directory)):
        call = _call(folder)
        if call is None:
            continue  # the provider failed, or every answer was cut
        model = model or call.model
        if not stretches or not stretches[-1].continues_with(call):
            stretches.append(_Stretch(call))
        stretches[-1].add(call)
    if not stretches:
        raise ValueError("no episode holds an answer of the agent")
    known = {"model": model, "failure_mode": trial.get("failure_mode"), "exception": trial.get("exception")}
    task = trial.get("task") or task_hash(stretches[0].messages)
    for index, stretch in enumerate(stretches):
        losses = [Loss(code="text_mode"), *stretch.losses]
        if len(stretches) > 1:
            losses.append(Loss(code="compaction", detail=f"part {index + 1} of {len(stretches)} of the run"))
        yield Trajectory(
            id=name if index == 0 else f"{name}-part-{index + 1}",
            task_id=task,
            messages=tuple(stretch.messages),
            reward=trial.get("reward"),
            excluded=stretch.excluded,
            metadata={"foreign": {key: value for key, value in known.items() if value is not None}},
            losses=tuple(losses),
        )


# --- a call and what it belongs to --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Call:
    seen: tuple[Message, ...]
    """All that the model saw; only the latest prompt if the call was not logged."""
    is_logged: bool
    answer: Message
    model: str | None


class _Stretch:
    """A conversation that only grew."""

    def __init__(self, call: _Call) -> None:
        self.messages = list(call.seen[:-1])
        self.losses: list[Loss] = []
        self.excluded: dict[int, str] = {}
        self._is_cut = False
        for index in (i for i, message in enumerate(self.messages) if message.role == "assistant"):
            self.excluded[index] = _fault(self.messages[index:])

    def continues_with(self, call: _Call) -> bool:
        """Whether what the model saw begins with this conversation; a prompt alone does not say."""
        before = call.seen[: len(self.messages)]
        grew = len(call.seen) > len(self.messages)
        return not call.is_logged or (grew and all(map(_is_same, self.messages, before)))

    def add(self, call: _Call) -> None:
        fresh = call.seen
        if call.is_logged:
            fresh = call.seen[len(self.messages) :]
            # Terminus 1 lays its answers out anew in response.json; the next call shows them as they were.
            pairs = zip(self.messages, call.seen, strict=False)
            self.messages = [old.model_copy(update={"content": new.content}) for old, new in pairs]
        for index, message in enumerate(fresh):
            text = message.content or ""
            if message.role == "assistant":
                self.excluded[len(self.messages)] = _fault(fresh[index:])
            elif text.startswith(_PARSING_ERROR) and self.messages:
                self.excluded.setdefault(len(self.messages) - 1, "unparsable_action")
            elif text.startswith(_HANDED_OVER) and not call.is_logged:
                self._is_cut = True
                self.losses.append(Loss(code="compaction", message=len(self.messages)))
            self.messages.append(message)
        if self._is_cut:
            self.excluded[len(self.messages)] = "after_compaction"
        self.messages.append(call.answer)


def _fault(answer_and_after: Sequence[Message]) -> str:
    """Why an answer that no episode is about is in the context: it was cut, or comes from before or from a helper."""
    was_cut = any((message.content or "").startswith(_TOO_LONG) for message in answer_and_after[1:2])
    return "truncated" if was_cut else "copied_context"


def _is_same(one: Message, other: Message) -> bool:
    if one.role != other.role or one.content == other.content:
        return one.role == other.role
    with suppress(ValueError):
        return bool(parse_json(one.content or "") == parse_json(other.content or ""))
    return False


# --- files --------------------------------------------------------------------------------------------------------


def _call(folder: Path) -> _Call | None:
    file = next((folder / name for name in ("response.txt", "response.json") if (folder / name).is_file()), None)
    if file is None or (text := _text(file)).startswith(_TOO_LONG):
        return None  # a complaint stands in the place of an answer that was cut
    debug = as_object(load_document(folder / "debug.json")) if (folder / "debug.json").is_file() else {}
    messages = optional(debug, "messages", list) or []
    seen = each(f"{folder.name}/debug.json: messages", messages, chat_message)
    written, logged = Message(role="assistant", content=text), _logged_answer(debug)
    return _Call(
        seen=tuple(seen) or (Message(role="user", content=_text(folder / "prompt.txt")),),
        is_logged=bool(seen),
        answer=logged if logged is not None and _is_same(logged, written) else written,
        model=identifier(debug, "model"),
    )


def _logged_answer(debug: dict[str, Any]) -> Message | None:
    """The provider's answer, which may hold thoughts; of the form of OpenAI or of Anthropic."""
    with suppress(ValueError):
        response = parse_arguments(str(debug.get("original_response")))
        if choices := optional(response, "choices", list):
            return chat_message(as_object(choices[0]).get("message"))
        blocks = each("content", optional(response, "content", list) or (), as_object)
        thoughts = [optional(block, "thinking", str) for block in blocks if block.get("type") == "thinking"]
        text = text_of([block for block in blocks if block.get("type") == "text"])
        return Message(role="assistant", content=text, reasoning="\n".join(filter(None, thoughts)) or None)
    return None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file.parent.name}/{file.name} cannot be read as text: {error}") from error


def _trial(directory: Path) -> dict[str, Any]:
    """``name``, ``task``, ``reward`` and how it ended, from the results beside the folders; empty without them."""
    if (directory / "trajectory.json").is_file():
        first = next(runs(directory / "trajectory.json", subagents=False), None)
        if isinstance(first, Trajectory) and (name := first.metadata["foreign"].get("trial_name")):
            exception = first.metadata["foreign"].get("exception")
            return {"name": name, "task": first.task_id, "reward": first.reward, "exception": exception}
    file = next((d / "results.json" for d in (directory, directory.parent) if (d / "results.json").is_file()), None)
    row = as_object(load_document(file)) if file else {}
    mode, resolved = identifier(row, "failure_mode"), row.get("is_resolved")
    is_judged = isinstance(resolved, bool) and (resolved or mode not in _NOT_JUDGED)
    told = {"name": identifier(row, "trial_name"), "task": identifier(row, "task_id"), "failure_mode": mode}
    return {**told, "reward": float(bool(resolved)) if is_judged else None}


def _folders(directory: Path) -> Iterator[tuple[int, Path]]:
    for path in directory.iterdir():
        if (found := _EPISODE.fullmatch(path.name)) and (path / "prompt.txt").is_file():
            yield int(found[1]), path


def _episodes_of(path: Path) -> Path | None:
    for directory in (path / "agent-logs", path / "agent", path):
        if (directory / "episode-0" / "prompt.txt").is_file():
            return directory if _is_of_terminus(directory) else None
    return None


def _is_of_terminus(directory: Path) -> bool:
    """Another agent of Harbor leaves such folders too; the trajectory beside them says whose they are."""
    try:
        with (directory / "trajectory.json").open(encoding="utf-8", errors="replace") as file:
            return '"terminus' in file.read(2000)
    except OSError:
        return True
