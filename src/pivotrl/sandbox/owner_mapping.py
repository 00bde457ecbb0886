"""For root only: a directory whose owner appears as the sandbox's user, without a file being copied or changed.

An id-mapped mount (Linux 5.12; as a layer of an overlay 5.19). Sandboxed code runs as an ordinary user, so it could
not write to its own copy of files that root owns.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

from pivotrl.sandbox.libc import CLONE_NEWUSER, call

_OPEN_TREE, _MOUNT_SETATTR = 428, 442
_OPEN_TREE_CLONE = 1
_AT_EMPTY_PATH = 0x1000
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV, _MOUNT_ATTR_IDMAP = 0x1, 0x2, 0x4, 0x100000


def clone(files: Path, uid: int, gid: int) -> int:
    """A file descriptor of a detached mount of ``files``, read-only; the directory's owner appears as ``uid``.

    Raises:
        OSError: the kernel or the file system cannot (overlay file systems cannot).
    """
    found = files.stat()
    flags = _MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV | _MOUNT_ATTR_IDMAP
    attributes = struct.pack("=QQQQ", flags, 0, 0, _user_namespace(found.st_uid, uid, found.st_gid, gid))
    tree = call("syscall", _OPEN_TREE, -100, os.fsencode(files), _OPEN_TREE_CLONE | os.O_CLOEXEC)
    try:
        call("syscall", _MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, attributes, ctypes.c_size_t(len(attributes)))
    except OSError:
        os.close(tree)
        raise
    return tree


@cache
def _user_namespace(uid: int, seen_uid: int, gid: int, seen_gid: int) -> int:
    """A user namespace that exists for its two maps alone; kept open."""
    code = f"import ctypes,sys; print(ctypes.CDLL(None).unshare({CLONE_NEWUSER}),flush=True); sys.stdin.read()"
    with subprocess.Popen(  # noqa: S603 - our own line
        [sys.executable, "-I", "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}
    ) as holder:
        assert holder.stdout
        holder.stdout.readline()
        with contextlib.suppress(OSError):  # no rights or no namespace: the caller's mount call says so
            Path(f"/proc/{holder.pid}/uid_map").write_text(f"{uid} {seen_uid} 1")
            Path(f"/proc/{holder.pid}/gid_map").write_text(f"{gid} {seen_gid} 1")
        fd = os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY)
        holder.communicate()
    return fd
