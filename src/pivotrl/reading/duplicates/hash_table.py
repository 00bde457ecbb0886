"""A table from 64-bit hashes to numbers that takes about 20 bytes an entry; a dict takes five times as many."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

_MAX_LOAD = 0.7


class HashTable:
    """Hashes in (0, 2⁶⁴) -> numbers below 2³²; of two numbers for a hash the first stays."""

    def __init__(self) -> None:
        self._resize(64)

    def __len__(self) -> int:
        return self._num_entries

    @property
    def num_bytes(self) -> int:
        return len(self._keys) * (self._keys.itemsize + self._numbers.itemsize)

    def get(self, key: int) -> int | None:
        """The number of a hash, None when it has none."""
        keys, last = self._keys, self._last
        slot = key & last
        while there := keys[slot]:
            if there == key:
                return self._numbers[slot]
            slot = (slot + 1) & last
        return None

    def add(self, key: int, number: int) -> None:
        """Give a hash its number, unless it has one."""
        self.add_all((key,), number)

    def add_all(self, keys: Sequence[int], number: int) -> None:
        """Give each of these hashes the number, unless it has one."""
        while self._num_entries + len(keys) > _MAX_LOAD * len(self._keys):
            self._grow()
        table, last = self._keys, self._last
        for key in keys:
            slot = key & last
            while (there := table[slot]) and there != key:
                slot = (slot + 1) & last
            if not there:
                table[slot], self._numbers[slot] = key, number
                self._num_entries += 1

    def _grow(self) -> None:
        """Twice as many slots. Of hashes that want the same slot, one gets it and the others go on to the next."""
        keys, numbers = np.frombuffer(self._keys, np.uint64), np.frombuffer(self._numbers, np.uint32)
        full = keys.nonzero()[0]
        keys, numbers = keys[full], numbers[full]
        self._resize(2 * len(self._keys))
        new_keys, new_numbers = np.frombuffer(self._keys, np.uint64), np.frombuffer(self._numbers, np.uint32)
        slots = (keys & np.uint64(self._last)).astype(np.intp)
        while len(keys):
            is_free = new_keys[slots] == 0
            new_keys[slots[is_free]] = keys[is_free]
            left = new_keys[slots] != keys
            new_numbers[slots[~left]] = numbers[~left]
            keys, numbers, slots = keys[left], numbers[left], (slots[left] + 1) & self._last
        self._num_entries = len(full)

    def _resize(self, num_slots: int) -> None:
        self._keys = array("Q", bytes(8 * num_slots))  # 0 marks a free slot
        self._numbers = array("I", bytes(4 * num_slots))
        self._last = num_slots - 1
        self._num_entries = 0
