"""Different tasks that begin with the same words: rules first, an acknowledgement, and only then the task."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator

from pivotrl.records import Trajectory

_HASHED = re.compile(r"task-[0-9a-f]{16}\Z")
_ACTION = re.compile(r"```|[<{\[]|\baction\b|\bcommand\b", re.IGNORECASE)
_LONGEST_REPLY = 300
_MAX_DEPTH = 2


class TaskGroups:
    """Task ids made of the first words, told apart where the words go on differently after the same reply.

    After another reply the user, or the environment, says something else anyway: that is another run of the task. After
    the same one only another task does. The first that is seen keeps its id.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, str]] = {}

    def told_apart(self, trajectory: Trajectory) -> Trajectory:
        """The trajectory, with a task id of its own where an earlier one of the same id was another task."""
        name = node = trajectory.task_id
        if not _HASHED.match(name):
            return trajectory
        for reply, then in itertools.islice(_exchanges(trajectory), _MAX_DEPTH):
            known_reply, known_then = self._seen.setdefault(node, (reply, then))
            if reply != known_reply:
                break
            if then != known_then:
                name = f"{trajectory.task_id}-{hashlib.sha256(then.encode()).hexdigest()[:8]}"
                node = name
            node += "/"
        return trajectory if name == trajectory.task_id else trajectory.model_copy(update={"task_id": name})


def _exchanges(trajectory: Trajectory) -> Iterator[tuple[str, str]]:
    """(what the agent replied, what the user said then), as long as the agent only acknowledges."""
    messages = [message for message in trajectory.messages if message.role != "system"]
    for place in range(1, len(messages) - 1, 2):
        reply, then = messages[place], messages[place + 1]
        text = reply.content or ""
        is_talk = reply.role == "assistant" and not reply.tool_calls and then.role == "user"
        if not is_talk or len(text) > _LONGEST_REPLY or _ACTION.search(text):
            return
        yield text, then.content or ""
