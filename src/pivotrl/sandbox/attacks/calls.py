"""System calls by number, and a filter that answers some of them without making them: the control of a refusal.

That a call was refused shows nothing when it was never made, or when it would have been refused anyway. So its script
is run a second time, on the host, under a filter that answers with an error of its own: the script must report that.
Nothing is done, whoever runs it.
"""

from __future__ import annotations

import platform
import struct

from pivotrl.sandbox import seccomp

MARK = 99
"""EADDRNOTAVAIL: none of the calls here gives it."""
_MORE = {
    **{"setuid": (105, 146), "setgid": (106, 144), "mknod": (133, None), "mknodat": (259, 33), "clone": (56, 220)},
    **{"socket": (41, 198), "personality": (135, 92), "ioctl": (16, 29), "setpriority": (141, 140)},
    **{"sched_setscheduler": (144, 119), "setrlimit": (160, 164), "prlimit64": (302, 261), "chmod": (90, None)},
    **{"capset": (126, 91), "kill": (62, 129), "x32 getpid": (0x40000027, None), "new": (600, 600)},
}


def number(name: str) -> int | None:
    """None where this machine has no such call."""
    column = 0 if platform.machine() == "x86_64" else 1
    return {**seccomp.FORBIDDEN, **seccomp.ABSENT, **_MORE}[name][column]


def answering(names: tuple[str, ...]) -> str:
    """Python that makes the rest of its program run under such a filter."""
    lines = [(0x20, 0, 0, 0)]
    for wanted in filter(None, map(number, names)):
        lines += [(0x15, 0, 1, wanted), (0x06, 0, 0, 0x00050000 | MARK)]
    lines += [(0x06, 0, 0, 0x7FFF0000)]
    program = b"".join(struct.pack("=HBBI", code, yes, no, value) for code, yes, no, value in lines)
    return f"""
import ctypes
_code = ctypes.create_string_buffer({program!r})
class _Program(ctypes.Structure):
    _fields_ = [('length', ctypes.c_ushort), ('filter', ctypes.c_void_p)]
_libc = ctypes.CDLL(None)
_libc.prctl(38, 1, 0, 0, 0)
_libc.prctl(22, 2, ctypes.byref(_Program({len(lines)}, ctypes.addressof(_code))))
"""
