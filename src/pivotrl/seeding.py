"""Randomness fixed by what it is for, never by when or where it is drawn."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import numpy.typing as npt


def uniforms(seed: int, turn_id: str, index: int, count: int) -> npt.NDArray[np.float64]:
    """``count`` numbers in [0, 1) that depend on (seed, turn id, sample index) alone; more of them keep the first."""
    digest = hashlib.sha256(f"{seed}/{turn_id}/{index}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little"))).random(count)


def race_times(seed: int, key: str, index: int, place: int, count: int) -> npt.NDArray[np.float32]:
    """``count`` standard exponential numbers that depend on (seed, key, sample index, place in the sample) alone."""
    digest = hashlib.sha256(f"race/{seed}/{key}/{index}/{place}".encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    return generator.standard_exponential(count, dtype=np.float32)


def derive_seed(seed: int, *parts: str | int) -> int:
    """A 63-bit seed of its own for each purpose: ``derive_seed(seed, "train", step)``.

    Parts are told apart by place and type: ("a", "b"), ("ab",) and ("1",), (1,) all give different seeds.
    """
    digest = hashlib.sha256(json.dumps([seed, *parts]).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
