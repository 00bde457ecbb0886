"""Sizes of prompts in characters, for all candidate turns: tokens are known only where a model has seen the turn."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pivotrl.protocols import Turn
from pivotrl.records import Message
from pivotrl.turns import whole_trajectories

_AROUND = "<|im_start|>{}\n{}<|im_end|>\n"
"""What a chat template writes around a message, roughly."""


def prompt_sizes(turns: Sequence[Turn]) -> list[int]:
    """Characters of each turn's prompt, tools included."""
    name, begins, ends = "", 0, [0]
    sizes = []
    for turn in turns:
        trajectory = turn.trajectory
        if trajectory.context_window is not None:
            sizes.append(len(_text(turn)))
            continue
        if trajectory.id != name:  # turns of a trajectory follow each other
            name, begins, ends = trajectory.id, len(_tools(turn)), [0]
        for message in trajectory.messages[len(ends) - 1 : turn.index]:
            ends.append(ends[-1] + len(_written(message)))
        sizes.append(begins + ends[turn.index])
    return sizes


def shared_size(turns: Sequence[Turn], batch_turns: int) -> int:
    """Characters that are computed when turns are sampled in batches of whole trajectories.

    Prompts of a batch share what their beginnings have in common.
    """
    return sum(map(unique_size, whole_trajectories(turns, batch_turns)))


def unique_size(batch: Sequence[Turn]) -> int:
    """Characters of the prompts of a batch without beginnings that another prompt has, too."""
    last = {turn.trajectory.id: turn for turn in sorted(batch, key=lambda turn: turn.index)}
    windowed = [turn for turn in batch if turn.trajectory.context_window is not None]
    # Without a window the last prompt of a trajectory holds all earlier ones.
    texts = sorted({_text(turn) for turn in (*last.values(), *windowed)})
    return sum(map(len, texts)) - sum(_in_common(one, other) for one, other in pairwise(texts))


def _in_common(one: str, other: str) -> int:
    """Length of the common beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _text(turn: Turn) -> str:
    return _tools(turn) + "".join(map(_written, turn.context))


def _written(message: Message) -> str:
    calls = "".join(f"{call.name}{call.arguments}" for call in message.tool_calls)
    return _AROUND.format(message.role, f"{message.reasoning or ''}{message.content or ''}{calls}")


def _tools(turn: Turn) -> str:
    return "".join(tool.model_dump_json() for tool in turn.trajectory.tools)
