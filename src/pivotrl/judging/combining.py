"""What verifiers made of verifiers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pivotrl.plugins import load_each
from pivotrl.protocols import Turn, Verifier
from pivotrl.records import Action, Verdict


@dataclass(frozen=True, kw_only=True)
class Combined:
    """Several verifiers, asked in order.

    Raises:
        InputError: on creation, ``verifiers`` names none, or one that does not exist.
    """

    verifiers: Sequence[str | Verifier]

    concurrent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "verifiers", load_each("verifiers", self.verifiers))

    def ask(self, turn: Turn, action: Action, is_enough: Callable[[Verdict], bool]) -> list[Verdict]:
        """The verdicts in order, up to the first that is enough."""
        said: list[Verdict] = []
        for verify in self.verifiers:
            assert callable(verify)
            said.append(verify(turn, action))
            if is_enough(said[-1]):
                break
        return said
