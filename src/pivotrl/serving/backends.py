"""Who draws the tokens: the seat between the endpoint and an engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from pivotrl.protocols.live import Ask, News
from pivotrl.serving.refusals import Refused


@dataclass(frozen=True)
class Begun:
    """A prompt was taken up."""

    num_cached: int
    """Its tokens that had been computed for an earlier request."""


Told = tuple[int, Begun | News]
"""(number of the prompt, what is new of it)"""

Mailbox = asyncio.Queue[Sequence[Told] | Refused]


async def told_in(mailbox: Mailbox) -> AsyncIterator[Sequence[Told]]:
    """What is put into a mailbox, without end.

    Raises:
        Refused: when one is put in.
    """
    while True:
        told = await mailbox.get()
        if isinstance(told, Refused):
            raise told
        yield told


class Backend(Protocol):
    """Draws samples for several requests side by side."""

    @property
    def fault(self) -> str | None:
        """Why it answers no more requests; None while it does."""
        ...

    @property
    def tells_tops(self) -> bool:
        """Whether it can tell the most likely tokens, and log-probabilities at any temperature."""
        ...

    def open(self, asks: Sequence[Ask]) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Told]]]:
        """The news of some prompts. Leaving the context gives up what is not finished, and frees its room.

        Raises:
            Refused: the backend is out of order, or has no memory for the prompts.
        """
        ...

    def close(self) -> None:
        """Give up everything."""
        ...
