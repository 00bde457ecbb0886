"""The few C library calls that Python does not provide."""

from __future__ import annotations

import ctypes
import os
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000


def call(name: str, *arguments: Any) -> int:
    """A function of the C library that answers -1 for an error. Raises OSError."""
    found = int(getattr(LIBC, name)(*arguments))
    if found == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
    return found
