"""Command-line options that all benchmarks share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import loads
import measuring
import models
import results
from pivotrl.engine.loading import resolve_device, resolve_dtype

RESULTS = Path(__file__).parent / "results"


def parser(description: str, contestants: Sequence[str], default_load: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description)
    shapes = ", ".join(models.SHAPES)
    made.add_argument("--model", default="smollm2-135m-instruct", help=f"a folder, the packaged SmolLM2, or {shapes}")
    made.add_argument("--loads", nargs="+", default=[default_load], help=f"{', '.join(loads.LOADS)}, or P,N,G,R")
    made.add_argument("--contestants", nargs="+", default=list(contestants), choices=contestants)
    made.add_argument("--repetitions", type=int, default=5)
    made.add_argument("--warmups", type=int, default=1, help="untimed rounds before")
    made.add_argument("--threads", type=int, default=None)
    made.add_argument("--device", default="auto")
    made.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    made.add_argument("--lora", type=int, default=0, metavar="RANK", help="train an adapter (0: all weights)")
    made.add_argument("--fixed", nargs="*", default=[], metavar="NAME=SIZE", help="micro-batches not to be tuned")
    made.add_argument("--no-probe", action="store_true", help="leave out peak memory and counted FLOPs")
    made.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON results")
    made.add_argument("--probe", help=argparse.SUPPRESS)  # one contestant in a process of its own
    return made


@dataclass(frozen=True)
class Setting:
    """The model on its device, ready for every contestant."""

    model: Any
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype

    @property
    def vocabulary(self) -> int:
        return int(self.model.config.get_text_config().vocab_size)

    def zero_gradients(self) -> None:
        """Keeps the buffers, so that no contestant pays for making them."""
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()


def setting_of(options: argparse.Namespace) -> Setting:
    """
    Raises:
        InputError: the model cannot be loaded.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    device = resolve_device(options.device)
    dtype = resolve_dtype(options.dtype, device)
    model, tokenizer = models.build(options.model, device, dtype)
    if options.lora:
        model = models.with_lora(model, options.lora)
    return Setting(model, tokenizer, device, dtype)


def probe_arguments(options: argparse.Namespace, load: loads.Load, name: str, size: int) -> list[str]:
    """The same run again, for one contestant and load."""
    sizes = f"{load.trunk},{load.pivots},{load.branches},{load.tokens}"
    arguments = ["--model", options.model, "--loads", sizes, "--probe", name]
    arguments += ["--device", options.device, "--dtype", options.dtype, "--lora", str(options.lora)]
    arguments += ["--fixed", f"{name}={size}"]
    if load.spread:
        arguments += ["--spread", str(load.spread)]
    return arguments + (["--threads", str(options.threads)] if options.threads else [])


def fixed_sizes(options: argparse.Namespace) -> dict[str, int]:
    """
    Raises:
        ValueError: not NAME=SIZE.
    """
    pairs = (text.partition("=") for text in options.fixed)
    return {name: int(size) for name, _, size in pairs}


def entry(
    options: argparse.Namespace,
    setting: Setting,
    load: loads.Load,
    trained: str,
    bound_seconds: float,
    bound: str,
    rows: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """What a result file keeps of a comparison."""
    return {
        "load": str(load),
        "model": options.model,
        "trained": trained,
        "tokens": loads.count_tokens(loads.lengths(load)).as_dict(),
        "bound_seconds": bound_seconds,
        "bound": bound,
        "machine": measuring.machine(setting.device, setting.dtype),
        "command": results.command_line(),
        "rows": list(rows),
    }


def trained_weights(options: argparse.Namespace) -> str:
    return f"LoRA rank {options.lora}" if options.lora else "all weights"
