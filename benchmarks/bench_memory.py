"""Peak resident memory of a policy that loads, learns and samples, beside what `pivotrl plan` tells by formula.

    python benchmarks/bench_memory.py

Every row runs in processes of its own: one, or two that torchrun starts. Memory is counted from what a process holds
after it has imported everything and trained a tiny model, so that libraries and their buffers do not count.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, OlmoeConfig, Qwen2Config, Qwen3Config, Qwen3MoeConfig

import measuring
import results
from models import numbered_tokenizer
from options import RESULTS
from pivotrl.engine.distributed.launch import join
from pivotrl.policies.hf import Policy
from pivotrl.protocols import UpdateOptions
from pivotrl.protocols.tokens import Drawn, Example
from pivotrl.records import Sampling


@dataclass(frozen=True)
class Row:
    """What is loaded, how it learns, and on what: N trajectories of one prompt each."""

    model: str
    lora_rank: int
    processes: int = 1
    trajectories: int = 2
    prompt: int = 128
    branches: int = 4
    tokens: int = 16
    options: str = ""
    """More options of ``hf``, as JSON."""

    def __str__(self) -> str:
        how = f"LoRA {self.lora_rank}" if self.lora_rank else "all weights"
        return f"{self.model}, {how}{', ' if self.options else ''}{self.options}"


_COMMON = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 65536}


def _sizes(layers: int, width: int, heads: int, key_heads: int, inner: int, vocabulary: int, tied: bool) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
        **_COMMON,
    }


MODELS = {
    "tiny": lambda: LlamaConfig(**_sizes(2, 64, 2, 1, 128, 259, True)),
    "llama, narrow and deep": lambda: LlamaConfig(**_sizes(24, 384, 6, 6, 1024, 8192, False)),
    "llama, wide and flat": lambda: LlamaConfig(**_sizes(4, 1536, 12, 4, 4096, 16384, True)),
    "qwen2": lambda: Qwen2Config(**_sizes(12, 640, 10, 2, 2560, 32768, True)),
    "qwen3": lambda: Qwen3Config(**_sizes(14, 768, 12, 4, 2304, 24576, False), head_dim=96),
    "qwen3_moe": lambda: Qwen3MoeConfig(
        **_sizes(8, 512, 8, 2, 1024, 16384, False),
        head_dim=64,
        num_experts=16,
        num_experts_per_tok=4,
        moe_intermediate_size=384,
    ),
    "olmoe": lambda: OlmoeConfig(**_sizes(6, 640, 8, 8, 512, 16384, False), num_experts=12, num_experts_per_tok=3),
}

ROWS = (
    Row("smollm2-135m-instruct", 16),
    Row("smollm2-135m-instruct", 0),
    Row("smollm2-135m-instruct", 16, processes=2),
    Row("smollm2-135m-instruct", 0, processes=2),
    Row("llama, narrow and deep", 16, prompt=512),
    Row("llama, narrow and deep", 0, prompt=256),
    Row("llama, wide and flat", 8, prompt=512),
    Row("llama, wide and flat", 0, prompt=256),
    Row("llama, wide and flat", 0, processes=2, prompt=256),
    Row("qwen2", 16, prompt=256),
    Row("qwen2", 0, branches=16),
    Row("qwen3", 16, processes=2, prompt=256),
    Row("qwen3", 0, processes=2),
    Row("qwen3_moe", 16, prompt=512),
    Row("qwen3_moe", 0, prompt=256),
    Row("qwen3_moe", 0, processes=2, prompt=256),
    Row("olmoe", 0, prompt=256),
)


def folder_of(name: str, folder: Path) -> str:
    """The model as ``hf`` loads it; a random one is made in ``folder``."""
    if name not in MODELS:
        return name
    place = folder / name.replace(", ", "-").replace(" ", "-")
    if not place.is_dir():
        torch.manual_seed(0)
        config = MODELS[name]()
        AutoModelForCausalLM.from_config(config).save_pretrained(place)
        tokenizer = numbered_tokenizer(config.vocab_size - 2)
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
        tokenizer.save_pretrained(place)
    return str(place)


def examples_of(row: Row, vocabulary: int) -> list[Example]:
    """One prompt a trajectory, advantages of both signs."""
    generator = random.Random(0)

    def ids(number: int) -> list[int]:
        return [generator.randrange(3, vocabulary) for _ in range(number)]

    weight = 1 / (row.trajectories * row.branches * row.tokens)
    return [
        Example(
            ids(row.prompt),
            [Drawn(ids(row.tokens), [-3.0] * row.tokens, True) for _ in range(row.branches)],
            [(-1.0) ** branch for branch in range(row.branches)],
            [weight] * row.branches,
            f"t{number}#1",
        )
        for number in range(row.trajectories)
    ]


def peak_and_reset() -> int:
    """The most that this process held since it was asked last, in bytes."""
    gc.collect()
    found = measuring._status_bytes("VmHWM")
    Path("/proc/self/clear_refs").write_text("5")
    return found


def do(row: Row, policy: Policy) -> dict[str, int]:
    """Peaks of an update and of sampling."""
    peaks = {"loading": peak_and_reset()}
    examples = examples_of(row, 250)
    for _ in range(2):  # the second begins with moments in memory
        policy.learner.update(examples, 1e-6, UpdateOptions(kl_coefficient=0.0))
    peaks["update"] = peak_and_reset()
    prompts, keys = [example.prompt for example in examples], [example.key for example in examples]
    list(policy.generator.generate(prompts, keys, row.branches, Sampling(max_tokens=row.tokens), frozenset()))
    peaks["sampling"] = peak_and_reset()
    return peaks


def lead(row: Row, folder: Path, crew: Any) -> dict[str, int]:
    """In the leader: first on the tiny model, then on the row's."""
    tiny = Row("tiny", row.lora_rank, row.processes, prompt=32, tokens=4)
    more = json.loads(row.options or "{}")
    do(tiny, Policy(model=folder_of("tiny", folder), lora_rank=row.lora_rank, device="cpu", dtype="float32", **more))
    gc.collect()
    base = measuring._status_bytes("VmRSS")
    peak_and_reset()
    policy = Policy(model=folder_of(row.model, folder), lora_rank=row.lora_rank, device="cpu", **{"dtype": "float32", **more})
    return {name: peak - base for name, peak in do(row, policy).items()} | {"base": base}


def measure(row: Row, folder: Path) -> dict[str, int]:
    """In processes of their own.

    Raises:
        RuntimeError: they failed.
    """
    folder_of("tiny", folder), folder_of(row.model, folder)
    command = [sys.executable, __file__, "--row", json.dumps(asdict(row)), "--folder", str(folder)]
    if row.processes > 1:
        run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(row.processes)]
        command = [*run, *command[1:]]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "262144"}  # what is freed goes back at once
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603
    lines = [line for line in found.stdout.splitlines() if line.startswith("{")]
    if found.returncode or not lines:
        raise RuntimeError(found.stderr[-3000:])
    return json.loads(lines[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--only", type=int, nargs="*")
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.row:
        row = Row(**json.loads(options.row))
        crew = join() if "RANK" in os.environ else None
        if crew is not None and crew.rank:
            crew.follow(lambda name, given: Policy(**given))
            return
        with crew.leading() if crew is not None else __import__("contextlib").nullcontext():
            peaks = lead(row, options.folder, crew)
        print(json.dumps(peaks), flush=True)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = options.folder or Path(place)
        folder.mkdir(exist_ok=True)
        for number, row in enumerate(ROWS):
            if options.only and number not in options.only:
                continue
            peaks = measure(row, folder)
            print(number, row, row.processes, {k: round(v / 2**20) for k, v in peaks.items()}, flush=True)


if __name__ == "__main__":
    main()
