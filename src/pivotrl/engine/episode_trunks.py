"""Keys and values of running episodes, kept from one turn to the next.

The next prompt of an episode mostly begins with its last prompt and what was sampled there; then only the rest is
computed. Token ids alone decide what is reused: a template that rewrites earlier turns, or a context window that
slides, cuts the kept part where the ids differ.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pivotrl.engine.forest import Ids, SortedSequences, common_prefix
from pivotrl.engine.prefilling import Known, Prefilled, whole
from pivotrl.engine.split_attention import TrunkState

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass
class _Kept:
    token_ids: Ids
    state: TrunkState
    num_bytes: int
    used: int
    """The last call that asked for the episode."""


class EpisodeTrunks:
    """The last turn of each running episode. What comes before the last ``#`` of a turn id names the episode.

    Nothing is kept outside :meth:`keeping`. Weights are compared at every call (one pass over them, less than a decode
    step takes); others than before empty the store.

    Args:
        max_bytes: of keys and values kept between calls. The episodes that were played longest ago leave first; those
            of the present call never make room for each other, or a round of them would evict each before its turn.

    Attributes:
        num_prefilled: tokens computed for each prompt of the last call; None when it did without the store.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_prefilled: list[int] | None = None
        self._kept: dict[str, _Kept] = {}
        self._weights: tuple[int, ...] = ()
        self._num_calls = self._num_users = 0

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """Inside, episodes are kept; the last one to leave drops them all."""
        self._num_users += 1
        try:
            yield
        finally:
            self._num_users -= 1
            if not self._num_users:
                self._kept.clear()

    @property
    def in_use(self) -> bool:
        return self._num_users > 0

    @property
    def num_bytes(self) -> int:
        """Of the keys and values kept."""
        return sum(kept.num_bytes for kept in self._kept.values())

    def begin(self, model: Any, turn_ids: Sequence[str]) -> None:
        """A call begins that samples at these turns with the model's present weights."""
        weights = checksums(model)
        if weights != self._weights:
            self._kept.clear()
            self._weights = weights
        self._num_calls += 1
        for turn_id in turn_ids:
            if (kept := self._kept.get(_episode(turn_id))) is not None:
                kept.used = self._num_calls

    def known(self, turn_id: str, prompt: Ids) -> Known:
        """What the store has of a prompt's beginning."""
        kept = self._kept.get(_episode(turn_id))
        if kept is None:
            return Known()
        return Known(min(common_prefix(kept.token_ids, prompt), len(prompt) - 1), kept.state)

    def put(self, turn_id: str, token_ids: Sequence[int], start: Prefilled, leaf: int, own: TrunkState) -> None:
        """Keep an episode in place of what was kept of it, if there is room.

        Args:
            token_ids: of the prompt and of what was sampled there.
            start: where the prompt's keys and values are; it ends with the segment ``leaf``.
            own: keys and values of the sampled tokens.
        """
        episode = _episode(turn_id)
        self._kept.pop(episode, None)
        tensors = [*start.trunk.keys.values(), *start.trunk.values.values()]
        num_bytes = sum(tensor.nbytes // tensor.shape[2] * len(token_ids) for tensor in tensors)
        if self._make_room(num_bytes):
            state = whole(start, leaf, own)
            self._kept[episode] = _Kept(np.asarray(token_ids, dtype=np.int64), state, num_bytes, self._num_calls)

    def _make_room(self, num_bytes: int) -> bool:
        """Whether so many bytes fit."""
        idle = sorted((kept.used, key) for key, kept in self._kept.items() if kept.used < self._num_calls)
        while self.num_bytes + num_bytes > self.max_bytes and idle:
            del self._kept[idle.pop(0)[1]]
        return self.num_bytes + num_bytes <= self.max_bytes

    def shrink(self) -> None:
        """Memory ran out: drop all, and keep half as much from now on."""
        self._kept.clear()
        self.max_bytes //= 2


def known_beginnings(trunks: EpisodeTrunks | None, prompts: SortedSequences, turn_ids: Sequence[str]) -> list[Known]:
    """What there is of each sorted prompt; ``turn_ids`` are in the original order."""
    if trunks is None:
        return [Known()] * len(prompts)
    return [trunks.known(turn_ids[original], ids) for original, ids in zip(prompts.order, prompts.ids, strict=True)]


def checksums(model: Any) -> tuple[int, ...]:
    """For each weight the sum of its bits as integers. An update, a checkpoint, an adapter folded in or taken out
    changes them, whoever did it."""
    return tuple(torch.stack([_checksum(weight.detach()) for weight in model.parameters()]).tolist())


def _checksum(weight: Tensor) -> Tensor:
    numbers = weight.flatten().view(_INTEGERS[weight.element_size()])
    together = 8 // weight.element_size()
    if numbers.numel() % together == 0 and numbers.storage_offset() % together == 0:
        numbers = numbers.view(torch.int64)  # four times faster than sums of small integers
    return numbers.sum(dtype=torch.int64)


def _episode(turn_id: str) -> str:
    return turn_id.rpartition("#")[0] or turn_id
