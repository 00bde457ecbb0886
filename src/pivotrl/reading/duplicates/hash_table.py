"""A table from 64-bit hashes to numbers that takes about 20 bytes an entry; a dict takes five times as many."""

from __future__ import annotations

from array import array

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
        keys, last = self._keys, self._last
        slot = key & last
        while there := keys[slot]:
            if there == key:
                return
            slot = (slot + 1) & last
        keys[slot], self._numbers[slot] = key, number
        self._num_entries += 1
        if self._num_entries > _MAX_LOAD * len(keys):
            numbers = self._numbers
            self._resize(2 * len(keys))
            for old, value in zip(keys, numbers, strict=True):
                if old:
                    self.add(old, value)

    def _resize(self, num_slots: int) -> None:
        self._keys = array("Q", bytes(8 * num_slots))  # 0 marks a free slot
        self._numbers = array("I", bytes(4 * num_slots))
        self._last = num_slots - 1
        self._num_entries = 0
