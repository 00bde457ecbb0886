"""Room for adapters in vLLM. Needs no torch."""

from __future__ import annotations

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values of ``--max-lora-rank`` that it takes."""


def room_for(rank: int) -> int | None:
    """The value for adapters of this rank; None if there is none."""
    return next((size for size in RANKS if size >= rank), None)
