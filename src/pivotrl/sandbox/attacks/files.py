"""Attempts on the file system: read or change anything outside, in every possible way."""

# ruff: noqa: S108 - the paths are what is attacked

from __future__ import annotations

from pathlib import Path

from pivotrl.sandbox.attacks.attempt import Attempt, Judge, claimed, created, leaked, read_out, written
from pivotrl.sandbox.attacks.planted_secrets import SYSTEM_DIRECTORIES

READ = """
import os, sys, glob
for path in sys.argv[1:]:
    for found in glob.glob(path) or [path]:
        try: print(os.read(os.open(found, os.O_RDONLY | os.O_NONBLOCK), 65536))
        except OSError as error: print(error)
"""
WRITE = """
import sys
for path in sys.argv[1:]:
    try: open(path, 'a').write('breach')
    except OSError as error: print(error)
"""
_THROUGH_LINK = """
import os, sys
for make in (os.symlink, os.link):
    try: make(sys.argv[1], 'way'); {use}
    except OSError as error: print(error)
    try: os.unlink('way')
    except OSError: pass
"""
_PLANT = "import os, sys; os.chdir(sys.argv[2]); os.symlink(sys.argv[1], sys.argv[3])"
_OPEN_AT = """
import os, sys
if len(sys.argv) > 2: os.open(sys.argv[2], os.O_RDONLY)
for fd in range(0, 64):
    try: print(os.read(os.open(sys.argv[1].lstrip('/'), os.O_RDONLY, dir_fd=fd), 4096))
    except OSError: pass
    try: print(os.pread(fd, 4096, 0))
    except OSError: pass
"""
_MOUNT = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
os.makedirs('at', exist_ok=True)
kind, source, flags = sys.argv[1], sys.argv[2], int(sys.argv[3])
code = libc.mount(source.encode(), b'at' if kind != 'remount' else source.encode(), kind.encode(), flags, None)
print('REACHED' if code == 0 or ctypes.get_errno() not in (1, 13, 38) else 'refused', ctypes.get_errno())
"""
_NODE = """
import os, stat, sys
try: os.mknod(sys.argv[1], stat.S_IFBLK | 0o600, os.makedev(int(sys.argv[2]), 0)); print('REACHED')
except OSError as error: print('refused' if error.errno in (1, 13, 38) else 'REACHED', error)
"""
_SET_ID = """
import os
for call in (os.setuid, os.setgid):
    try: call(65534 if os.getuid() == 0 else 0); print('REACHED', os.getresuid())
    except OSError as error: print('refused' if error.errno in (1, 13, 22, 38) else 'REACHED', error)
"""
_WIPE = """
import os, shutil, sys
where = sys.argv[1]
for name in os.listdir(where):
    path = os.path.join(where, name)
    shutil.rmtree(path, True) if os.path.isdir(path) else os.unlink(path)
open(os.path.join(where, 'file'), 'w').write('other')
"""
ROUTES = {
    "absolute path": "{0}",
    "dots": "../../../../../../..{0}",
    "dots from /usr": "/usr/../..{0}",
    "root of this process": "/proc/self/root{0}",
    "root of the first process": "/proc/1/root{0}",
    "root of any process": "/proc/[0-9]*/root{0}",
    "root of any thread": "/proc/[0-9]*/task/*/root{0}",
    "cwd of this process": "/proc/self/cwd/../../../..{0}",
    "cwd of the first process": "/proc/1/cwd/../../../..{0}",
    "map of files": "/proc/[0-9]*/map_files/*",
    "open files of this process": "/proc/self/fd/*",
    "open files of the first process": "/proc/1/fd/*",
    "open files of any process": "/proc/[0-9]*/fd/*",
    "keeper's lower directory": "/tmp/lower{0}",
    "dev fd": "/dev/fd/*",
}
"""Ways to the same file."""


_OTHER_IN_CONTROL = ("process", "thread", "files", "keeper", "dev fd")
"""Routes that lead elsewhere, or to too much, on the host: the control goes straight."""


def _through(name: str, route: str, script: str, judge: Judge, target: str) -> Attempt:
    straight = any(word in name for word in _OTHER_IN_CONTROL)
    told = f"{{{target}}}"
    return Attempt(name, "files", script, judge, (route.replace("{0}", told),), (told,) if straight else None)


def _mounts() -> list[Attempt]:
    ways = {"bind mount": ("none", "{folder}", 4096), "remount /usr for writing": ("remount", "/usr", 32 | 4096)}
    ways |= {f"mount {kind}": (kind, kind, 0) for kind in ("proc", "sysfs", "devtmpfs", "tmpfs", "cgroup2", "overlay")}
    return [
        Attempt(name, "files", _MOUNT, claimed, (kind, source, str(flags)), control_calls=("mount",))
        for name, (kind, source, flags) in ways.items()
    ]


def _left_behind() -> list[Attempt]:
    """Links for whoever looks at the work directory from outside."""
    return [
        Attempt(name, "files", _PLANT, read_out(path), (target, ".", "way"), (target, "{scratch}", "way"))
        for name, target, path in (
            ("plant a link to the secret", "{secret}", "way"),
            ("plant a link to its directory", "{folder}", "way/secret"),
            ("plant a link through /proc", "/proc/self/root{secret}", "way"),
        )
    ]


def attempts() -> list[Attempt]:
    found = [_through(f"read by {name}", route, READ, leaked, "secret") for name, route in ROUTES.items()]
    found += [_through(f"write by {name}", route, WRITE, written, "open") for name, route in list(ROUTES.items())[:7]]
    for directory in SYSTEM_DIRECTORIES:
        path = str(Path(directory, "{nonce}"))
        found.append(
            Attempt(f"create a file in {directory}", "files", WRITE, created, (path,), ("{scratch}/usr/{nonce}",))
        )
    found += [
        Attempt(
            "read through a link", "files", _THROUGH_LINK.format(use="print(open('way').read())"), leaked, ("{secret}",)
        ),
        Attempt(
            "write through a link",
            "files",
            _THROUGH_LINK.format(use="open('way', 'a').write('x')"),
            written,
            ("{open}",),
        ),
        Attempt("read below inherited files", "files", _OPEN_AT, leaked, ("{secret}",), ("secret", "{folder}")),
        Attempt("read a link that came with the files", "files", READ, leaked, ("link",), ("{environment}/link",)),
        Attempt("change the environment's own directory", "files", _WIPE, written, (".",), ("{environment}",)),
        Attempt("change it by its path", "files", _WIPE, written, ("{environment}",)),
        Attempt("become another user", "files", _SET_ID, claimed, control_calls=("setuid", "setgid")),
    ]
    for name, major in (("virtual", 254), ("SCSI", 8)):
        words, calls = ("node", str(major)), ("mknod", "mknodat")
        found.append(Attempt(f"make a node of a {name} disk", "files", _NODE, claimed, words, control_calls=calls))
    return [*found, *_mounts(), *_left_behind()]
