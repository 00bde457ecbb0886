"""The system calls that sandboxed code may not make, as a seccomp filter (classic BPF) that we assemble.

A deny list in the manner of Docker's default profile, with three allow lists inside it: socket families, clone flags
(no new namespaces) and personalities. Numbers of the kernel's own tables (``asm/unistd_64.h``,
``asm-generic/unistd.h``); calls newer than the list below answer ENOSYS, so that libraries fall back.
"""

from __future__ import annotations

import errno
import platform
import socket
import struct

from pivotrl.protocols import InputError

# name: (x86_64, aarch64); None: the machine has no such call
FORBIDDEN: dict[str, tuple[int | None, int | None]] = {
    # namespaces and mounts
    **{"unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41)},
    **{"chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430)},
    **{"fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442)},
    # files by handle, past every mount
    **{"name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262)},
    # other processes
    **{"ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272)},
    **{"pidfd_getfd": (438, 438), "process_madvise": (440, 440), "move_pages": (279, 239)},
    **{"migrate_pages": (256, 238), "mbind": (237, 235), "set_mempolicy": (238, 237)},
    # large kernel interfaces with a history of holes
    **{"bpf": (321, 280), "perf_event_open": (298, 241), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426)},
    **{"io_uring_register": (427, 427), "userfaultfd": (323, 282), "vmsplice": (278, 75), "modify_ldt": (154, None)},
    **{"keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "memfd_secret": (447, 447)},
    # the machine
    **{"kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "reboot": (169, 142)},
    **{"finit_module": (313, 273), "delete_module": (176, 106), "acct": (163, 89), "swapon": (167, 224)},
    **{"swapoff": (168, 225), "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171)},
    **{"clock_adjtime": (305, 266), "sethostname": (170, 161), "setdomainname": (171, 162), "iopl": (172, None)},
    **{"ioperm": (173, None), "quotactl": (179, 60), "quotactl_fd": (443, 443), "lookup_dcookie": (212, 18)},
    **{"syslog": (103, 116), "vhangup": (153, 58), "uselib": (134, None), "sysfs": (139, None)},
    # memory that neither a sized tmpfs nor a limit on address space bounds
    **{"shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190)},
}
"""Answered with EPERM."""
ABSENT: dict[str, tuple[int | None, int | None]] = {
    "clone3": (435, 435),  # its flags lie in memory, where a filter cannot see them; libc falls back to clone
    "memfd_create": (319, 279),  # files in memory, past every limit but a cgroup's
}
"""Answered with ENOSYS."""
FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)
"""The socket families there are. The namespace has a loopback device of its own and no other."""
NEWEST = 462
"""mseal (Linux 6.10), on every machine."""

_MACHINES = {
    # name: (column, AUDIT_ARCH, socket, socketpair, clone, personality, ioctl)
    "x86_64": (0, 0xC000003E, 41, 53, 56, 135, 16),
    "aarch64": (1, 0xC00000B7, 198, 199, 220, 92, 29),
}
_NEW_NAMESPACE = 0x7E020000
"""Every CLONE_NEW* flag that clone takes (CLONE_NEWTIME is unshare's alone)."""
_INPUT_INJECTION = (0x5412, 0x541C)
"""ioctls TIOCSTI and TIOCLINUX: type into the terminal."""
_X32 = 0x40000000

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE = 0, 4


def number(name: str, machine: str | None = None) -> int | None:
    """The number of a forbidden call; None if the machine has none."""
    column = _machine(machine)[0]
    return {**FORBIDDEN, **ABSENT}[name][column]


def program(machine: str | None = None) -> bytes:
    """The filter as an array of ``struct sock_filter``, for bwrap's ``--seccomp``.

    Raises:
        InputError: this machine is neither x86_64 nor aarch64.
    """
    column, architecture, *arguments = _machine(machine)
    sockets, pairs, clone, personality, ioctl = arguments
    lines = [_load(_ARCHITECTURE), _op(_JUMP_EQUAL, architecture, 1, 0), _op(_RETURN, _KILL), _load(_NUMBER)]
    if column == 0:
        lines += _answer(_op(_JUMP_AT_LEAST, _X32, 0, 1), errno.ENOSYS)
    lines += _answer(_op(_JUMP_AT_LEAST, NEWEST + 1, 0, 1), errno.ENOSYS)
    for table, code in ((FORBIDDEN, errno.EPERM), (ABSENT, errno.ENOSYS)):
        for numbers in table.values():
            if (wanted := numbers[column]) is not None:
                lines += _answer(_op(_JUMP_EQUAL, wanted, 0, 1), code)
    allowed = tuple(int(family) for family in FAMILIES)
    lines += _unless(sockets, 0, allowed, errno.EAFNOSUPPORT)
    lines += _unless(pairs, 0, allowed, errno.EAFNOSUPPORT)
    lines += _unless(personality, 0, (0, 0xFFFFFFFF), errno.EPERM)
    lines += _when(clone, _op(_JUMP_BITS, _NEW_NAMESPACE, 0, 1), 0)
    for request in _INPUT_INJECTION:
        lines += _when(ioctl, _op(_JUMP_EQUAL, request, 0, 1), 1)
    return b"".join([*lines, _op(_RETURN, _ALLOW)])


def _machine(name: str | None) -> tuple[int, ...]:
    name = name or platform.machine()
    if name not in _MACHINES:
        raise InputError(
            f"the sandbox's seccomp filter knows {' and '.join(_MACHINES)}, not {name!r}; run on one of them"
        )
    return _MACHINES[name]


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _load(offset: int) -> bytes:
    return _op(_LOAD, offset)


def _argument(index: int) -> bytes:
    """The low half of an argument: what the kernel takes where the argument is an int."""
    return _load(16 + 8 * index)


def _answer(test: bytes, code: int) -> list[bytes]:
    """``test`` falls through when true and skips one line when false."""
    return [test, _op(_RETURN, _ERRNO | code)]


def _when(call: int, test: bytes, argument: int) -> list[bytes]:
    """EPERM for the call when its argument passes the test. The call's number is loaded before and after."""
    body = [_argument(argument), *_answer(test, errno.EPERM), _load(_NUMBER)]
    return [_op(_JUMP_EQUAL, call, 0, len(body)), *body]


def _unless(call: int, argument: int, allowed: tuple[int, ...], code: int) -> list[bytes]:
    """An error for the call unless its argument is one of the allowed."""
    left = range(len(allowed), 0, -1)
    tests = [_op(_JUMP_EQUAL, value, steps, 0) for value, steps in zip(allowed, left, strict=True)]
    body = [_argument(argument), *tests, _op(_RETURN, _ERRNO | code), _load(_NUMBER)]
    return [_op(_JUMP_EQUAL, call, 0, len(body)), *body]
