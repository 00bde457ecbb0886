"""Whichever process is killed, and whenever: all others end soon, one of them says why, and the checkpoint is whole."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from crews import PRELOADED, free_port
from pivotrl.cli import guarded
from pivotrl.policies.hf import Policy
from pivotrl.protocols import UpdateOptions
from pivotrl.protocols.tokens import Drawn, Example
from pivotrl.records import Sampling
from tiny import save_tiny_model

_SECONDS_TO_END = 20
_EXAMPLES = [
    Example([9, 8, 7, 6 + i], [Drawn([5, 4, 3], [-1.0] * 3, True)], [1.0], [1.0 / 12], f"t{i}#1") for i in range(4)
]


def endless(rank: int, number: int, port: int, folder: Path) -> None:
    """Samples, learns, scores and saves until it is killed, as the command line does: with its messages and codes."""
    os.dup2(os.open(folder / f"stderr{rank}", os.O_WRONLY | os.O_CREAT), 2)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    from pivotrl.cli.processes import in_company

    with guarded(), in_company():
        policy = Policy(
            model=str(folder.parent / "model"), lora_rank=0, dtype="float32", device="cpu", executor="split"
        )
        prompts, options = [list(each.prompt) for each in _EXAMPLES], UpdateOptions(kl_coefficient=0.1)
        keys = [each.key for each in _EXAMPLES]
        for step in range(1_000_000):
            list(policy.generator.generate(prompts, keys, 2, Sampling(max_tokens=8, seed=step), frozenset()))
            policy.learner.update(_EXAMPLES, 1e-4, options)
            policy.learner.score([5, 6], [7, 8])
            policy.save(folder / "checkpoint")
            (folder / "ready").touch()


def kill_one(folder: Path, number: int, generator: random.Random) -> tuple[int, list[int | None], list[str]]:
    """(the killed process, exit code of each, what each wrote to stderr)."""
    folder.mkdir()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    port = free_port()
    processes = [context.Process(target=endless, args=(rank, number, port, folder)) for rank in range(number)]
    for process in processes:
        process.start()
    try:
        until = time.monotonic() + 60
        while not (folder / "ready").exists():
            assert time.monotonic() < until, [(folder / f"stderr{rank}").read_text() for rank in range(number)]
            time.sleep(0.01)
        time.sleep(generator.random() * 0.5)
        victim = generator.randrange(number)
        os.kill(processes[victim].pid, signal.SIGKILL)
        until = time.monotonic() + _SECONDS_TO_END
        for process in processes:
            process.join(max(0.1, until - time.monotonic()))
        return victim, [p.exitcode for p in processes], [(folder / f"stderr{r}").read_text() for r in range(number)]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.parametrize(
    ("number", "num_kills"), [(2, 5), pytest.param(3, int(os.environ.get("NUM_KILLS", "200")), marks=pytest.mark.slow)]
)
def test_a_killed_process_ends_all_with_one_message(number, num_kills, tmp_path):
    save_tiny_model(tmp_path / "model")
    generator, loads = random.Random(number), Policy(model=str(tmp_path / "model"), lora_rank=0, device="cpu")
    for trial in range(num_kills):
        folder = tmp_path / f"trial{trial}"
        victim, codes, texts = kill_one(folder, number, generator)
        assert codes[victim] == -signal.SIGKILL
        speaker = 1 if victim == 0 else 0
        for rank in range(number):
            if rank != victim:
                assert codes[rank] == (8 if rank == 0 else 1), (victim, codes, texts)
            if rank == speaker:
                assert f"process {victim} of {number} (pid " in texts[rank], (victim, texts)
                assert "Start the same command again" in texts[rank].replace("\n", " ")
            else:
                assert not texts[rank], (victim, rank, texts)
            assert "Traceback" not in texts[rank]
        loads.load(folder / "checkpoint")
