"""Cut trajectories into candidate turns, split by task, and draw turns fairly over tasks."""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pivotrl.options import AtLeast1, check
from pivotrl.protocols import Turn
from pivotrl.records import Action, Message, SkippedTurn, Trajectory

Domain = Literal["conversation", "swe", "terminal", "search"]

_SEARCH_TOOL = re.compile(r"search|open|browse|fetch|find|click|visit", re.IGNORECASE)
_EDIT_TOOL = re.compile(r"edit|str_replace|apply_patch|write_file|create_file", re.IGNORECASE)
_SHELL_TOOL = re.compile(r"bash|shell|terminal|execute_command|exec", re.IGNORECASE)
_SHELL_BLOCK = re.compile(r"```(?:bash|sh|shell)\b|\"keystrokes\"")
_ERROR_RESULT = re.compile(r"\A\s*(error|traceback|exception|invalid|usage:)", re.IGNORECASE)


@dataclass(frozen=True)
class TurnOptions:
    """Which turns become candidates."""

    domain: Domain = "conversation"
    """conversation: every assistant turn. swe: tool calls that did not end in an error. terminal: shell actions.
    search: search, open and evidence-gathering calls (paper appendix A.2)."""
    max_per_task: AtLeast1 | None = None
    """At most this many candidates per task, drawn at random; None keeps all."""
    max_turns: AtLeast1 | None = None
    """At most this many candidates in total, drawn round-robin over tasks."""
    draw_seed: int = 0
    """Seed of the turns that are drawn."""

    def __post_init__(self) -> None:
        check(self)


def cut(
    trajectories: Iterable[Trajectory], options: TurnOptions = TurnOptions()
) -> tuple[list[Turn], list[SkippedTurn]]:
    """(candidates, skipped turns with their reasons). Every assistant message is in exactly one of the two."""
    candidates: list[Turn] = []
    skipped: list[SkippedTurn] = []
    for trajectory in trajectories:
        for index, message in enumerate(trajectory.messages):
            if message.role != "assistant":
                continue
            turn = Turn(trajectory, index)
            reason = _reason_to_skip(turn, options.domain)
            if reason is None:
                candidates.append(turn)
            else:
                skipped.append(SkippedTurn(turn_id=turn.id, reason=reason))
    if options.max_per_task is None and options.max_turns is None:
        return candidates, skipped
    drawn = draw_by_task(candidates, options.max_per_task, options.max_turns, options.draw_seed)
    kept = {turn.id for turn in drawn}
    skipped += [SkippedTurn(turn_id=turn.id, reason="not_drawn") for turn in candidates if turn.id not in kept]
    return drawn, skipped


def _reason_to_skip(turn: Turn, domain: Domain) -> str | None:
    message = turn.trajectory.messages[turn.index]
    if turn.index < turn.trajectory.pinned_messages:
        return "pinned_example"
    if turn.index in turn.trajectory.excluded:
        return turn.trajectory.excluded[turn.index]
    if not message.tool_calls and not (message.content or "").strip():
        return "empty_action"
    if not turn.num_context_messages:
        return "no_context"
    if domain == "conversation":
        return None
    names = [call.name for call in message.tool_calls]
    if domain == "terminal":
        is_shell = any(_SHELL_TOOL.search(name) for name in names) or _SHELL_BLOCK.search(message.content or "")
        return None if is_shell else "not_a_shell_action"
    if not names:
        return "not_a_tool_call"
    if domain == "search":
        return None if any(_SEARCH_TOOL.search(name) for name in names) else "not_a_search_action"
    return "tool_call_failed" if _failed(turn) else None


def guess_domain(trajectory: Trajectory) -> Domain:
    """The domain of a trajectory, by the tools it calls; conversation by default."""
    names = {call.name for message in trajectory.messages for call in message.tool_calls}
    if any(_EDIT_TOOL.search(name) for name in names):
        return "swe"
    if any(_SHELL_TOOL.search(name) for name in names):
        return "terminal"
    if names and all(_SEARCH_TOOL.search(name) for name in names):
        return "search"
    if not names and any(m.role == "assistant" and _SHELL_BLOCK.search(m.content or "") for m in trajectory.messages):
        return "terminal"
    return "conversation"


def _failed(turn: Turn) -> bool:
    """Whether a tool result right after the turn looks like an error."""
    for message in turn.trajectory.messages[turn.index + 1 :]:
        if message.role != "tool":
            return False
        if _ERROR_RESULT.match(message.content or ""):
            return True
    return False


def split_by_task(
    trajectories: Sequence[Trajectory], heldout_fraction: float, seed: int = 0
) -> tuple[list[Trajectory], list[Trajectory]]:
    """(train, held out). The hash of a task's id decides its side, so the split does not change when data is added."""
    train: list[Trajectory] = []
    heldout: list[Trajectory] = []
    for trajectory in trajectories:
        (heldout if task_share(trajectory.task_id, seed) < heldout_fraction else train).append(trajectory)
    return train, heldout


def task_share(task_id: str, seed: int = 0) -> float:
    """A number between 0 and 1 from the hash of a task's id; tasks below a share are held out."""
    digest = hashlib.sha256(f"{seed}/{task_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def draw_by_task(turns: Sequence[Turn], max_per_task: int | None, max_turns: int | None, seed: int) -> list[Turn]:
    """A random subset that takes one turn of every task before a second of any, in the order of ``turns``."""
    if max_per_task is None and max_turns is None:
        return list(turns)
    ordered = in_rounds(turns, seed, max_per_task)
    kept = {turn.id for turn in ordered[:max_turns]}
    return [turn for turn in turns if turn.id in kept]


def in_rounds(turns: Sequence[Turn], seed: int, max_rounds: int | None = None, together: int = 1) -> list[Turn]:
    """Shuffled so that a task returns only after every other task with turns left has had its share.

    Args:
        max_rounds: how often a task may appear.
        together: how many turns of one trajectory are adjacent each time.
    """
    shares = [_shares(pile, together) for pile in shuffled_by_task(turns, random.Random(seed))]  # noqa: S311
    rounds = max(map(len, shares), default=0)
    if max_rounds is not None:
        rounds = min(rounds, max_rounds)
    return [turn for i in range(rounds) for pile in shares if i < len(pile) for turn in pile[i]]


def shuffled_by_task(turns: Sequence[Turn], generator: random.Random) -> list[list[Turn]]:
    """The turns of each task; tasks and the turns of each are shuffled."""
    by_task: dict[str, list[Turn]] = {}
    for turn in turns:
        by_task.setdefault(turn.trajectory.task_id, []).append(turn)
    piles = list(by_task.values())
    generator.shuffle(piles)
    for pile in piles:
        generator.shuffle(pile)
    return piles


def _shares(turns: Sequence[Turn], size: int) -> list[list[Turn]]:
    """Groups of at most ``size`` turns of one trajectory, in order."""
    open_shares: dict[str, list[Turn]] = {}
    shares = []
    for turn in turns:
        share = open_shares.get(turn.trajectory.id)
        if share is None or len(share) == size:
            share = open_shares[turn.trajectory.id] = []
            shares.append(share)
        share.append(turn)
    return shares


def whole_trajectories(turns: Sequence[Turn], size: int) -> list[list[Turn]]:
    """Batches of about ``size`` turns, in order; neighbours of one trajectory stay together, whatever their number,
    so that their common prefix is computed once."""
    batches: list[list[Turn]] = []
    for _, group in itertools.groupby(turns, key=lambda turn: turn.trajectory.id):
        together = list(group)
        if not batches or len(batches[-1]) + len(together) > size:
            batches.append([])
        batches[-1] += together
    return batches


def in_place_of(logged: Message, action: Action) -> Message | None:
    """An action as a message in place of the logged one, whose answers follow. Its calls take over the ids that the
    answers refer to, those of a call by the same name first; None if the answers belong to another number of calls."""
    if len(action.tool_calls) != len(logged.tool_calls):
        return None
    left, calls = list(logged.tool_calls), []
    for call in action.tool_calls:
        answered = next((other for other in left if other.name == call.name), left[0])
        left.remove(answered)
        calls.append(call.model_copy(update={"id": answered.id}))
    return Message(role="assistant", content=action.content, tool_calls=tuple(calls))
