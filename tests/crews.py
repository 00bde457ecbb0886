"""Runs a function in several processes that meet as those of torchrun do, for tests."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any

PRELOADED = ["pivotrl.policies.hf", "pivotrl.pipeline", "distributed_work"]
_SECONDS = 120


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def together(number: int, work: Callable[..., Any], *args: Any) -> list[Any]:
    """``work(crew, *args)`` in so many processes; what each returns, by rank.

    Raises:
        AssertionError: a process failed or did not end in time.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    port, pipes, processes = free_port(), [], []
    for rank in range(number):
        ours, theirs = context.Pipe()
        process = context.Process(target=_one, args=(rank, number, port, work, args, theirs))
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    answers = []
    try:
        for rank, pipe in enumerate(pipes):
            assert pipe.poll(_SECONDS), f"process {rank} of {number} does not answer"
            try:
                is_good, answer = pickle.loads(pipe.recv_bytes())  # noqa: S301, from a child of ours
            except EOFError:
                is_good, answer = False, "it ended without an answer"
            assert is_good, f"process {rank} of {number}: {answer}"
            answers.append(answer)
    finally:
        for process in processes:
            process.join(1 if len(answers) < number else 10)
            if process.is_alive():
                process.kill()
    return answers


def _one(rank: int, number: int, port: int, work: Callable[..., Any], args: Any, pipe: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    import torch

    from pivotrl.engine.distributed.launch import join

    torch.set_num_threads(1)
    try:
        answer = True, work(join(), *args)
    except BaseException as error:
        answer = False, "".join(traceback.format_exception(error))
    pipe.send_bytes(pickle.dumps(answer))  # tensors by value: this process is gone when they are read
    pipe.close()
    sys.stdout.flush()
    os._exit(0)
