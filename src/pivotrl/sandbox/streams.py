"""Input and output of a command."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence

from pivotrl.sandbox.interface import FLOOD_FACTOR, Finished

MAX_WORD, MAX_WORDS = 1 << 17, 1 << 20
UNFIT = Finished(126, b"", b"these words cannot be given to a program\n", False, False, 0.0)
"""The result of a command that cannot start: the command's fault, not the sandbox's."""
_SEALS = 0x0F
"""F_SEAL_SEAL, SHRINK, GROW and WRITE: sandboxed code may open the file again, and must not grow it."""
_CHUNK = 1 << 16


def unfit(command: Sequence[str]) -> bool:
    """No program can be given these words: the kernel's limits, NUL, or text that is no file name."""
    try:
        words = [os.fsencode(word) for word in command]
    except UnicodeEncodeError:
        return True
    return not words or any(b"\0" in w or len(w) >= MAX_WORD for w in words) or sum(map(len, words)) > MAX_WORDS


def content_file(content: bytes) -> int:
    """A file descriptor to read ``content`` from, which nobody can write to."""
    fd = os.memfd_create("content", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    left = memoryview(content)
    while left:
        left = left[os.write(fd, left) :]
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


class Stream:
    """One output of a command: a pipe whose head and tail are kept."""

    def __init__(self, max_bytes: int) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        self._limit, self._total = max_bytes, 0
        self._head, self._tail = bytearray(), bytearray()

    def take(self) -> bool:
        """Read what is available; False if there is nothing, now or ever."""
        try:
            data = os.read(self.reading, _CHUNK)
        except BlockingIOError:
            return False
        self._total += len(data)
        room = self._limit // 2 - len(self._head)
        self._head += data[:room]
        self._tail += data[max(room, 0) :]
        keep = self._limit - self._limit // 2
        if len(self._tail) > 2 * keep + _CHUNK or not data:
            del self._tail[: max(0, len(self._tail) - keep)]
        return bool(data)

    @property
    def truncated(self) -> bool:
        return self._total > self._limit

    @property
    def flooded(self) -> bool:
        return self._total > FLOOD_FACTOR * self._limit

    def kept(self) -> bytes:
        """Everything, or the head and the tail."""
        keep = self._limit - self._limit // 2
        return bytes(self._head + self._tail[max(0, len(self._tail) - keep) :])

    def close_writing(self) -> None:
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1

    def close(self) -> None:
        self.close_writing()
        os.close(self.reading)
