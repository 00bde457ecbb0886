"""A table of action probabilities whose process "dies" after some calls."""

from __future__ import annotations

from typing import Any

from pivotrl.policies.tabular import Policy


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


class Dying(Policy):
    """Draws ``after`` times and then dies."""

    def __init__(self, after: int, **options: Any) -> None:
        super().__init__(**options)
        self._left = after

    def sample(self, *arguments: Any, **options: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise Killed
        return super().sample(*arguments, **options)
