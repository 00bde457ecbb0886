"""A Gym server's answer, and the two ways in which its rules read JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Call = tuple[str, str]
"""(name, arguments as the text that was written)"""


@dataclass(frozen=True)
class GymResult:
    """Gym's answer to one action."""

    reward: float
    """In [0, 1]."""
    reason: str
    """Gym's category or failure code as a name, such as ``unexpected_tool``."""
    category: str
    """Gym's own text for it, as its response holds it; empty where the server has none."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """What the server measured, such as a similarity."""


class GymFails(ValueError):
    """The row makes Gym's server break off without a reward."""


def result(reward: float, category: StrEnum, **detail: Any) -> GymResult:
    """A result whose reason is the name of its category."""
    return GymResult(reward, category.name.lower(), category.value, detail)


def parse(text: str) -> Any:
    """JSON as Python reads it: NaN and repeated keys are taken.

    Raises:
        ValueError: it is not JSON, or more than Python's parser can take, where Gym breaks off.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
