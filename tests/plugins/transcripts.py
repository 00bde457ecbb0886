"""A reader: plain-text transcripts, with an empty line between conversations.

task: sky
user: Is the sky blue?
agent: yes
reward: 1
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pivotrl import Message, Trajectory
from pivotrl.records import Refusal

ROLES: dict[str, Literal["user", "assistant"]] = {"user": "user", "agent": "assistant"}


def read(path: Path, *, comment: str = "#") -> Iterator[Trajectory | Refusal]:
    """
    Args:
        comment: lines that begin with it are left out.
    """
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith(comment)]
    for number, block in enumerate("\n".join(lines).strip().split("\n\n")):
        facts = {"task": f"{path.stem}-{number}", "reward": "1"}
        messages = []
        for line in block.splitlines():
            name, _, text = line.partition(": ")
            if name in ROLES:
                messages.append(Message(role=ROLES[name], content=text))
            elif name in facts:
                facts[name] = text
            else:
                yield Refusal(place=f"{path}, conversation {number + 1}", reason=f"cannot read {line!r}")
                break
        else:
            yield Trajectory(
                id=f"{path.stem}-{number}",
                task_id=facts["task"],
                messages=tuple(messages),
                reward=float(facts["reward"]),
            )
