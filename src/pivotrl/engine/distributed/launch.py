"""Joins the processes that torchrun (or any launcher that sets its variables) has started."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import TCPStore  # type: ignore[attr-defined]

import pivotrl
from pivotrl.engine.distributed.crew import Crew
from pivotrl.engine.distributed.meeting import (
    address,
    missing_processes,
    named,
    sign_in,
    speaks,
    waiting_for_others,
)
from pivotrl.protocols import InputError
from pivotrl.protocols.errors import first_line
from pivotrl.storage.record_files import package_versions

_JOIN_SECONDS = 300
_EXCHANGE_MINUTES = 30
"""A process that does not take part in an exchange of tensors for so long is lost."""
_NO_LIMIT = timedelta(days=365)

_crew: Crew | None = None


class LeaderMissing(InputError):
    """Process 0, which speaks for all, has not come."""


def current_crew() -> Crew | None:
    """The processes that this one works with; None if it works alone."""
    return _crew


def join() -> Crew:
    """Meet the other processes, and make sure that all run the same code.

    Raises:
        InputError: the port is in use, a process does not come, or code or libraries differ.
    """
    global _crew
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    facts: list[Any] = [None] * size
    try:
        with waiting_for_others(rank, size):
            # Without a name: gloo for tensors of the CPU, and NCCL for those of a GPU.
            dist.init_process_group(
                None if torch.cuda.is_available() else "gloo",
                timeout=timedelta(minutes=_EXCHANGE_MINUTES),
                store=_store(rank, size),
                rank=rank,
                world_size=size,
            )
            group = dist.new_group(backend="gloo", timeout=_NO_LIMIT)
            dist.all_gather_object(facts, (socket.gethostname(), os.getpid(), _facts()), group=group)
    except (RuntimeError, ValueError) as error:
        raise _not_met(rank, size, error) from error
    _require_same([each for *_, each in facts])
    store, people = dist.distributed_c10d._get_default_store(), [(host, pid) for host, pid, _ in facts]
    _crew = Crew(rank, size, group, store, _agent_serves(), people)
    return _crew


def _store(rank: int, size: int) -> Any:
    """torchrun serves a store; with other launchers process 0 does."""
    serves = rank == 0 and not _agent_serves()
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(host, port, size, serves, timedelta(seconds=_JOIN_SECONDS), wait_for_workers=False)
    sign_in(store, rank)
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"pivotrl/{attempt}", store)


def _agent_serves() -> bool:
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _not_met(rank: int, size: int, error: Exception) -> InputError:
    text = str(error)
    if "EADDRINUSE" in text or "address already in use" in text.lower():
        return InputError(
            f"port {os.environ['MASTER_PORT']} is in use on this machine; give another one with MASTER_PORT "
            "(torchrun: --master-port, or --standalone, which finds a free one)"
        )
    missing = missing_processes(size)
    who = f"; {named(missing)} of {size} did not come" if missing else ""
    kind = LeaderMissing if 0 in missing and speaks(rank, missing) else InputError
    return kind(
        f"process {rank} of {size} did not meet the others at {address()} ({first_line(error)}){who}; see that all "
        "processes are started and can reach that address"
    )


def _facts() -> dict[str, str]:
    """What must be equal in all processes."""
    return {"python": platform.python_version(), **package_versions(), "code of pivotrl": _code_sha256()}


@cache
def _code_sha256() -> str:
    root = Path(pivotrl.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _require_same(facts: list[dict[str, str]]) -> None:
    """
    Raises:
        InputError: two processes differ.
    """
    for number, other in enumerate(facts):
        for name in facts[0].keys() | other.keys():
            mine, its = facts[0].get(name, "missing"), other.get(name, "missing")
            if mine != its:
                raise InputError(
                    f"the processes do not run the same software: {name} is {mine} in process 0 and {its} in process "
                    f"{number}. Install the same versions on every machine"
                )


def own_device(device: str) -> str:
    """The device of this process: of several GPUs the one with its local number.

    Raises:
        InputError: there are fewer GPUs than processes on this machine.
    """
    if device == "cpu" or _crew is None or (device == "auto" and not torch.cuda.is_available()):
        return device
    local, found = int(os.environ.get("LOCAL_RANK", _crew.rank)), torch.cuda.device_count()
    if device in ("auto", "cuda"):
        if local >= found:
            raise InputError(
                f"it needs GPU {local} of its machine, which has {found}; start at most {found} processes there "
                "(torchrun --nproc-per-node), or give hf(device='cpu')"
            )
        torch.cuda.set_device(local)
        return f"cuda:{local}"
    raise InputError(
        f"device={device!r} is the same GPU for all processes; give 'auto', which is one for each, or 'cpu'"
    )
