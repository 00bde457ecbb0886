"""A sampler for tests of workers: it writes down each turn that it samples, and dies, hangs or refuses where told."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl import Action, Turn
from pivotrl.protocols import InputError, Notice
from pivotrl.records import Completion, SampleGroup, Sampling
from pivotrl.seeding import uniforms


class Sampler:
    """Sample ``g`` at a turn is its expected action or a wrong one, by the seed, the turn and ``g`` alone.

    Args:
        log: file that takes a line ``process turn`` for each turn, before it is sampled.
        seconds: how long a turn takes.
        dies_at: a turn id, or ``*``: the process kills itself there.
        refuses_at: there it raises InputError.
        stops_at: there the process is stopped, as one that hangs is.
        told: a notice with each call.
        name: part of the identity.
    """

    def __init__(
        self,
        *,
        log: str,
        seconds: float = 0.0,
        dies_at: str = "",
        refuses_at: str = "",
        stops_at: str = "",
        told: str = "",
        name: str = "draws",
    ) -> None:
        self._log, self._seconds, self._told = log, seconds, told
        self._dies_at, self._refuses_at, self._stops_at = dies_at, refuses_at, stops_at
        self.identity: dict[str, Any] = {"sampler": name}

    def fits(self, turn: Turn, max_tokens: int) -> bool:
        return True

    def sample(
        self, turns: Sequence[Turn], num_samples: int, sampling: Sampling, first: int = 0
    ) -> Iterator[SampleGroup]:
        if self._told:
            warnings.warn(self._told, Notice, stacklevel=2)
        for turn in turns:
            with Path(self._log).open("a") as file:
                file.write(f"{os.getpid()} {turn.id}\n")
            if self._refuses_at in ("*", turn.id):
                raise InputError(f"{turn.id} is refused; ask elsewhere")
            for place, number in ((self._dies_at, signal.SIGKILL), (self._stops_at, signal.SIGSTOP)):
                if place in ("*", turn.id):
                    os.kill(os.getpid(), number)
            time.sleep(self._seconds)
            numbers = range(first, first + num_samples)
            yield SampleGroup(
                turn_id=turn.id,
                completions_G=tuple(self._drawn(turn, sampling.seed, number) for number in numbers),
                first=first,
            )

    def _drawn(self, turn: Turn, seed: int, number: int) -> Completion:
        uniform = float(uniforms(seed, turn.id, number, 1)[0])
        action = turn.expected_action if uniform < 0.5 else Action(content=f"wrong {uniform}")
        text = action.content or ""
        return Completion(action=action, text=text, token_ids_T=(), logprobs_T=(), finish_reason="stop")
