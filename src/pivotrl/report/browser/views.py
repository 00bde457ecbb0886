"""What an environment's module draws beside a message: a grid, a map, a difference. It may export ``render_view``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pivotrl.environments import RenderView, load_view
from pivotrl.protocols import InputError
from pivotrl.records import Trajectory
from pivotrl.report.browser.packing import json_text

KINDS = ("grid", "text", "diff", "map")
_MAX_CHARACTERS = 50_000


@dataclass
class Views:
    """The hooks of some environments. One that fails is told of once and not called again."""

    hooks: dict[str, RenderView] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, environments: Sequence[str], must_exist: bool) -> Views:
        """
        Args:
            environments: names, with or without options.
            must_exist: an environment that cannot be imported is an error, not a notice.

        Raises:
            InputError: it is one.
        """
        found = cls()
        for name in environments:
            try:
                hook = load_view(name)
            except InputError as error:
                if must_exist:
                    raise
                found.notices.append(f"no pictures of {name}: {error}")
                continue
            if hook is not None:
                found.hooks[name] = hook
        return found

    def of_trajectory(self, trajectory: Trajectory) -> dict[str, Any]:
        """Message index -> what to draw there, by the first environment that draws anything."""
        for name, hook in list(self.hooks.items()):
            try:
                drawn = _checked(hook(trajectory.messages, dict(trajectory.metadata)), len(trajectory.messages))
            except Exception as error:  # a user's module may raise anything
                del self.hooks[name]
                told = " ".join(str(error).split())
                self.notices.append(
                    f"no pictures of {name}: its render_view failed at {trajectory.id} ({type(error).__name__}: {told})"
                )
                continue
            if drawn:
                return drawn
        return {}


def _checked(drawn: Any, num_messages: int) -> dict[str, Any]:
    if not isinstance(drawn, dict):
        raise TypeError(f"it returned {type(drawn).__name__}, not a dict of views by message index")
    found: dict[str, Any] = {}
    for index, view in drawn.items():
        if type(index) is not int or not 0 <= index < num_messages:
            raise ValueError(f"there is no message {index!r}")
        if not isinstance(view, dict) or view.get("kind") not in KINDS:
            raise ValueError(f"the view of message {index} must be a dict whose kind is one of {', '.join(KINDS)}")
        text = json_text(view)
        found[str(index)] = json.loads(text) if len(text) <= _MAX_CHARACTERS else _too_long(len(text))
    return found


def _too_long(number: int) -> dict[str, Any]:
    return {"kind": "text", "text": f"(the view has {number:,} characters; at most {_MAX_CHARACTERS:,} are shown)"}
