"""The files of one session: mounted, compared, read. Runs in the keeper, since they exist only in its namespaces."""

# ruff: noqa: PTH101, PTH102, PTH103, PTH106, PTH118, PTH119, PTH120, PTH123, PTH211

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator

from pivotrl.sandbox.libc import CLONE_NEWNS, CLONE_NEWUSER, call
from pivotrl.sandbox.messages import Message

FULL = "/tmp"  # noqa: S108 - the tmpfs is mounted over it, in the keeper's own namespace
WORK, UPPER, LOWER = f"{FULL}/work", f"{FULL}/upper", f"{FULL}/lower"
_MS_REC, _MS_PRIVATE = 1 << 14, 1 << 18
_MOVE_MOUNT, _MOVE_MOUNT_F_EMPTY_PATH = 429, 0x4


def enter_namespaces(uid: int, gid: int) -> None:
    """A user and mount namespace of our own, in which our ids stay what they are."""
    call("unshare", CLONE_NEWUSER | CLONE_NEWNS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)


def mount_files(request: Message, fds: list[int]) -> str:
    """The session's tmpfs, and the work directory on it. Returns ``overlay``, ``copy`` or ``empty``."""
    files = request["files"]
    source = os.open(files, os.O_PATH | os.O_DIRECTORY) if files and not request["tar"] and not fds else None
    size, inodes = request["disk_bytes"], max(1024, request["disk_bytes"] // 2048)
    options = f"size={size},nr_inodes={inodes},mode=0700".encode()
    call("mount", b"tmpfs", FULL.encode(), b"tmpfs", 0, options)
    for name in ("work", "upper", "inner", "lower"):
        os.mkdir(f"{FULL}/{name}")
    for name in ("tmp", "shm"):
        os.mkdir(f"{FULL}/{name}")
        os.chmod(f"{FULL}/{name}", 0o1777)  # noqa: S103 - as /tmp is
    write_files(request["etc"])
    if request["tar"]:
        with os.fdopen(fds[0], "rb", closefd=False) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            archive.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)  # our own archive, links and all
            archive.extractall(WORK)  # noqa: S202
        return "copy"
    if not files:
        return "empty"
    if fds:
        call("syscall", _MOVE_MOUNT, fds[0], b"", -100, LOWER.encode(), _MOVE_MOUNT_F_EMPTY_PATH)
    else:
        os.rmdir(LOWER)
        os.symlink(f"/proc/self/fd/{source}", LOWER)
    options = f"lowerdir={LOWER},upperdir={UPPER},workdir={FULL}/inner,userxattr,xino=off".encode()
    call("mount", b"overlay", WORK.encode(), b"overlay", 0, options)
    return "overlay"


def write_files(texts: dict[str, str]) -> None:
    for path, text in texts.items():
        os.makedirs(os.path.dirname(f"{FULL}/{path}"), exist_ok=True)
        with open(f"{FULL}/{path}", "w") as file:
            file.write(text)


def _walk(top: str, inside: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Everything below, directories before what they hold; links are not followed."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(os.path.join(top, inside)) as entries:
        for entry in entries:
            path, found = os.path.join(inside, entry.name), entry.stat(follow_symlinks=False)
            yield path, found
            if stat.S_ISDIR(found.st_mode):
                yield from _walk(top, path)


class Hasher:
    """Fingerprints of regular files and links, up to a number of bytes in all."""

    def __init__(self, budget: int) -> None:
        self.budget = budget

    def __call__(self, top: str, path: str) -> str | None:
        """None where there is neither; also below a path that leads through a link."""
        try:
            folder = open_folder(top, os.path.dirname(path))
        except OSError:
            return None
        name = os.path.basename(path)
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                target = os.fsencode(os.readlink(name, dir_fd=folder))
                return f"link {hashlib.sha256(target).hexdigest()}"
            if not stat.S_ISREG(found.st_mode):
                return None
            self.budget -= found.st_size
            if self.budget < 0:
                raise ValueError("the changed files are too large to hash")
            try:
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            except PermissionError:
                return f"unreadable {stat.S_IMODE(found.st_mode):04o} size {found.st_size}"
            with os.fdopen(fd, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            return f"{digest} {stat.S_IMODE(found.st_mode):04o}"
        except FileNotFoundError:
            return None
        finally:
            os.close(folder)


def open_folder(top: str, path: str) -> int:
    """A directory below ``top``, no component of the way being a link or ``..``. Raises OSError."""
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for part in path.split("/"):
        if part in ("", "."):
            continue
        try:
            if part == "..":
                raise FileNotFoundError(path)
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def read_file(path: str, max_bytes: int) -> bytes:
    """Raises OSError; ValueError if it is larger."""
    if path.startswith("/"):
        raise FileNotFoundError(path)
    folder = open_folder(WORK, os.path.dirname(path))
    try:
        fd = os.open(os.path.basename(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise FileNotFoundError(path)
        if len(data := file.read(max_bytes + 1)) > max_bytes:
            raise ValueError(f"{path} is larger than {max_bytes:,} bytes")
    return data


def touched(restore: str, baseline: dict[str, str | None]) -> set[str]:
    """Every path that may differ from the environment directory."""
    if restore != "overlay":
        return set(baseline) | {path for path, found in _walk(WORK) if not stat.S_ISDIR(found.st_mode)}
    paths = set()
    for path, found in _walk(UPPER):
        paths.add(path)  # also of a directory: it may stand where a file was
        if not stat.S_ISDIR(found.st_mode) or "user.overlay.opaque" in os.listxattr(
            f"{UPPER}/{path}", follow_symlinks=False
        ):
            paths |= {below for below, other in _walk(LOWER, path) if not stat.S_ISDIR(other.st_mode)}
    return paths
