"""BFCL's functions, called in instances of our own, and the package's verdict on what came of it.

The functions are the methods of the package's classes (a file system, a car, a broker, ...). Calls are checked against
the documented functions and their parameters before they are made; nothing that a model wrote is evaluated.
"""

from __future__ import annotations

import copy
import decimal
import functools
import hashlib
import importlib
import inspect
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath
from bfcl_eval.constants.executable_backend_config import CLASS_FILE_PATH_MAPPING, STATELESS_CLASSES
from bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker import response_checker, state_checker

from pivotrl.reading.formats.bfcl import Task, calls_in_text, documented, load_task
from pivotrl.records import Tool, ToolCall
from pivotrl.records.strict_json import call_arguments, kind_of

MAX_CHARACTERS = 20_000
"""Longest arguments of a call, and longest text that is read as calls."""
_MAX_PLACES = 1_000
"""Largest exponent and precision: the package computes powers of integers in full."""


class Backend:
    """The package's instances for one run of a task, and all results so far."""

    def __init__(self, task: Task) -> None:
        self.instances: dict[str, Any] = {}
        self.results: list[str] = []
        for name in task.classes:
            self.instances[name] = _class(name)()
            if name not in STATELESS_CLASSES:
                scenario = copy.deepcopy(task.initial.get(name, {}))
                self.instances[name]._load_scenario(scenario, long_context=task.category == "long_context")

    def copy(self) -> Backend:
        return copy.deepcopy(self)

    def altered(self) -> Backend:
        """A copy where every file has another last line, and every directory two more files, one of them hidden."""
        made = self.copy()
        for system in (instance for instance in made.instances.values() if hasattr(instance, "root")):
            _alter(system.root)
        return made

    def call(self, call: ToolCall) -> tuple[str, bool]:
        """(the result as the package words it, whether the call could be made)

        A call that cannot be made changes nothing; its result says why.
        """
        try:
            method, arguments = self._prepared(call)
        except (TypeError, ValueError) as error:
            return self._told(f"Error during execution: {error}"[:500]), False
        # Two methods set a precision for the whole process.
        with decimal.localcontext(), mpmath.workdps(mpmath.mp.dps):
            try:
                return self._told(_text(method(**arguments))), True
            except Exception as error:  # what the classes do with values of the wrong type
                return self._told(f"Error during execution: {error}"[:500]), True

    def _told(self, result: str) -> str:
        self.results.append(result)
        return result

    def _prepared(self, call: ToolCall) -> tuple[Callable[..., Any], dict[str, Any]]:
        owner = next((name for name in self.instances if call.name in _parameters(name)), None)
        if owner is None:
            raise ValueError(f"there is no function {call.name[:60]!r}")
        if len(call.arguments) > MAX_CHARACTERS:
            raise ValueError(f"the arguments are longer than {MAX_CHARACTERS} characters")
        arguments = call_arguments(call.arguments)
        method = getattr(self.instances[owner], call.name)
        inspect.signature(method).bind(**arguments)
        _require_types(arguments, next(tool for tool in documented(owner) if tool.name == call.name))
        return method, arguments

    def state(self) -> dict[str, Any]:
        """The attributes of all instances as JSON, with what the package's comparison leaves out: the current
        directory, and the generators of random numbers as a fingerprint."""
        return {name: _plain(instance) for name, instance in self.instances.items()}


def _alter(directory: Any) -> None:
    for item in list(directory.contents.values()):
        if hasattr(item, "contents"):
            _alter(item)
        else:
            item.content += "\nzq altered"
    for name in ("zq_file", ".zq_hidden"):
        directory._add_file(name, "zq")


@functools.cache
def _class(name: str) -> Any:
    return getattr(importlib.import_module(CLASS_FILE_PATH_MAPPING[name]), name)


@functools.cache
def _parameters(class_name: str) -> dict[str, tuple[str, ...]]:
    """Documented function -> its parameters in the order of the code."""
    methods = {tool.name: getattr(_class(class_name), tool.name) for tool in documented(class_name)}
    return {name: tuple(inspect.signature(method).parameters)[1:] for name, method in methods.items()}


def _require_types(arguments: dict[str, Any], tool: Tool) -> None:
    """Be stricter than the package, which takes ``None`` for ``False`` and multiplies texts by numbers.

    The ground truth itself calls a ticket by a text (tasks 173); the function answers that there is none.

    Raises:
        ValueError: a value is not of the documented type, or arithmetic with it would take for ever.
    """
    for name, value in arguments.items():
        schema = tool.parameters["properties"][name]
        if value is None and schema.get("default") == "None":
            continue
        if not (_fits(value, schema) or (name == "ticket_id" and isinstance(value, str))):
            raise ValueError(f"{name} must be of type {schema['type']}")
        if name in ("exponent", "precision", "decimal_places") and abs(value) > _MAX_PLACES:
            raise ValueError(f"{name} must not be beyond {_MAX_PLACES}")


def _fits(value: Any, schema: dict[str, Any]) -> bool:
    kind = kind_of(value)
    if kind == "array":
        return schema["type"] == "array" and all(_fits(item, schema["items"]) for item in value)
    if schema["type"] == "integer":
        return kind == "number" and value == int(value)
    return bool(kind == schema["type"])


def _text(result: Any) -> str:
    """A result as the package's executor writes it."""
    if not isinstance(result, dict):
        return str(result)
    try:
        return json.dumps(result)
    except (TypeError, ValueError):
        return str(result)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {key if isinstance(key, str) else f"<{key!r}>": _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, random.Random):
        return "random " + hashlib.sha256(repr(value.getstate()).encode()).hexdigest()[:16]
    if not hasattr(value, "__dict__"):
        return str(value)
    attributes = {key: item for key, item in vars(value).items() if key not in ("parent", "_last_modified")}
    if (here := attributes.pop("_current_dir", None)) is not None:
        path = [here.name]
        while (here := here.parent) is not None:
            path.insert(0, here.name)
        attributes["_current_dir"] = path
    return _plain(attributes)


@dataclass(frozen=True)
class Truth:
    """What the right calls of one request lead to."""

    calls: tuple[ToolCall, ...]
    results: tuple[str, ...]
    instances: dict[str, Any]

    def fault(self, backend: Backend, num_calls: int, number: int) -> str | None:
        """Why the benchmark would fail request ``number``, in the package's code; None if it is fulfilled.

        Args:
            num_calls: calls made for this request.
        """
        if not self.calls:
            return None  # as in the package: a call too many shows in the next request's state, if at all
        if not num_calls:
            return "empty_turn_model_response"
        state = state_checker(backend.instances, self.instances)
        if not state["valid"]:
            return str(state["error_type"]).removeprefix("multi_turn:")
        responses = response_checker(backend.results, list(self.results), number)
        return None if responses["valid"] else str(responses["error_type"]).removeprefix("multi_turn:")


@functools.lru_cache(maxsize=256)
def truth_of(task_id: str) -> tuple[Truth, ...]:
    """The ground truth of a task, played."""
    task = load_task(task_id)
    assert task is not None
    backend, played = Backend(task), []
    for texts in task.truth:
        calls = tuple(call for text in texts for call in calls_in_text(text, parameters_of(task)) or ())
        results = tuple(backend.call(call)[0] for call in calls)
        played.append(Truth(calls, results, backend.copy().instances))
    return tuple(played)


def parameters_of(task: Task) -> dict[str, tuple[str, ...]]:
    return {name: names for owner in task.classes for name, names in _parameters(owner).items()}
