"""Attempts on time, memory, processes, disk and output: take more than was given, or outlive the command."""

# ruff: noqa: S108 - the paths are what is attacked

from __future__ import annotations

from pivotrl.sandbox.attacks.attempt import Attempt, claimed, kept_too_much, late
from pivotrl.sandbox.interface import MEBIBYTE, Limits

SHORT = Limits(wall_seconds=0.5)
SMALL = Limits(wall_seconds=4.0, memory_bytes=64 * MEBIBYTE, num_processes=24, disk_bytes=4 * MEBIBYTE)
_MORE = str(SMALL.memory_bytes + SMALL.disk_bytes + 24 * MEBIBYTE)
"""Bytes that nothing in a small session may take: control groups count files as memory."""

_HANGS = {
    "loop": "while True: pass",
    "sleep": "import time; time.sleep(60)",
    "read stdin, then sleep": "import sys, time; sys.stdin.read(); time.sleep(60)",
    "deaf to signals": "import signal, time\nfor n in {*range(1, 32)} - {9, 19}: signal.signal(n, 1)\ntime.sleep(60)",
    "stop itself": "import os, signal; os.kill(0, signal.SIGSTOP)",
    "a child holds the output": "import os, time\nif os.fork() == 0: time.sleep(60)\nos.wait()",
    "fork and fork again": "import os, time\nwhile os.fork() == 0: time.sleep(0.02)\ntime.sleep(60)",
    "many threads": "import threading, time\nfor _ in range(8): threading.Thread(target=time.sleep, args=[60]).start()",
    "wait for a lock": "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "a slow trickle": "import time\nwhile True: print('x', flush=True); time.sleep(0.05)",
    "a very large number": "print(7 ** 7 ** 10 % 10)",
    "a regular expression": "import re; re.match('(a+)+$', 'a' * 40 + 'b')",
}
_DAEMONS = {
    "double fork": "import os, time\nif os.fork() == 0:\n  if os.fork() == 0: time.sleep(30)\n  os._exit(0)",
    "own session": "import os, time\nif os.fork() == 0: os.setsid(); time.sleep(30)",
    "own session, no streams": "import os, time\nif os.fork() == 0: os.setsid(); os.closerange(0, 3); time.sleep(30)",
    "deaf child": "import os, signal, time\nif os.fork() == 0: signal.signal(15, 1); time.sleep(30)",
    "stopped child": "import os, signal\nif os.fork() == 0: os.kill(os.getpid(), signal.SIGSTOP)",
    "a tree of children": "import os, time\nfor _ in range(4):\n  if os.fork() == 0: time.sleep(30)",
}
_MEMORY = """
import mmap, os, sys, time
want, step, held, total = int(sys.argv[1]), 1 << 23, [], 0
def take(n):
    {take}
try:
    while total < want:
        take(step); total += step
        print(total, flush=True)
except (MemoryError, OSError) as error: print(error, flush=True)
print('REACHED' if total >= want else 'refused', total, flush=True)
time.sleep(0.3)
"""
_TAKES = {
    "private memory": "held.append(b'x' * n)",
    "anonymous mapping": "m = mmap.mmap(-1, n, mmap.MAP_PRIVATE | 32); m.write(b'x' * n); held.append(m)",
    "shared mapping": "m = mmap.mmap(-1, n); m.write(b'x' * n); held.append(m)",
    "memory of a file": "fd = os.memfd_create('x'); os.write(fd, b'x' * n); held.append(fd)",
    "files in /dev/shm": "open(f'{sys.argv[2]}/{total}', 'wb').write(b'x' * n)",
}
_FAMILY = """
import os, sys, time
each, pids = int(sys.argv[1]) // 8, []
for _ in range(8):
    if (pid := os.fork()) == 0:
        held = bytearray(each)
        for at in range(0, each, 4096): held[at] = 1
        time.sleep(1.0); os._exit(0)
    pids.append(pid)
good = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids].count(0)
print('REACHED' if good == 8 else 'refused', good)
"""
_COUNT = """
import os, sys, threading, time
want, count = int(sys.argv[1]), 0
try:
    for _ in range(want):
        {one}
        count += 1
except (OSError, RuntimeError) as error: print(error)
print('REACHED' if count >= want else 'refused', count, flush=True)
os._exit(0)
"""
_DISK = """
import os, sys
where, want, total = sys.argv[1], int(sys.argv[2]), 0
os.makedirs(where, exist_ok=True)
try:
    for number in range(want >> 20):
        {write}
        total += 1 << 20
except OSError as error: print(error)
print('REACHED' if total >= want - (1 << 20) else 'refused', total)
"""
_WRITES = {
    "many files": "open(f'{where}/{number}', 'wb').write(b'x' * (1 << 20))",
    "one file": "open(f'{where}/one', 'ab').write(b'x' * (1 << 20))",
    "a file that has no name": "fd = os.open(where, os.O_TMPFILE | os.O_RDWR); os.write(fd, b'x' * (1 << 20))",
    "allocated, not written": "os.posix_fallocate(os.open(f'{where}/{number}', os.O_CREAT | os.O_RDWR), 0, 1 << 20)",
}
_INODES = "open(f'{sys.argv[2]}/{_}', 'w').close()"
_OUTPUT = """
import os, sys
kind, want = sys.argv[1], int(sys.argv[2])
line = {'long': b'long' + b'x' * 65532, 'nul': b'long' + bytes(65532), 'bad': b'long' + bytes([255, 254]) * 32766}[kind]
for _ in range(want // 65536): os.write(1, line)
"""


def attempts() -> list[Attempt]:
    mark = ("{nonce}",)
    found = [Attempt(f"hang: {name}", "resources", s, late, mark, limits=SHORT) for name, s in _HANGS.items()]
    found += [Attempt(f"outlive: {name}", "resources", s, late, mark, limits=SHORT) for name, s in _DAEMONS.items()]
    for name, take in _TAKES.items():
        script, control = _MEMORY.replace("{take}", take), (_MORE, "{scratch}/d")
        found.append(
            Attempt(f"memory: {name}", "resources", script, claimed, (_MORE, "/dev/shm"), control, limits=SMALL)
        )
    found.append(Attempt("memory: eight processes", "resources", _FAMILY, claimed, (_MORE,), limits=SMALL))
    many = str(SMALL.num_processes + 16)
    for name, one in (
        ("processes", "if os.fork() == 0: time.sleep(2); os._exit(0)"),
        ("threads", "threading.Thread(target=time.sleep, args=(2,)).start()"),
    ):
        script = _COUNT.replace("{one}", one)
        found.append(Attempt(f"count: {name}", "resources", script, claimed, (many,), limits=SMALL))
    files = str(SMALL.disk_bytes // 2048 + 512)
    for place in (".", "/tmp", "/dev/shm"):
        script, words = _COUNT.replace("{one}", _INODES), (files, place)
        found.append(
            Attempt(
                f"count: files in {place}", "resources", script, claimed, words, (files, "{scratch}/d"), limits=SMALL
            )
        )
    size = str(SMALL.disk_bytes + 2 * MEBIBYTE)
    for place in (".", "/tmp", "/dev/shm"):
        for name, write in _WRITES.items():
            script = _DISK.replace("{write}", write)
            words = f"{place}/fill", size
            found.append(
                Attempt(
                    f"disk: {name} in {place}", "resources", script, claimed, words, ("{scratch}/d", size), limits=SMALL
                )
            )
    for kind in ("long", "nul", "bad"):
        script, words = _OUTPUT, (kind, str(4 * MEBIBYTE))
        found.append(Attempt(f"output: {kind}", "resources", script, kept_too_much, words))
    return found
