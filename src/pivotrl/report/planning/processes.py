"""Memory of a training by pivotrl itself, in one process or in several (docs/scale.md, "Memory")."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pivotrl.report.planning.shapes import ModelShape

GIB = float(1 << 30)
_LOGITS_AT_ONCE = 1 << 24
"""Numbers in a block of logits (engine/head.py)."""
_MULTIPLE = 256
_SHARE_OF_GPU, _SHARE_OF_CPU, _MOST_OF_CPU = 0.5, 0.25, 6 * GIB
"""Of the memory, what activations may take (engine/memory.py)."""
_DECODE_SHARE = 0.1
"""Of the memory left on a GPU, what keys and values of decoding samples may take (engine/memory.py)."""
_MOST_ROWS_GPU, _MOST_ROWS_CPU = 512, 64
_PAGES, _JOINING = 0.35, 3.0
"""Measured on the CPU (benchmarks/bench_memory.py): pages of the file that are in memory beside the weights, as a share
of them; three times as many where experts are joined to one tensor."""
_STAYS = 0.7
"""The same: of the parts that experts were joined from, what stays until the weights are cut."""
MOST_PROCESSES = 1024
"""More are not tried."""


@dataclass(frozen=True)
class Way:
    """How ``hf`` trains."""

    name: str
    options: str
    """Of ``hf``."""
    lora_rank: int
    """0: all weights."""
    shard_bytes: float
    """Of a number in weights and moments."""
    compute_bytes: float
    """Of a number while the model computes."""
    offload: bool = False

    @property
    def needs_several(self) -> bool:
        """Whether the options have a meaning only with several processes."""
        return self.offload or self.shard_bytes != self.compute_bytes


@dataclass(frozen=True)
class Device:
    """What a process has to itself."""

    memory: float
    """Bytes."""
    is_cpu: bool = False
    reserve: float = 0.0
    """Bytes for the CUDA context, buffers and fragments."""


@dataclass(frozen=True)
class Batch:
    """What all processes together learn from in an update, and sample for it."""

    prompt: float
    """Tokens of the longest prompt of a trajectory, which its turns share."""
    action: float
    group_size: int
    trajectories: int
    most_tokens: float = math.inf
    """Tokens of a pass whose activations are kept at once, at most."""

    @property
    def branches(self) -> float:
        """Tokens of the actions at a prompt."""
        return self.group_size * self.action


@dataclass(frozen=True)
class ProcessMemory:
    """Bytes that one process holds on its device.

    The first seven are held together at the peak of learning.
    """

    way: Way
    processes: int
    weights: float
    """Its shard, and the whole weights while it computes."""
    reference: float
    """The frozen copy; with LoRA in one process, the weights that folding the adapter overwrites."""
    gradients: float
    moments: float
    activations: float
    work: float
    """One layer or a block of logits at work, whichever needs more."""
    reserve: float
    cache: float
    """Keys and values while it samples."""
    loading: float
    """Of process 0: the whole model, until weights are cut."""

    @property
    def learning(self) -> float:
        parts = (self.weights, self.reference, self.gradients, self.moments, self.activations, self.work, self.reserve)
        return sum(parts)

    @property
    def sampling(self) -> float:
        return self.weights + self.reference + self.moments + self.cache + self.reserve

    @property
    def peak(self) -> float:
        return max(self.learning, self.sampling, self.loading)


def process_memory(shape: ModelShape, way: Way, processes: int, batch: Batch, device: Device) -> ProcessMemory:
    """Memory of the process with the most work.

    Args:
        processes: 1: nothing is cut.
    """
    size, rank = way.shard_bytes, way.lora_rank
    adapter = shape.lora_parameters(rank) if rank else 0
    trained, number = (adapter, 4.0) if rank else (shape.trained, size)  # peft keeps adapters in fp32
    model = size * shape.parameters + (4.0 * adapter)
    frozen = size * (shape.adapted if rank else shape.parameters)
    if processes == 1:
        weights, reference, gradients, moments = model, frozen, number * trained, 2 * number * trained
    else:
        here = 0.0 if way.offload and not device.is_cpu else 1.0 / processes
        whole = way.compute_bytes * shape.parameters + (way.compute_bytes if rank else 0.0) * adapter
        weights = here * model + whole
        reference = 0.0 if rank else here * frozen
        is_mixed = way.compute_bytes != size
        gradients = (4.0 if is_mixed or rank else size) * trained
        moments = here * 2 * number * trained
    if processes == 1 and device.is_cpu and shape.chosen_experts:
        weights += _STAYS * model
    activations, work = _pass_memory(shape, way, processes, batch, device, model, number * trained)
    return ProcessMemory(
        way=way,
        processes=processes,
        weights=weights,
        reference=reference,
        gradients=gradients,
        moments=moments,
        activations=activations,
        work=work,
        reserve=device.reserve,
        cache=_cache(shape, way, processes, batch, device, model, number * trained),
        loading=_loading(shape, way, processes, device, model, frozen) + device.reserve,
    )


def _loading(shape: ModelShape, way: Way, processes: int, device: Device, model: float, frozen: float) -> float:
    """Before the first sample: the whole model and what is kept of it; then shards beside whole weights."""
    pages = _PAGES * way.shard_bytes * shape.parameters * (_JOINING if shape.chosen_experts else 1.0)
    frozen = 0.0 if way.lora_rank else frozen  # the copy for a folded adapter comes with the first sample
    # With others, its shard lies beside whole weights: those that it has read, later those that are gathered.
    several = model / processes + max(model, way.compute_bytes * shape.parameters)
    needed = model if processes == 1 else several
    return frozen + needed + (pages if device.is_cpu else 0.0)


def pass_tokens_of(shape: ModelShape, way: Way, device: Device, model: float, trained: float) -> float:
    """Tokens whose activations may be kept at once, as :func:`pivotrl.engine.memory.tokens_that_fit` counts them.

    Args:
        model: bytes of all weights before they are cut.
        trained: bytes of those that are trained.
    """
    room = min(_MOST_OF_CPU, _SHARE_OF_CPU * device.memory)
    if not device.is_cpu:
        room = _SHARE_OF_GPU * _left(device, model, trained)
    return max(1, math.floor(room / _per_token(shape, way.shard_bytes, way.lora_rank) / _MULTIPLE)) * _MULTIPLE


def _left(device: Device, model: float, trained: float) -> float:
    return max(device.memory - 2 * model - 3 * trained, device.memory / 10)


def _per_token(shape: ModelShape, size: float, rank: int) -> float:
    """Bytes of activations of a token in all layers, and around them."""
    return shape.layers * shape.kept_bytes(size, rank) + 2 * size * shape.width


def _pass_memory(
    shape: ModelShape, way: Way, processes: int, batch: Batch, device: Device, model: float, trained: float
) -> tuple[float, float]:
    """(activations, work) of the engine's forests: a trunk, which is the prompt, and its branches."""
    size, rank = way.compute_bytes, way.lora_rank
    most = min(batch.most_tokens, pass_tokens_of(shape, way, device, model, trained))
    each, per_layer = _per_token(shape, size, rank), shape.kept_bytes(size, rank)
    forest = batch.prompt + batch.branches
    share = math.ceil(batch.trajectories / processes) * forest
    if forest <= most:
        at_once = min(share, math.floor(most / forest) * forest)
        activations = at_once * each
    elif batch.prompt <= most / 2:  # the trunk's activations stay, with a buffer for the gradients of keys and values
        at_once = most
        activations = most * each + batch.prompt * shape.cached_bytes(4.0)
    else:  # of the trunk, only the inputs of layers stay, with keys and values
        stays = batch.prompt * (size * shape.width * shape.layers + shape.cached_bytes(size) + shape.cached_bytes(4.0))
        at_once = max(batch.prompt, min(batch.branches, most))
        activations = stays + max(min(batch.branches, most) * each, batch.prompt * per_layer)
    at_work = at_once * size * (2 * shape.inner + 4 * shape.width)
    scored = min(share, at_once, share - math.ceil(batch.trajectories / processes) * (batch.prompt - 1))
    head = 4.0 * 2 * min(_LOGITS_AT_ONCE, scored * shape.vocabulary)
    return activations, max(at_work, head)


def _cache(
    shape: ModelShape, way: Way, processes: int, batch: Batch, device: Device, model: float, trained: float
) -> float:
    """Keys and values of the samples that decode together, and of their prompts."""
    size = way.compute_bytes
    of_token = shape.cached_bytes(size)
    rows = float(math.ceil(batch.trajectories / processes) * batch.group_size)
    if device.is_cpu:
        rows = min(rows, _MOST_ROWS_CPU)
    else:
        fit = _DECODE_SHARE * _left(device, model, trained) / (of_token * max(1.0, batch.action))
        rows = max(1.0, min(rows, _MOST_ROWS_GPU, math.floor(fit)))
    return of_token * (rows * batch.action + math.ceil(rows / batch.group_size) * batch.prompt)


def fewest(shape: ModelShape, way: Way, batch: Batch, device: Device) -> int | None:
    """The smallest number of processes, a power of two, in which the training fits; None: in no number up to 1,024."""
    number = 2 if way.needs_several else 1
    while number <= MOST_PROCESSES:
        if process_memory(shape, way, number, batch, device).peak <= device.memory:
            return number
        number *= 2
    return None


def ways_of(lora_rank: int, dtype_bytes: float) -> tuple[Way, ...]:
    """The ways that are told side by side.

    Args:
        dtype_bytes: of a weight: 2 is bf16, 4 is fp32.
    """
    rank, half = f"lora_rank={lora_rank}", dtype_bytes < 4
    dtype = "bfloat16" if half else "float32"
    lora = Way("LoRA", f"hf({rank}, dtype='{dtype}')", lora_rank, dtype_bytes, dtype_bytes)
    whole = Way("all", f"hf(lora_rank=0, dtype='{dtype}')", 0, dtype_bytes, dtype_bytes)
    mixed = Way("all, mixed", "hf(lora_rank=0, dtype='float32', compute_dtype='bfloat16')", 0, 4.0, 2.0)
    return (lora, _offloaded(lora), whole, _offloaded(whole), mixed, _offloaded(mixed))


def _offloaded(way: Way) -> Way:
    return replace(way, name=f"{way.name}, offload", options=f"{way.options[:-1]}, offload=True)", offload=True)
