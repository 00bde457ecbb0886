"""Trajectories that Harbor writes for its agent Terminus, with the agent's actions as text.

Terminus has no tools. It writes a plan, as JSON or XML, whose keystrokes go to a terminal. Harbor keeps that text only
if asked (``raw_content``). Otherwise its file holds the plan in pieces, as if the agent had called tools, and the
reader rebuilds the text from them. Folders of episodes are read by ``terminal_bench``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.formats.atif_runs import runs
from pivotrl.records import Loss, Message, Refusal, Trajectory
from pivotrl.records.strict_json import parse_arguments

_TERMINUS = re.compile(r'"name":\s*"terminus')
_PIECES = re.compile(r"(?:Analysis: (?P<analysis>.*?))?(?:(?:\A|\n)Plan: (?P<plan>.*))?", re.DOTALL)
_PARSING_ERROR = "Previous response had parsing errors:"


def recognises(head: Sequence[Any]) -> bool:
    """ATIF documents of an agent called terminus, terminus-2, ..."""
    return any(_is_terminus(value) for value in head)


def claims(path: Path) -> bool:
    """The directory of a Harbor trial of Terminus, without folders of episodes."""
    try:
        with (path / "agent" / "trajectory.json").open(encoding="utf-8", errors="replace") as file:
            beginning = file.read(2000)
    except OSError:
        return False
    has_episodes = (path / "agent" / "episode-0" / "prompt.txt").is_file()
    return "ATIF-v" in beginning and _TERMINUS.search(beginning) is not None and not has_episodes


def read(path: Path, *, subagents: bool = False) -> Iterator[Trajectory | Refusal]:
    """As of ATIF: a file, or the main one and its continuations of a trial.

    A rebuilt text is a loss of code ``action_rebuilt``: its words and keystrokes are the agent's,
    its layout is not. Where Harbor notes a summary and goes on in the same file, the turns after it are excluded; with
    ``linear_history`` it writes a file for each context, and they are not.

    Args:
        subagents: also take the turns of the agents that write the summaries as candidates.

    Raises:
        InputError: the file cannot be read.
    """
    return runs(path, subagents=subagents, shape=_as_text)


def _as_text(trajectory: Trajectory) -> Trajectory:
    """The same run with the agent's actions as text, and the terminal's answers as the user's."""
    parser = (trajectory.metadata["foreign"]["agent"].get("extra") or {}).get("parser")
    excluded = dict(trajectory.excluded)
    messages: list[Message] = []
    num_rebuilt = 0
    for index, message in enumerate(trajectory.messages):
        answer = trajectory.messages[index + 1].content if index + 1 < len(trajectory.messages) else None
        if message.role != "assistant":
            message = Message(role="user", content=message.content)  # nobody else speaks to Terminus
        elif (answer or "").startswith(_PARSING_ERROR):
            excluded.setdefault(index, "unparsable_action")
        elif message.tool_calls or (message.content or "").startswith(("Analysis: ", "Plan: ")):
            text = _plan_text(message, is_xml=parser == "xml")
            message = message.model_copy(update={"content": text, "tool_calls": ()})
            num_rebuilt += 1
        messages.append(message)
    losses = [Loss(code="text_mode"), *trajectory.losses]
    if num_rebuilt:
        losses.append(Loss(code="action_rebuilt", detail=f"{num_rebuilt} turns"))
    changes = {"messages": tuple(messages), "excluded": excluded, "losses": tuple(losses)}
    return trajectory.model_copy(update=changes)


def _plan_text(message: Message, *, is_xml: bool) -> str:
    """The plan in the form that Terminus' prompt asks for.

    Raises:
        ValueError: the arguments of a command are not an object.
    """
    found = _PIECES.fullmatch(message.content or "")
    analysis, plan = (found["analysis"] or "", found["plan"] or "") if found else (message.content or "", "")
    try:
        commands = [parse_arguments(call.arguments) for call in message.tool_calls if call.name == "bash_command"]
    except ValueError as error:
        raise ValueError(f"arguments of bash_command: {error}") from error
    is_done = any(call.name == "mark_task_complete" for call in message.tool_calls)
    if not is_xml:
        done = {"task_complete": True} if is_done else {}
        answer = {"analysis": analysis, "plan": plan, "commands": commands, **done}
        return json.dumps(answer, indent=2, ensure_ascii=False)
    keys = [f'<keystrokes duration="{c.get("duration")}">{c.get("keystrokes")}</keystrokes>' for c in commands]
    parts = ["<analysis>", analysis, "</analysis>", "<plan>", plan, "</plan>", "<commands>", *keys, "</commands>"]
    marks = ["<task_complete>true</task_complete>"] if is_done else []
    return "\n".join(["<response>", *parts, *marks, "</response>"])


def _is_terminus(value: Any) -> bool:
    agent = value.get("agent") if isinstance(value, dict) else None
    name = agent.get("name") if isinstance(agent, dict) else None
    version = value.get("schema_version") if isinstance(value, dict) else None
    return str(version).startswith("ATIF-v") and isinstance(name, str) and name.startswith("terminus")
