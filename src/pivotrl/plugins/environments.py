"""Makes, begins, steps and closes environments, and checks every value that they return.

Only this module reads the optional members of an environment.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pivotrl.plugins.describing import describe
from pivotrl.plugins.faults import told
from pivotrl.plugins.parts import SEE, kind_of, misfit, require_parts
from pivotrl.protocols import Environment, Environments, InputError, MakeEnvironments, Observation
from pivotrl.records import Message, Tool

_ENVIRONMENTS = {"tasks": 0, "make": 1}
_MAX_REWARD = 1e100
_ENVIRONMENT = {"task_id": None, "tags": None, "context_window": None, "reset": 0, "step": 1}


def describe_environments(given: MakeEnvironments | Mapping[str, MakeEnvironments] | None) -> str | list[str] | None:
    """The environments as text for a manifest: one text, or a list of several."""
    if not isinstance(given, Mapping):
        return describe(given) if given else None
    names = [f"environments:{name}" for name in given]
    return names[0] if len(names) == 1 else names or None


def make_checked(
    given: MakeEnvironments | Mapping[str, MakeEnvironments], episodes_per_task: int = 1
) -> dict[str, Environments]:
    """Environments by name, ready to make their tasks. Each task is checked when it is made.

    Args:
        given: a factory, named by its import path and options, or several with their names.
        episodes_per_task: how often each task will be made.

    Raises:
        InputError: a factory fails or makes an object of the wrong shape; the message says how.
    """
    named = given if isinstance(given, Mapping) else {describe(given): given}
    return {name: _checked(name, factory, episodes_per_task) for name, factory in named.items()}


def require_environments(given: MakeEnvironments | Mapping[str, MakeEnvironments], episodes_per_task: int = 1) -> None:
    """Begin and close an episode of the first task of each environment, to find faults early.

    Raises:
        InputError: as :func:`make_checked`, or an episode cannot begin.
    """
    for environments in make_checked(given, episodes_per_task).values():
        _begin_first(environments)


def require_begin(made: Mapping[str, Environments]) -> None:
    """As :func:`require_environments`, of environments that are made and will be played. A plain list is left out: what
    it holds can be begun only once.

    Raises:
        InputError: as there.
    """
    for environments in made.values():
        if not isinstance(getattr(environments, "made", None), _Listed):
            _begin_first(environments)


def _begin_first(environments: Environments) -> None:
    first = environments.make(environments.tasks()[0])
    try:
        begun(first)
    except BaseException:
        with contextlib.suppress(Exception):
            closed(first)
        raise
    closed(first)


@dataclass(frozen=True)
class _Checked:
    """Environments whose ``make`` is checked."""

    name: str
    made: Environments
    names: tuple[str, ...]

    def tasks(self) -> Sequence[str]:
        return self.names

    def make(self, task: str) -> Environment:
        with told(f"{self.name} cannot make the task {task!r}"):
            environment = self.made.make(task)
            _require_environment(environment, self.name)
            if environment.task_id != task:
                raise InputError(f"{self.name} made the task {environment.task_id!r} instead of {task!r}; {SEE}")
            return environment


class _Listed:
    """A list of environments, one per task; each can be used once."""

    def __init__(self, name: str, listed: Sequence[Any], episodes_per_task: int) -> None:
        self._name, self._by_task = name, dict[str, Environment]()
        for environment in listed:
            _require_environment(environment, name)
            if environment.task_id in self._by_task:
                raise InputError(f"the environments of {name}: two have the task_id {environment.task_id!r}; {SEE}")
            self._by_task[environment.task_id] = environment
        self._left = dict(self._by_task)
        if episodes_per_task > 1 and listed:
            raise self._spent(next(iter(self._by_task)))

    def tasks(self) -> Sequence[str]:
        return list(self._by_task)

    def make(self, task: str) -> Environment:
        if task not in self._left:
            raise self._spent(task)
        return self._left.pop(task)

    def _spent(self, task: str) -> InputError:
        return InputError(
            f"the environments of {self._name}: a list holds one environment per task, so {task!r} can be played only "
            f"once. To play a task several times, return an object with tasks() and make(task); {SEE}"
        )


def _checked(name: str, factory: MakeEnvironments, episodes_per_task: int) -> Environments:
    with told(f"the environments of {name} cannot be made"):
        made: Any = factory()
        if hasattr(made, "tasks") or hasattr(made, "make"):
            require_parts(made, f"object that {name} makes", _ENVIRONMENTS)
        elif isinstance(made, (str, bytes, dict)) or not hasattr(made, "__iter__"):
            raise InputError(
                f"{name} made {kind_of(made)}, not an object with tasks() and make(task) or a list of environments; "
                f"{SEE}"
            )
        else:
            made = _Listed(name, list(made), episodes_per_task)
        tasks: Any = made.tasks()
        if isinstance(tasks, str) or not hasattr(tasks, "__iter__"):
            raise InputError(f"{name}: tasks returned {kind_of(tasks)}, not a list of strings; {SEE}")
        names = tuple(tasks)
    if not names:
        raise InputError(f"{name} made no environment; {SEE}")
    if wrong := [task for task in names if not isinstance(task, str) or not task]:
        raise InputError(f"{name}: tasks returned the task name {wrong[0]!r:.80}, which is not a string; {SEE}")
    if twice := [task for task, count in Counter(names).items() if count > 1]:
        raise InputError(f"{name}: tasks returned {twice[0]!r} twice; {SEE}")
    return _Checked(name, made, names)


def _require_environment(environment: Any, name: str) -> None:
    require_parts(environment, f"environment that {name} makes", _ENVIRONMENT)
    task = environment.task_id
    if not (isinstance(task, str) and task):
        raise InputError(f"the environments of {name}: task_id must be a string; {SEE}")
    if not _is_tags(environment.tags):
        raise InputError(f"the environments of {name}: tags must be a dict of strings; {SEE}")
    if not _is_window(environment.context_window):
        raise InputError(f"the environments of {name}: context_window must be an integer of at least 0, or None; {SEE}")
    tools_of(environment)
    pinned_of(environment)
    if (close := getattr(environment, "close", None)) is not None:
        fault = misfit(close, 0) if callable(close) else "it is not a method"
        if fault:
            raise InputError(f"the environments of {name}: close cannot be called without arguments: {fault}; {SEE}")


def tools_of(environment: Environment) -> tuple[Tool, ...]:
    """The agent's tools: the optional ``tools``.

    Raises:
        InputError: the value is not a list of Tool.
    """
    tools: Any = getattr(environment, "tools", ())
    if isinstance(tools, (list, tuple)) and all(isinstance(tool, Tool) for tool in tools):
        return tuple(tools)
    raise InputError(f"{_this(environment)}: tools is {kind_of(tools)}, not a list of Tool; {SEE}")


def pinned_of(environment: Environment) -> int:
    """How many of the first messages every context keeps: the optional ``pinned_messages``.

    Raises:
        InputError: the value is not a number of messages.
    """
    pinned: Any = getattr(environment, "pinned_messages", 0)
    if type(pinned) is int and pinned >= 0:
        return pinned
    raise InputError(
        f"{_this(environment)}: pinned_messages must be an integer of at least 0, not {pinned!r:.80}; {SEE}"
    )


def metadata_of(environment: Environment) -> dict[str, Any]:
    """Facts of the task: the optional ``metadata``.

    Raises:
        InputError: the value is not a dict of JSON values.
    """
    metadata: Any = getattr(environment, "metadata", {})
    try:
        if isinstance(metadata, dict) and all(isinstance(name, str) for name in metadata):
            copy: dict[str, Any] = json.loads(json.dumps(metadata, allow_nan=False))
            return copy
    except (TypeError, ValueError):
        pass
    raise InputError(f"{_this(environment)}: metadata is {metadata!r:.80}, not a dict of JSON values; {SEE}")


def closed(environment: Environment) -> None:
    """Call the optional ``close``.

    Raises:
        InputError: it fails.
    """
    close: Any = getattr(environment, "close", None)
    if close is not None:
        with told(f"{_this(environment)} fails in close"):
            close()


def _this(environment: Environment) -> str:
    return f"the environment {describe(environment)} (task {environment.task_id})"


def begun(environment: Environment) -> list[Message]:
    """The first messages of an episode.

    Raises:
        InputError: the environment fails or returns a value of the wrong shape.
    """
    name = _this(environment)
    with told(f"{name} fails in reset"):
        messages: Any = environment.reset()
        if isinstance(messages, (list, tuple)) and messages and all(isinstance(m, Message) for m in messages):
            return list(messages)
        raise InputError(f"{name}: reset returned {kind_of(messages)}, not the first messages; {SEE}")


def stepped(environment: Environment, action: Any) -> Observation:
    """The environment's answer to an action.

    Raises:
        InputError: the environment fails or returns a value of the wrong shape.
    """
    name = _this(environment)
    with told(f"{name} fails in step"):
        observation: Any = environment.step(action)
        if isinstance(observation, Observation):
            _require_reward(observation.reward, name)
            return observation
        raise InputError(f"{name}: step returned {kind_of(observation)}, not an Observation; {SEE}")


def _require_reward(reward: Any, name: str) -> None:
    """Not a number (NaN) and infinity count as no reward; a number too large for an average is a mistake."""
    if reward is None:
        return
    if not hasattr(reward, "__float__"):
        raise InputError(f"{name}: step returned the reward {reward!r:.80}, not a number or None; {SEE}")
    try:
        is_huge = _MAX_REWARD < abs(float(reward)) < math.inf
    except OverflowError:  # an integer that no float can hold
        is_huge = True
    if is_huge:
        raise InputError(f"{name}: step returned a reward beyond {_MAX_REWARD:g}, too large to average; {SEE}")


def _is_tags(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)


def _is_window(value: Any) -> bool:
    return value is None or (type(value) is int and value >= 0)
