"""How much a packed file may unpack to: a limit relative to its size, against decompression bombs."""

from __future__ import annotations

from pathlib import Path

from pivotrl.protocols import InputError

MAX_RATIO = 250
"""Logs that repeat themselves a lot are packed to a hundredth; a file of blanks to a thousandth and less."""
_ALWAYS_ALLOWED = 16 << 20


def max_unpacked(packed: int) -> int:
    """Bytes that this many packed bytes may unpack to."""
    return max(_ALWAYS_ALLOWED, MAX_RATIO * packed)


def require_proportion(path: Path, unpacked: int, remedy: str = "unpack it yourself and give what comes out") -> None:
    """Refuse a file that unpacks to too much.

    Raises:
        InputError: it is over :data:`MAX_RATIO` times the file's size, and over 16 MiB.
    """
    if unpacked > max_unpacked(path.stat().st_size):
        raise InputError(
            f"{path} unpacks to more than {MAX_RATIO} times its size; if that is as it should be, {remedy}"
        )
