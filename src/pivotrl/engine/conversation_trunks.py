"""Keys and values of conversations that a server has answered lately.

A chat client sends the whole conversation again at every turn. Its beginning is found among what is kept by comparing
token ids; nobody has to name the conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pivotrl.engine.forest import Ids, common_prefix
from pivotrl.engine.prefilling import Known, Prefilled, whole
from pivotrl.engine.split_attention import TrunkState

_WORTH = 16
"""Tokens that a kept beginning must save: each costs further kernel calls per layer."""


@dataclass
class _Kept:
    token_ids: Ids
    state: TrunkState
    num_bytes: int
    used: int


class ConversationTrunks:
    """The last turn of each conversation; the one unused for longest leaves first.

    Args:
        max_bytes: of all keys and values together.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._kept: list[_Kept] = []
        self._clock = 0

    @property
    def num_bytes(self) -> int:
        """Of the keys and values kept."""
        return sum(kept.num_bytes for kept in self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def known(self, prompt: Ids) -> Known:
        """The longest beginning of a prompt that is kept."""
        shared = [common_prefix(kept.token_ids, prompt) for kept in self._kept]
        if not shared or max(shared) < _WORTH:
            return Known()
        best = max(range(len(shared)), key=shared.__getitem__)
        num_tokens = min(shared[best], len(prompt) - 1)  # the last token predicts the first sampled one
        if num_tokens < _WORTH:
            return Known()
        self._touch(self._kept[best])
        return Known(num_tokens, self._kept[best].state)

    def put(self, token_ids: Sequence[int], start: Prefilled, leaf: int, own: TrunkState) -> None:
        """Keep a conversation, in place of those that it continues, if there is room.

        Args:
            token_ids: of the prompt and of the sampled tokens that went through the model.
            start: where the prompt's keys and values are; it ends with the segment ``leaf``.
            own: keys and values of the sampled tokens.
        """
        ids = np.asarray(token_ids, dtype=np.int64)
        shared = [common_prefix(kept.token_ids, ids) for kept in self._kept]
        for kept, length in zip(self._kept, shared, strict=True):
            if length == len(ids):
                self._touch(kept)
                return
        self._kept = [kept for kept, length in zip(self._kept, shared, strict=True) if length < len(kept.token_ids)]
        tensors = [*start.trunk.keys.values(), *start.trunk.values.values()]
        num_bytes = sum(tensor.nbytes // tensor.shape[2] * len(ids) for tensor in tensors)
        if num_bytes > self.max_bytes:
            return
        self._kept.sort(key=lambda kept: kept.used)
        while self.num_bytes + num_bytes > self.max_bytes:
            del self._kept[0]
        kept = _Kept(ids, whole(start, leaf, own), num_bytes, 0)
        self._touch(kept)
        self._kept.append(kept)

    def shrink(self) -> None:
        """Memory ran out: drop all, and keep half as much from now on."""
        self._kept.clear()
        self.max_bytes //= 2

    def _touch(self, kept: _Kept) -> None:
        self._clock += 1
        kept.used = self._clock
