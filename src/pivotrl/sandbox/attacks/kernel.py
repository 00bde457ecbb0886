"""Attempts on the kernel: namespaces, and every call, device and setting that is of no use to an honest command."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace

from pivotrl.sandbox import seccomp
from pivotrl.sandbox.attacks.attempt import Attempt, Category, claimed
from pivotrl.sandbox.attacks.calls import number

CALL = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
number, *values = [ctypes.c_long(int(word)) for word in sys.argv[1:]]
code = 0 if libc.syscall(number, *values) >= 0 else ctypes.get_errno()
print('refused' if code in (1, 13, 38, 97) else 'REACHED', code, flush=True)
"""
"""Makes one system call. EPERM, EACCES, ENOSYS and EAFNOSUPPORT are refusals; any other answer is the kernel's."""
_CLONE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
found = libc.syscall(ctypes.c_long(int(sys.argv[1])), ctypes.c_long(int(sys.argv[2]) | 17), 0, 0, 0, 0)
if found == 0: os._exit(0)
print('refused' if found < 0 and ctypes.get_errno() in (1, 13, 38) else 'REACHED', ctypes.get_errno(), flush=True)
"""
_SETNS = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for path in ('/proc/1/ns/', '/proc/self/ns/'):
    try: fd = os.open(path + sys.argv[2], os.O_RDONLY)
    except OSError: continue
    found = libc.syscall(ctypes.c_long(int(sys.argv[1])), ctypes.c_long(fd), ctypes.c_long(0))
    code = 0 if found >= 0 else ctypes.get_errno()
    print('refused' if code in (1, 13, 22, 38) else 'REACHED', code, flush=True)
"""
_OPEN = """
import os, sys
for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDONLY)[:int(sys.argv[2])]:
    try: os.close(os.open(sys.argv[1], flags | os.O_NONBLOCK | os.O_NOCTTY)); print('REACHED', sys.argv[1])
    except OSError as error: print(error)
"""
_RUN = """
import subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
print('REACHED' if 'inside' in done.stdout else 'refused', done.stderr[:200])
"""
_INT_80 = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes([0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3]))
found = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
print('REACHED' if found > 0 else 'refused', found)
"""
NAMESPACES = {
    **{"user": 0x10000000, "mnt": 0x00020000, "pid": 0x20000000, "net": 0x40000000, "ipc": 0x08000000},
    **{"uts": 0x04000000, "cgroup": 0x02000000, "time": 0x00000080},
}
DEVICES = (
    *("kvm", "mem", "kmsg", "port", "fuse", "net/tun", "loop-control", "loop0", "vda", "sda", "nvme0n1", "vsock"),
    *("vhost-net", "vhost-vsock", "uinput", "snapshot", "cpu/0/msr", "console", "tty0", "mapper/control", "nvidia0"),
)
SETTINGS = (
    *("kernel/core_pattern", "kernel/modprobe", "kernel/hotplug", "kernel/randomize_va_space", "kernel/panic"),
    *("kernel/sysrq", "kernel/yama/ptrace_scope", "kernel/unprivileged_bpf_disabled", "kernel/core_uses_pid"),
    *("vm/overcommit_memory", "vm/drop_caches", "vm/mmap_min_addr", "vm/panic_on_oom", "fs/suid_dumpable"),
    *("fs/protected_symlinks", "fs/binfmt_misc/register", "net/ipv4/ip_forward", "user/max_user_namespaces"),
)
"""Opened for writing, never written."""


def _call(name: str, category: Category, arguments: Sequence[int], title: str = "") -> Attempt:
    words = (str(number(name)), *map(str, arguments))
    return Attempt(title or f"call {name}", category, CALL, claimed, words, control_calls=(name,))


def _open(path: str, ways: int = 1) -> Attempt:
    """For writing; with three ways, also for reading."""
    words, control = (path, str(ways)), ("{scratch}/sysctl", str(ways))
    return Attempt(f"open {path}", "kernel", _OPEN, claimed, words, control, of_this_kernel=True)


def _of_namespaces() -> list[Attempt]:
    found = [_call("clone3", "namespaces", [-1] * 2)]
    for name, flag in NAMESPACES.items():
        found.append(_call("unshare", "namespaces", [flag], f"unshare {name}"))
        words = (str(number("setns")), name)
        found.append(Attempt(f"setns {name}", "namespaces", _SETNS, claimed, words, control_calls=("setns",)))
        if name != "time":  # its flag is unshare's alone
            words = (str(number("clone")), str(flag))
            attempt = Attempt(f"clone {name}", "namespaces", _CLONE, claimed, words, control_calls=("clone",))
            found.append(replace(attempt, of_this_kernel=True))
    nested = ("bwrap", "--ro-bind", "/", "/", "--unshare-all", "echo", "inside")
    for program in (("unshare", "-r", "echo", "inside"), ("unshare", "-rmpf", "echo", "inside"), nested):
        name = f"run {' '.join(program[:2])}"
        found.append(Attempt(name, "namespaces", _RUN, claimed, program, ("sh", "-c", "echo inside")))
    return found


def attempts() -> list[Attempt]:
    forbidden = {**seccomp.FORBIDDEN, **seccomp.ABSENT}.keys() - {"unshare", "setns", "clone3"}
    found = [_call(name, "kernel", [-1] * 6) for name in sorted(forbidden) if number(name) is not None]
    found += _of_namespaces()
    found.append(_call("new", "kernel", [-1] * 6, "a call newer than the filter"))
    by_argument = [
        _call("personality", "kernel", [0x0040000], "switch address randomisation off"),
        _call("personality", "kernel", [0x0400000], "make every mapping executable"),
        _call("ioctl", "kernel", [0, 0x5412, -1], "type into the terminal"),
        _call("ioctl", "kernel", [0, 0x541C, -1], "drive the console"),
    ]
    found += [replace(attempt, of_this_kernel=True) for attempt in by_argument]
    if platform.machine() == "x86_64":
        found.append(_call("x32 getpid", "kernel", [], "a call of the x32 interface"))
        found.append(Attempt("a 32-bit call by int 0x80", "kernel", _INT_80, claimed))
    found += [_open(f"/dev/{name}", 3) for name in DEVICES]
    found += [_open(f"/proc/sys/{name}") for name in SETTINGS]
    found += [_open(f"/proc/{name}", 3) for name in ("sysrq-trigger", "kcore", "kmsg", "kpagecount", "acpi/wakeup")]
    return found + [_open(f"/sys/{name}") for name in ("kernel/uevent_helper", "power/state", "kernel/mm/ksm/run")]
