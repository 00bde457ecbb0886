"""Other right actions at a turn, besides the demonstrated one: from other runs of the task, or listed in a log.

Where two runs of one task that both ended well saw the same and then did something different, either action was right.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from pivotrl.reading.chat_messages import chat_message
from pivotrl.records import Action, Label, Message, ToolCall, Trajectory
from pivotrl.records.strict_json import parse_json

MAX_ALTERNATIVES = 8
"""How many alternatives to keep per turn; the first ones."""


def with_alternatives(trajectories: Sequence[Trajectory], min_reward: float | None = 1.0) -> list[Trajectory]:
    """The same trajectories, each turn with what other runs did at its place and with what its log accepts beside.

    Two turns are at the same place when task, tools and all messages before are the same: role, text, and calls with
    their arguments as JSON; ids and thoughts do not count. An action that is empty, unreadable or excluded from
    training is no alternative. Alternatives that a trajectory has already are kept, in front.

    Args:
        min_reward: a run whose known reward is below it gives no alternatives (it may get some); None: every run does.
    """
    num_runs = Counter(trajectory.task_id for trajectory in trajectories)
    runs = [_places(trajectory) if num_runs[trajectory.task_id] > 1 else {} for trajectory in trajectories]
    shared: dict[bytes, dict[str, Action]] = {}
    for trajectory, places in zip(trajectories, runs, strict=True):
        if min_reward is None or trajectory.reward is None or trajectory.reward >= min_reward:
            for index, place in places.items():
                action = _action(trajectory.messages[index])
                key = action_key(action)
                if key is not None and index not in trajectory.excluded:
                    shared.setdefault(place, {}).setdefault(key, action)
    return [_with(t, places, shared) for t, places in zip(trajectories, runs, strict=True)]


def with_labels(trajectories: Iterable[Trajectory], labels: Iterable[Label]) -> list[Trajectory]:
    """The same trajectories; what labels accept comes before the other alternatives of a turn. All of it is kept."""
    accepted: dict[str, dict[int, tuple[Action, ...]]] = {}
    for label in labels:
        name, _, index = label.turn_id.rpartition("#")
        if label.accept:
            accepted.setdefault(name, {})[int(index)] = label.accept
    return [_labelled(t, accepted[t.id]) if t.id in accepted else t for t in trajectories]


def _labelled(trajectory: Trajectory, accepted: dict[int, tuple[Action, ...]]) -> Trajectory:
    found = dict(trajectory.alternatives)
    for index, actions in accepted.items():
        offered = [*actions, *found.get(index, ())]
        kept = {key: action for action in reversed(offered) if (key := action_key(action)) is not None}
        kept.pop(action_key(_action(trajectory.messages[index])) or "", None)
        found[index] = tuple(reversed(kept.values()))
    return trajectory.model_copy(update={"alternatives": found})


def count_alternatives(trajectories: Iterable[Trajectory]) -> dict[str, int]:
    """For a manifest: turns that accept more than the demonstrated action, and the number of alternatives."""
    lists = [actions for trajectory in trajectories for actions in trajectory.alternatives.values()]
    return {"turns_with_alternatives": sum(map(bool, lists)), "alternatives": sum(map(len, lists))}


def given_alternatives(trajectory: Trajectory) -> dict[int, list[Action]]:
    """What the log itself accepts: ``accepted_actions`` in a row, message index -> chat messages of the assistant.

    Indexes of other messages, and messages that cannot be read, are ignored.
    """
    foreign = trajectory.metadata.get("foreign")
    given = trajectory.metadata.get("accepted_actions") or (
        foreign.get("accepted_actions") if isinstance(foreign, dict) else None
    )
    found: dict[int, list[Action]] = {}
    for name, items in given.items() if isinstance(given, dict) else ():
        index = int(name) if str(name).isdecimal() and len(str(name)) < 9 else -1
        if 0 <= index < len(trajectory.messages) and trajectory.messages[index].role == "assistant":
            found[index] = [action for item in items if (action := _read(item))] if isinstance(items, list) else []
    return found


def _read(item: Any) -> Action | None:
    try:
        message = chat_message({"role": "assistant", **item} if isinstance(item, dict) else item)
    except ValueError:
        return None
    return _action(message) if message.role == "assistant" else None


def _with(trajectory: Trajectory, places: dict[int, bytes], shared: dict[bytes, dict[str, Action]]) -> Trajectory:
    given = given_alternatives(trajectory)
    found: dict[int, tuple[Action, ...]] = {}
    for index in sorted({*places, *given, *trajectory.alternatives}):
        others = shared.get(places.get(index, b""), {}).values()
        offered = [*trajectory.alternatives.get(index, ()), *given.get(index, ()), *others]
        kept = {key: action for action in reversed(offered) if (key := action_key(action)) is not None}
        kept.pop(action_key(_action(trajectory.messages[index])) or "", None)
        if kept:
            found[index] = tuple(reversed(kept.values()))[:MAX_ALTERNATIVES]
    return trajectory.model_copy(update={"alternatives": found}) if found or trajectory.alternatives else trajectory


def _places(trajectory: Trajectory) -> dict[int, bytes]:
    """Index of each assistant message -> a hash of the task, the tools and everything before it."""
    running = hashlib.sha256(_line(trajectory.task_id, [tool.model_dump() for tool in trajectory.tools]))
    found = {}
    for index, message in enumerate(trajectory.messages):
        if message.role == "assistant":
            found[index] = running.digest()
        running.update(_line(message.role, (message.content or "").strip(), _calls(message)))
    return found


def _line(*parts: Any) -> bytes:
    return json.dumps(parts, sort_keys=True).encode() + b"\n"


def _action(message: Message) -> Action:
    return Action(content=message.content, tool_calls=message.tool_calls)


def action_key(action: Action) -> str | None:
    """Equal for equal actions; None if it is empty or its arguments are not a JSON object."""
    calls = _calls(action)
    if action.is_empty or any(not isinstance(arguments, dict) for _, arguments in calls):
        return None
    return json.dumps([(action.content or "").strip(), calls], sort_keys=True)


def _calls(message: Message | Action) -> list[tuple[str, Any]]:
    return [(call.name, _arguments(call)) for call in message.tool_calls]


def _arguments(call: ToolCall) -> Any:
    try:
        return parse_json(call.arguments)
    except ValueError:
        return call.arguments
