"""Memory and time by formula, for hardware that is not at hand. Every assumption is an option."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from pivotrl.options import AtLeast0, AtLeast1, InputError, NotNegative, Positive, check
from pivotrl.report.planning.processes import (
    GIB,
    Batch,
    Device,
    ProcessMemory,
    Way,
    fewest,
    process_memory,
    ways_of,
)
from pivotrl.report.planning.shapes import ModelShape

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
    """Print the table by formula for a model of this size, such as 8B or 500M, or for the model in this folder."""
    gpus: AtLeast1 | None = None
    """Print the table by formula for so many GPUs, and the model of --model or --model-size. None: 1."""
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
    """Of other stacks: bytes of a trained parameter besides the weight: gradient 4, fp32 copy 4, Adam 8. Pivotrl itself
    keeps 12 for fp32 weights and 6 for bf16 ones."""
    kept_tokens: AtLeast1 = 8192
    """Tokens of a pass whose activations are kept at once on a GPU."""
    checkpointing: bool = True
    """Of other stacks, and of time: keep only the input of each layer and compute the rest again, at the price of one
    more forward."""
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
    """Bytes on each GPU while another stack trains, with everything split evenly (FSDP, ZeRO-3)."""

    name: str
    weights: float
    reference: float
    """The frozen copy that all weights need; an adapter is switched off instead."""
    gradients: float
    moments: float
    """With fp32 copies of trained weights, if there are any."""
    activations: float
    work: float
    """One layer or a block of logits at work, whichever needs more, and the reserve."""

    @property
    def total(self) -> float:
        return self.weights + self.reference + self.gradients + self.moments + self.activations + self.work


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
    memory: tuple[ProcessMemory, ...]
    """Of pivotrl itself, for each way that so many GPUs can take."""
    ways: tuple[Way, ...]
    fewest: tuple[int | None, ...]
    """GPUs that each way needs; None: none of up to 1,024 suffice."""
    sharded: tuple[Memory, ...]
    """Of other stacks."""
    gpus_per_replica: int
    """GPUs that sample together, because the weights do not fit one."""
    rows: int
    """Samples that decode together on a replica."""
    cache: float
    """Bytes of their keys and values on each GPU."""
    works: tuple[Work, ...]


def sharded_memory(
    shape: ModelShape, options: HardwareOptions, *, is_adapter: bool, shards: int, name: str = ""
) -> Memory:
    """Bytes on each GPU while another stack trains.

    Args:
        is_adapter: LoRA; else all weights.
        shards: GPUs over which weights, reference, gradients and moments are split evenly.
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
    gradients = min(4.0, options.state_bytes)
    gathered = 2 * size * shape.layer_parameters if shards > 1 else 0.0
    return Memory(
        name=name,
        weights=(size * shape.parameters + (4.0 * adapter if is_adapter else 0.0)) / shards,
        reference=0.0 if is_adapter else size * shape.parameters / shards,
        gradients=gradients * trained / shards,
        moments=(options.state_bytes - gradients) * trained / shards,
        activations=kept,
        work=max(at_work, head) + gathered + options.reserve * GIB,
    )


def hardware_plan(shape: ModelShape, options: HardwareOptions, load: Load) -> HardwarePlan:
    """Memory and time of one profile and one training.

    Raises:
        InputError: a prompt with its action is longer than the model's context.
    """
    gpus, longest = options.gpus or 1, load.prompt_length + load.action_length
    if shape.context is not None and longest > shape.context:
        raise InputError(
            f"a prompt of {load.prompt_length:,.0f} tokens with an action of {load.action_length:,.0f} is longer than "
            f"the context of {shape.name}, {shape.context:,} tokens; give a smaller --prompt-length or another model"
        )
    device = Device(options.gpu_memory * GIB, reserve=options.reserve * GIB)
    batch = Batch(
        load.prompt_length, load.action_length, load.group_size, load.turns_per_step, most_tokens=options.kept_tokens
    )
    ways = ways_of(options.lora_rank, options.weight_bytes)
    memory = tuple(process_memory(shape, way, gpus, batch, device) for way in ways if gpus > 1 or not way.needs_several)
    sharded = [
        sharded_memory(shape, options, is_adapter=is_adapter, shards=gpus, name=f"{what}, sharded")
        for what, is_adapter in (("LoRA", True), ("all", False))
    ]
    needed = {way: fewest(shape, way, batch, device) for way in ways}
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
    cache = rows * of_row / split
    return HardwarePlan(
        shape, options, load, memory, ways, tuple(needed.values()), tuple(sharded), split, rows, cache, works
    )


def _works(shape: ModelShape, options: HardwareOptions, load: Load, split: int, rows: int) -> tuple[Work, ...]:
    gpus, flops = options.gpus or 1, options.gpu_tflops * 1e12
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


def here(shape: ModelShape, *, lora_rank: int, is_half: bool, batch: Batch, machine_bytes: float) -> ProcessMemory:
    """Bytes while pivotrl trains on a CPU, in one process."""
    size = 2.0 if is_half else 4.0
    way = Way("here", "hf", lora_rank, size, size)
    return process_memory(shape, way, 1, batch, Device(machine_bytes, is_cpu=True))
