"""Make tool schemas from the calls that an agent made, for logs that lack them.

A schema says what was seen and no more: names, types, and which arguments came with every call. Descriptions stay
empty, choices are never guessed, and arguments not seen are not forbidden.
"""

from __future__ import annotations

from typing import Any

from pivotrl.records import Tool, Trajectory
from pivotrl.records.strict_json import kind_of, parse_arguments

_MAX_NAMES = 64
"""Different keys of an object; with more they are data, not names, and none is described."""
_MAX_DEPTH = 8
"""Levels of arrays and objects that are described in detail."""
_NOT_A_CALL = frozenset({"error_turn", "unparsable_action"})
"""Reasons of excluded turns whose calls need not fit any tool."""


class ToolObserver:
    """Collects calls; what it keeps grows with the tools and their arguments, not with the calls."""

    def __init__(self) -> None:
        self._tools: dict[str, _Shape] = {}

    def observe(self, trajectory: Trajectory) -> None:
        """Take in the calls of a trajectory, apart from those that its harness refused.

        Of a call whose arguments are not a JSON object only the name is kept; the audit reports such a call.
        """
        for index, message in enumerate(trajectory.messages):
            if trajectory.excluded.get(index) in _NOT_A_CALL:
                continue
            for call in message.tool_calls:
                shape = self._tools.setdefault(call.name, _Shape())
                try:
                    arguments = parse_arguments(call.arguments)
                except ValueError:
                    continue
                shape.observe(arguments)

    def tools(self) -> tuple[Tool, ...]:
        """A tool for every name called, in the order of their first calls."""
        return tuple(
            Tool(name=name, parameters={"type": "object", **shape.schema()}) for name, shape in self._tools.items()
        )


class _Shape:
    """The values seen in one place."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._kinds: set[str] = set()
        self._items: _Shape | None = None
        self._num_objects = 0
        self._properties: dict[str, _Shape] | None = {}
        self._num_times: dict[str, int] = {}

    def observe(self, value: Any) -> None:
        kind = "integer" if type(value) is int else kind_of(value)
        self._kinds.add(kind)
        if self._depth == _MAX_DEPTH:
            return
        if kind == "array":
            for item in value:
                self._items = self._items or _Shape(self._depth + 1)
                self._items.observe(item)
        elif kind == "object":
            self._observe_object(value)

    def _observe_object(self, value: dict[str, Any]) -> None:
        self._num_objects += 1
        for key, item in value.items():
            if self._properties is None:
                return
            shape = self._properties.get(key)
            if shape is None:
                shape = self._properties[key] = _Shape(self._depth + 1)
            shape.observe(item)
            self._num_times[key] = self._num_times.get(key, 0) + 1
            if len(self._properties) > _MAX_NAMES:
                self._properties = None
                self._num_times.clear()

    def schema(self) -> dict[str, Any]:
        """A JSON schema that admits every value seen."""
        kinds = sorted(self._kinds - {"integer"} if "number" in self._kinds else self._kinds)
        alternatives = [self._of_kind(kind) for kind in kinds]
        return alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives} if alternatives else {}

    def _of_kind(self, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = {"type": kind}
        if kind == "array" and self._items is not None:
            found["items"] = self._items.schema()
        if kind == "object" and self._properties:
            found["properties"] = {key: shape.schema() for key, shape in self._properties.items()}
            if required := [key for key, times in self._num_times.items() if times == self._num_objects]:
                found["required"] = required
        return found
