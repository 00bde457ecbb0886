"""Peak resident memory of a policy that loads, learns and samples, beside what `pivotrl plan` tells by formula.

    python benchmarks/bench_memory.py               all rows, some minutes on two idle cores
    python benchmarks/bench_memory.py --only 0 3    some of them

Every row runs in processes of its own: one, or two that torchrun starts. Memory is counted from what a process holds
after it has imported everything and trained a tiny model, so that libraries and their buffers do not count. glibc is
told to return what is freed (MALLOC_MMAP_THRESHOLD_), since otherwise most of it stays with the process.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    OlmoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

import measuring
import results
from models import numbered_tokenizer
from options import RESULTS
from pivotrl.engine.distributed.launch import join
from pivotrl.policies.hf import Policy
from pivotrl.protocols import UpdateOptions
from pivotrl.protocols.tokens import Drawn, Example
from pivotrl.records import Sampling
from pivotrl.report.planning.processes import Batch, Device, ProcessMemory, Way, process_memory
from pivotrl.report.planning.shapes import shape_of_model

_THRESHOLD = 1 << 18
"""Bytes; larger pieces go back to the system as soon as they are freed."""


@dataclass(frozen=True)
class Row:
    """What is loaded, how it learns, and on what: so many trajectories of one prompt each."""

    model: str
    lora_rank: int
    processes: int = 1
    trajectories: int = 2
    prompt: int = 96
    branches: int = 4
    tokens: int = 16
    compute_dtype: str = "auto"

    @property
    def trained(self) -> str:
        mixed = "" if self.compute_dtype == "auto" else f", computed in {self.compute_dtype}"
        return (f"LoRA {self.lora_rank}" if self.lora_rank else "all weights") + mixed

    @property
    def batch(self) -> str:
        each = f"{self.prompt} + {self.branches} x {self.tokens}"
        return f"{self.trajectories} x ({each})"


def _sizes(layers: int, width: int, heads: int, key_heads: int, inner: int, vocabulary: int) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "tie_word_embeddings": vocabulary % 3 == 0,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "max_position_embeddings": 65536,
    }


_QWEN3_MOE = {"head_dim": 64, "num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 320}
MODELS = {
    "tiny": lambda: LlamaConfig(**_sizes(2, 64, 2, 1, 128, 259)),
    "llama, narrow and deep": lambda: LlamaConfig(**_sizes(24, 256, 4, 4, 704, 8192)),
    "llama, wide and flat": lambda: LlamaConfig(**_sizes(3, 1280, 10, 5, 3584, 9216)),
    "qwen3, tied": lambda: Qwen3Config(**_sizes(10, 512, 8, 2, 2048, 24576), head_dim=64),
    "qwen3": lambda: Qwen3Config(**_sizes(10, 640, 10, 5, 1920, 16384), head_dim=80),
    "qwen3_moe": lambda: Qwen3MoeConfig(**_sizes(6, 448, 8, 2, 1024, 16384), **_QWEN3_MOE),
    "olmoe": lambda: OlmoeConfig(**_sizes(5, 512, 8, 8, 512, 16384), num_experts=12, num_experts_per_tok=3),
}
"""Random weights, each of 25 to 60 million."""
REAL = "smollm2-135m-instruct"

ROWS = (
    Row(REAL, 16),
    Row(REAL, 0),
    Row(REAL, 16, processes=2),
    Row("llama, narrow and deep", 16, prompt=512),
    Row("llama, narrow and deep", 0, prompt=256),
    Row("llama, wide and flat", 8),
    Row("llama, wide and flat", 0),
    Row("llama, wide and flat", 0, processes=2),
    Row("qwen3, tied", 16, prompt=256),
    Row("qwen3, tied", 0, branches=16),
    Row("qwen3", 16, processes=2, prompt=256),
    Row("qwen3", 0, processes=2),
    Row("qwen3", 0, processes=2, compute_dtype="bfloat16"),
    Row("qwen3_moe", 16, prompt=256),
    Row("qwen3_moe", 0),
    Row("qwen3_moe", 0, processes=2),
    Row("olmoe", 0),
    Row("olmoe", 16, prompt=256),
)


def told(row: Row, name: str) -> ProcessMemory:
    """By formula."""
    compute = 4.0 if row.compute_dtype == "auto" else 2.0
    way = Way("measured", "", row.lora_rank, 4.0, compute)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    batch = Batch(row.prompt, row.tokens, row.branches, row.trajectories)
    return process_memory(shape_of_model(name), way, row.processes, batch, Device(memory, is_cpu=True))


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


def examples_of(row: Row) -> list[Example]:
    """One prompt a trajectory, advantages of both signs."""
    generator = random.Random(0)  # noqa: S311

    def ids(number: int) -> list[int]:
        return [generator.randrange(3, 250) for _ in range(number)]

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


def peaks_of(row: Row, name: str) -> dict[str, int]:
    """The most that this process holds while it loads, learns and samples, in bytes."""
    policy: Any = Policy(
        model=name, lora_rank=row.lora_rank, device="cpu", dtype="float32", compute_dtype=row.compute_dtype
    )
    peaks = {"loading": measuring.peak_since()}
    examples = examples_of(row)
    # A training samples first, and with the first sample comes the copy of the weights that an adapter folds into.
    list(policy.generator.generate([[5, 6, 7]], ["first#1"], 1, Sampling(max_tokens=1), frozenset()))
    measuring.peak_since()
    for _ in range(2):  # the second begins with moments in memory
        policy.learner.update(examples, 1e-6, UpdateOptions(kl_coefficient=0.0))
    peaks["learning"] = measuring.peak_since()
    prompts, keys = [example.prompt for example in examples], [example.key for example in examples]
    list(policy.generator.generate(prompts, keys, row.branches, Sampling(max_tokens=row.tokens), frozenset()))
    peaks["sampling"] = measuring.peak_since()
    return peaks


def one(row: Row, folder: Path) -> None:
    """In a process of the row: print its peaks above those of a tiny model, if it leads."""
    crew = join() if "RANK" in os.environ else None
    if crew is not None and crew.rank:
        crew.follow(lambda name, given: Policy(**given))
        return
    with crew.leading() if crew is not None else contextlib.nullcontext():
        tiny = Row("tiny", row.lora_rank, row.processes, prompt=32, tokens=4, compute_dtype=row.compute_dtype)
        peaks_of(tiny, folder_of("tiny", folder))
        gc.collect()
        base = measuring.resident()
        measuring.peak_since()
        found = peaks_of(row, folder_of(row.model, folder))
    print(json.dumps({name: peak - base for name, peak in found.items()}), flush=True)


def measure(row: Row, folder: Path) -> dict[str, int]:
    """Bytes at the peak of each phase, of the first process.

    Raises:
        RuntimeError: a process failed.
    """
    for name in ("tiny", row.model):
        folder_of(name, folder)
    command = [__file__, "--row", json.dumps(asdict(row)), "--folder", str(folder)]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(row.processes)]
    command = [sys.executable, *(launch if row.processes > 1 else ()), *command]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(_THRESHOLD)}
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603
    lines = [line for line in found.stdout.splitlines() if line.startswith("{")]
    if found.returncode or not lines:
        raise RuntimeError(found.stderr[-3000:])
    peaks: dict[str, int] = json.loads(lines[-1])
    return peaks


def compared(row: Row, name: str, measured: Mapping[str, int]) -> dict[str, Any]:
    """What an entry of the results says about the formula."""
    formula = told(row, name)
    parts = {"loading": formula.loading, "learning": formula.learning, "sampling": formula.sampling}
    return {"measured": measured, "told": parts, "error": max(parts.values()) / max(measured.values()) - 1}


def _facts(row: Row) -> dict[str, Any]:
    return {"load": row.batch, "model": row.model, "trained": row.trained, "processes": row.processes}


def entry_of(row: Row, name: str, measured: Mapping[str, int]) -> dict[str, Any]:
    return {
        **_facts(row),
        **compared(row, name, measured),
        "machine": measuring.machine(torch.device("cpu"), torch.float32) | {"threads": f"{row.processes} processes"},
        "command": "python benchmarks/bench_memory.py",
    }


def tell_again(out: Path, folder: Path) -> None:
    """Keep what was measured, and compare it with the present formula."""
    for entry in json.loads((out / "bench_memory.json").read_text()):
        row = next(row for row in ROWS if all(entry[key] == told for key, told in _facts(row).items()))
        again = entry | compared(row, folder_of(row.model, folder), entry["measured"])
        results.save(out, "bench_memory", again)
        print(_line(again), flush=True)


def _line(entry: Mapping[str, Any]) -> str:
    sizes = ", ".join(
        f"{name} {size / 1e6:,.0f} (told {entry['told'][name] / 1e6:,.0f})" for name, size in entry["measured"].items()
    )
    what = f"{entry['model']}, {entry['trained']}, {entry['processes']} processes"
    return f"{what}: {sizes} MB, {entry['error']:+.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of rows")
    parser.add_argument("--folder", type=Path, help="where random models are made and kept")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON results")
    parser.add_argument("--told", action="store_true", help="measure nothing; compare what was measured again")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.row:
        one(Row(**json.loads(options.row)), options.folder)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = options.folder or Path(place)
        folder.mkdir(exist_ok=True)
        if options.told:
            tell_again(options.out, folder)
            return
        for number in options.only or range(len(ROWS)):
            row = ROWS[number]
            entry = entry_of(row, folder_of(row.model, folder), measure(row, folder))
            results.save(options.out, "bench_memory", entry)
            print(f"{number}: {_line(entry)}", flush=True)


if __name__ == "__main__":
    main()
