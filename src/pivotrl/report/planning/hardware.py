"""Memory and time by formula, for hardware that is not at hand. Every assumption is an option."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from pivotrl.options import AtLeast0, AtLeast1, NotNegative, Positive, check
from pivotrl.report.planning.shapes import ModelShape

GIB = float(1 << 30)
_LOGITS_AT_ONCE = 1 << 24
"""Numbers in a block of logits (engine/head.py)."""
_MOST_ROWS = 256
"""Samples that decode together on a replica, at most."""
_WEIGHTS_SHARE = 0.6
"""Weights that take more than this share of a GPU's memory are split over several GPUs to sample."""
_USABLE = 0.9
Utilisation = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class HardwareOptions:
    """Hardware by formula, with the assumptions behind it. Defaults are those of an H100."""

    model_size: str | None = None
    """Print a table by formula for a model of this size, such as 8B or 500M, or for the model in this folder."""
    gpus: AtLeast1 = 1
    """Number of GPUs."""
    gpu_memory: Positive = 80.0
    """GiB of each GPU."""
    gpu_tflops: Positive = 989.0
    """TFLOP/s of each GPU in the weights' number format."""
    gpu_bandwidth: Positive = 3350.0
    """GB/s of each GPU's memory."""
    prefill_utilisation: Utilisation = 0.5
    """Share of the operations reached where prompts are computed."""
    train_utilisation: Utilisation = 0.35
    """The same for updates, communication included."""
    decode_utilisation: Utilisation = 0.5
    """Share of the bandwidth reached where actions are sampled."""
    lora_rank: AtLeast1 = 16
    """Rank of the adapter, on all matrices of the layers."""
    weight_bytes: Positive = 2.0
    """Bytes of a weight: 2 for bf16, 4 for fp32."""
    state_bytes: NotNegative = 16.0
    """Bytes of a trained parameter besides the weight: gradient 4, fp32 copy 4, Adam 8. Pivotrl itself keeps 12 for
    fp32 weights and 6 for bf16 ones."""
    kept_tokens: AtLeast1 = 8192
    """Tokens of a pass whose activations are kept at once on a GPU."""
    checkpointing: bool = True
    """Keep only the input of each layer and compute the rest again, at the price of one more forward."""
    reserve: NotNegative = 2.0
    """GiB of each GPU for the CUDA context, buffers and fragments."""
    prompt_length: AtLeast1 | None = None
    """Tokens of a prompt. None: those of the run, else 4,000."""
    action_length: AtLeast1 | None = None
    """Tokens of a sampled action. None: those of the run, else 200."""
    candidate_turns: AtLeast0 | None = None
    """Turns to profile. None: those of the run, else 10,000."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Load:
    """What is to be sampled and trained."""

    candidate_turns: float
    num_samples: int
    """K."""
    prompt_length: float
    action_length: float
    num_steps: int
    turns_per_step: int
    group_size: int


@dataclass(frozen=True)
class Memory:
    """Bytes on each GPU while training."""

    name: str
    weights: float
    reference: float
    """The frozen copy that all weights need; an adapter is switched off instead."""
    states: float
    """Gradients, fp32 copies and Adam's moments."""
    activations: float
    work: float
    """One layer or a block of logits at work, whichever needs more, and the reserve."""

    @property
    def total(self) -> float:
        return self.weights + self.reference + self.states + self.activations + self.work


@dataclass(frozen=True)
class Work:
    """Tokens through the model, and seconds on all GPUs together."""

    name: str
    tokens: float
    seconds: float


@dataclass(frozen=True)
class HardwarePlan:
    """The whole table."""

    shape: ModelShape
    options: HardwareOptions
    load: Load
    memory: tuple[Memory, ...]
    gpus_per_replica: int
    """GPUs that sample together, because the weights do not fit one."""
    rows: int
    """Samples that decode together on a replica."""
    cache: float
    """Bytes of their keys and values on each GPU."""
    works: tuple[Work, ...]


def training_memory(
    shape: ModelShape, options: HardwareOptions, *, is_adapter: bool, shards: int, name: str = ""
) -> Memory:
    """Bytes on each GPU while training.

    Args:
        is_adapter: LoRA; else all weights.
        shards: GPUs over which weights, reference and states are split evenly; 1: each GPU holds all.
    """
    size = options.weight_bytes
    adapter = shape.lora_parameters(options.lora_rank)
    trained = adapter if is_adapter else shape.parameters
    whole = shape.kept_bytes(size, options.lora_rank if is_adapter else 0)
    per_layer = size * shape.width if options.checkpointing else whole
    kept = options.kept_tokens * (shape.layers * per_layer + 2 * size * shape.width)
    # One layer's activations, when they are computed again; and what its backward makes on its way.
    at_work = options.kept_tokens * (
        (whole if options.checkpointing else 0) + size * (2 * shape.inner + 4 * shape.width)
    )
    head = 4.0 * 2 * min(_LOGITS_AT_ONCE, options.kept_tokens * shape.vocabulary)
    gathered = 2 * size * shape.layer_parameters if shards > 1 else 0.0
    return Memory(
        name=name,
        weights=(size * shape.parameters + (4.0 * adapter if is_adapter else 0.0)) / shards,
        reference=0.0 if is_adapter else size * shape.parameters / shards,
        states=options.state_bytes * trained / shards,
        activations=kept,
        work=max(at_work, head) + gathered + options.reserve * GIB,
    )


def hardware_plan(shape: ModelShape, options: HardwareOptions, load: Load) -> HardwarePlan:
    """Memory and time of one profile and one training."""
    gpus = options.gpus
    memory = [
        training_memory(shape, options, is_adapter=is_adapter, shards=shards, name=f"{what}{how}")
        for what, is_adapter in (("LoRA", True), ("all weights", False))
        for how, shards in (("", 1), *([(", sharded", gpus)] if gpus > 1 else []))
    ]
    room = options.gpu_memory * GIB
    weights = options.weight_bytes * shape.parameters
    split = 1
    while split < gpus and weights / split > _WEIGHTS_SHARE * room:
        split *= 2
    split = min(split, gpus)
    # The samples of a turn share the keys and values of their prompt.
    of_row = shape.cached_bytes(options.weight_bytes) * (load.prompt_length / load.group_size + load.action_length)
    free = split * (_USABLE * room - options.reserve * GIB) - weights
    rows = int(max(1, min(_MOST_ROWS, free // of_row)))
    works = _works(shape, options, load, split, rows)
    return HardwarePlan(shape, options, load, tuple(memory), split, rows, rows * of_row / split, works)


def _works(shape: ModelShape, options: HardwareOptions, load: Load, split: int, rows: int) -> tuple[Work, ...]:
    gpus, flops = options.gpus, options.gpu_tflops * 1e12
    groups = float(load.num_steps * load.turns_per_step)
    samples = groups * load.group_size

    def prompts(name: str, number: float) -> Work:
        tokens = number * load.prompt_length
        work = tokens * shape.forward_flops(load.prompt_length / 2)
        return Work(name, tokens, work / (flops * options.prefill_utilisation * gpus))

    def actions(name: str, number: float) -> Work:
        tokens = number * load.action_length
        context = load.prompt_length + load.action_length / 2
        moved = options.weight_bytes * shape.parameters / rows + shape.cached_bytes(options.weight_bytes) * context
        by_bandwidth = moved / (options.gpu_bandwidth * 1e9 * options.decode_utilisation * gpus)
        work = shape.forward_flops(context) + shape.head_flops
        by_operations = work / (flops * options.prefill_utilisation * gpus)
        return Work(name, tokens, tokens * max(by_bandwidth, by_operations))

    def updates(name: str, is_adapter: bool, is_shared: bool) -> Work:
        rows_of_prompt = groups if is_shared else samples
        first, last = rows_of_prompt * load.prompt_length, samples * load.action_length
        forward = first * shape.forward_flops(load.prompt_length / 2)
        forward += last * (shape.forward_flops(load.prompt_length + load.action_length / 2) + shape.head_flops)
        passes = (2 if is_adapter else 3) + (1 if options.checkpointing else 0)
        return Work(name, first + last, passes * forward / (flops * options.train_utilisation * gpus))

    number = load.candidate_turns
    return (
        prompts("profile: prompts", number),
        actions("profile: actions", number * load.num_samples),
        prompts("training: prompts", groups),
        actions("training: actions", samples),
        updates("updates, LoRA, prompts shared", True, True),
        updates("updates, LoRA, plain rows", True, False),
        updates("updates, all weights, prompts shared", False, True),
        updates("updates, all weights, plain rows", False, False),
    )


def pass_tokens_of(shape: ModelShape, weight_bytes: float, lora_rank: int, num_bytes: float) -> int:
    """Tokens whose activations fit into so many bytes, as :func:`pivotrl.engine.memory.tokens_that_fit` counts them."""
    each = shape.layers * shape.kept_bytes(weight_bytes, lora_rank) + 2 * weight_bytes * shape.width
    return max(1, math.floor(num_bytes / each / 256)) * 256


def here(shape: ModelShape, *, lora_rank: int, is_half: bool, update_tokens: float, machine_bytes: float) -> Memory:
    """Bytes while pivotrl trains on a CPU, as docs/engine.md counts them.

    Args:
        lora_rank: 0: all weights.
        update_tokens: tokens of one update; more than fit are processed in chunks.
        machine_bytes: memory of the machine, of which a quarter, at most 6 GiB, may hold activations.
    """
    size = 2.0 if is_half else 4.0
    fit = pass_tokens_of(shape, size, lora_rank, min(6 * GIB, machine_bytes / 4))
    options = HardwareOptions(
        weight_bytes=size,
        lora_rank=max(1, lora_rank),
        state_bytes=12.0 if lora_rank else 3 * size,
        kept_tokens=max(1, min(fit, math.ceil(update_tokens))),
        checkpointing=False,
        reserve=0.0,
    )
    return training_memory(shape, options, is_adapter=lora_rank > 0, shards=1)
