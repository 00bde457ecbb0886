"""Attempts on other processes and on what they hold: environments, command lines, open files, signals, rights."""

from __future__ import annotations

from pivotrl.sandbox.attacks.attempt import Attempt, claimed, killed, leaked, shared
from pivotrl.sandbox.attacks.calls import number
from pivotrl.sandbox.attacks.files import READ

_ENVIRONMENT = "import os; print(dict(os.environb))"
_SHELL_ENVIRONMENT = "import subprocess; print(subprocess.run(['sh', '-c', 'env; set'], capture_output=True).stdout)"
_MEMORY = """
import os, sys
for pid in sys.argv[1:]:
    try:
        memory = os.open(f'/proc/{pid}/mem', os.O_RDONLY)
        for line in open(f'/proc/{pid}/maps'):
            span, rights = line.split()[:2]
            low, high = (int(x, 16) for x in span.split('-'))
            if rights[0] == 'r' and high - low < 1 << 26:
                try: data = os.pread(memory, high - low, low)
                except OSError: continue
                at = data.find(b'SECRET=')
                while at >= 0:
                    print(data[at : at + 64]); at = data.find(b'SECRET=', at + 1)
                at = data.find(b'PIVOTRL_CANARY=')
                if at >= 0: print(data[at : at + 64])
    except OSError as error: print(error)
"""
_SEEN = """
import os, sys
names = [p for p in os.listdir('/proc') if p.isdigit()]
comms = []
for p in names:
    try: comms.append(open(f'/proc/{p}/cmdline').read())
    except OSError: pass
print(comms)
"""
_KILL = """
import os, signal, sys
for word in sys.argv[2:]:
    try: os.kill(int(word), getattr(signal, sys.argv[1]))
    except OSError as error: print(error)
import time; time.sleep(0.1)
"""
_KILL_ALL = """
import os, signal, sys, time
if sys.argv[2] == os.readlink('/proc/self/ns/pid'): sys.exit('REACHED the processes of the host')
try: os.kill(-1, getattr(signal, sys.argv[1]))
except OSError as error: print(error)
"""
"""Does nothing but say so where the processes are the host's."""
_PIDFD = """
import os, signal, sys
for pid in map(int, sys.argv[1:]):
    try: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL)
    except OSError as error: print(error)
"""
_PTRACE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for pid in sys.argv[2:]:
    code = 0 if libc.syscall(ctypes.c_long(int(sys.argv[1])), 16, int(pid), 0, 0) >= 0 else ctypes.get_errno()
    print('refused' if code in (1, 13, 38) else 'REACHED', code)
"""
_WRITE_PROC = """
import os, sys
for path in sys.argv[1:]:
    try: os.close(os.open(path, os.O_WRONLY)); print('REACHED')
    except OSError as error: print(error)
"""
_RANK = """
import ctypes, os, sys
try: os.setpriority(os.PRIO_PROCESS, 0, -10); print('REACHED')
except OSError as error: print('REACHED' if error.errno == 99 else error)
"""
_REAL_TIME = """
import os
try: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)); print('REACHED')
except OSError as error: print('REACHED' if error.errno == 99 else error)
"""
_RIGHTS = """
import sys
for line in open(sys.argv[1]):
    name, _, value = line.partition(':')
    if name in ('CapEff', 'CapPrm', 'CapBnd', 'CapAmb') and int(value, 16): print('REACHED', line)
    if name == 'NoNewPrivs' and value.strip() != '1': print('REACHED', line)
    if name == 'Seccomp' and value.strip() != '2': print('REACHED', line)
"""
_MORE_LIMITS = """
import resource, sys
for name in sys.argv[1:]:
    try:
        soft, hard = resource.getrlimit(getattr(resource, name))
        resource.setrlimit(getattr(resource, name), (soft, hard + 1))
        print('REACHED')
    except (OSError, ValueError) as error: print('REACHED' if getattr(error, 'errno', 0) == 99 else error)
"""
_LOWER = """
import os, sys
try: os.write(os.open(sys.argv[1], os.O_WRONLY), b'-1000'); print('REACHED')
except OSError as error: print(error)
"""
_RUN_AS_ROOT = """
import os, subprocess, sys
for words in (['sudo', '-n', 'id', '-u'], ['su', '-c', 'id -u'], ['pkexec', 'id', '-u'], sys.argv[1:]):
    try: done = subprocess.run(words, capture_output=True, timeout=2, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error: print(error); continue
    if done.stdout.strip() == b'0': print('REACHED')
"""


def attempts() -> list[Attempt]:
    found = [
        Attempt(name, "processes", READ, leaked, (route,), control)
        for name, route, control in (
            ("environment of the first process", "/proc/1/environ", ("/proc/{pid}/environ",)),
            ("environment of any process", "/proc/[0-9]*/environ", None),
            ("environment of any thread", "/proc/[0-9]*/task/*/environ", None),
            ("environment by the bait's number", "/proc/{pid}/environ", None),
            ("command line of any process", "/proc/[0-9]*/cmdline", None),
            ("command line by the bait's number", "/proc/{pid}/cmdline", None),
        )
    ]
    canary = ("{secret}",)
    found += [
        Attempt("own environment", "processes", _ENVIRONMENT, leaked),
        Attempt("environment of a shell", "processes", _SHELL_ENVIRONMENT, leaked),
        Attempt("memory of the first process", "processes", _MEMORY, leaked, ("1",), ("{pid}",)),
        Attempt("memory by the bait's number", "processes", _MEMORY, leaked, ("{pid}",)),
        Attempt("other processes are listed", "processes", _SEEN, leaked),
        Attempt("a file inherited from the launcher", "processes", READ, leaked, ("/proc/self/fd/*",), canary),
        Attempt("kill by number", "processes", _KILL, killed, ("SIGKILL", "{pid}")),
        Attempt("stop by number", "processes", _KILL, killed, ("SIGSTOP", "{pid}")),
        Attempt("end by number", "processes", _KILL, killed, ("SIGTERM", "{pid}")),
        Attempt("kill everything", "processes", _KILL_ALL, shared, ("SIGKILL", "{processes}")),
        Attempt("stop everything", "processes", _KILL_ALL, shared, ("SIGSTOP", "{processes}")),
        Attempt("kill by a handle", "processes", _PIDFD, killed, ("{pid}",)),
        Attempt(
            "kill the orchestrator's group", "processes", _KILL, killed, ("SIGKILL", "-{pid}"), ("SIGKILL", "{pid}")
        ),
    ]
    for name, pid in (("the first process", "1"), ("the bait", "{pid}"), ("the orchestrator", "{parent}")):
        words = (str(number("ptrace")), pid)
        found.append(Attempt(f"attach to {name}", "processes", _PTRACE, claimed, words, control_calls=("ptrace",)))
    scratch = ("{scratch}/sysctl",)
    for path in ("/proc/{pid}/oom_score_adj", "/proc/{parent}/mem", "/proc/{pid}/mem", "/proc/{pid}/clear_refs"):
        found.append(
            Attempt(
                f"write {path.format(pid='bait', parent='parent')}", "processes", _WRITE_PROC, claimed, (path,), scratch
            )
        )
    found += [
        Attempt("raise own rank", "processes", _RANK, claimed, control_calls=("setpriority",), of_this_kernel=True),
        Attempt("real-time scheduling", "processes", _REAL_TIME, claimed, control_calls=("sched_setscheduler",)),
        Attempt("rights and filter of this process", "processes", _RIGHTS, claimed, ("/proc/self/status",)),
        Attempt("rights and filter of the first process", "processes", _RIGHTS, claimed, ("/proc/1/status",)),
        Attempt(
            "raise own limits",
            "processes",
            _MORE_LIMITS,
            claimed,
            ("RLIMIT_NOFILE", "RLIMIT_CORE"),
            control_calls=("prlimit64", "setrlimit"),
        ),
        Attempt(
            "escape the memory killer",
            "processes",
            _LOWER,
            claimed,
            ("/proc/self/oom_score_adj",),
            scratch,
            of_this_kernel=True,
        ),
        Attempt("programs that give rights", "processes", _RUN_AS_ROOT, claimed, ("true",), ("echo", "0")),
    ]
    return found
