"""Spreads a policy of one process over all that torchrun started."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh

from pivotrl.engine.decoder import backbone
from pivotrl.engine.distributed.crew import Crew
from pivotrl.engine.distributed.filling import Layout, layout_of
from pivotrl.engine.distributed.launch import current_crew, own_device
from pivotrl.engine.distributed.learning import ShardedLearner, SharedGenerator
from pivotrl.engine.distributed.sharding import ShardOptions
from pivotrl.engine.distributed.sites import Site
from pivotrl.engine.distributed.weights import ShardedWeights, Which
from pivotrl.engine.episode_trunks import EpisodeTrunks
from pivotrl.engine.executors import Executor, ExecutorName, make_executor
from pivotrl.engine.generation import LocalGenerator
from pivotrl.engine.learning import LocalLearner
from pivotrl.engine.loading import Dtype, load_empty_model, resolve_device, resolve_dtype
from pivotrl.engine.memory import trunk_bytes
from pivotrl.engine.weights import Weights
from pivotrl.protocols import InputError


def begin(
    name: str, given: Mapping[str, Any], only_spread: Mapping[str, Any], only_alone: Mapping[str, Sequence[Any]]
) -> Crew | None:
    """The processes to spread over, or None if there is one. The leader lets the others build the same policy.

    Args:
        name, given: the policy and its options.
        only_spread: options that have a meaning only with several processes, with their neutral values.
        only_alone: options of which several processes take only these values.

    Raises:
        InputError: an option was given that does not go with the number of processes.
    """
    crew = current_crew()
    if crew is None:
        for option, neutral in only_spread.items():
            if given[option] != neutral:
                raise InputError(
                    f"{option}={given[option]!r} needs several processes: start with torchrun (docs/scale.md)"
                )
    elif crew.rank == 0:
        for option, allowed in only_alone.items():
            if given[option] not in allowed:
                raise InputError(f"{option}={given[option]!r} needs a single process: start without torchrun")
        crew.build(name, given)
    return crew


def apart(crew: Crew | None) -> AbstractContextManager[None]:
    """Inside, processes work alone, see :meth:`Crew.apart`; a single process does anyway."""
    return contextlib.nullcontext() if crew is None else crew.apart()


@dataclass(frozen=True)
class Plan:
    """What the leader found out with its model. The others build theirs after it, without weights.

    Args:
        names: of what is trained, see :attr:`pivotrl.engine.weights.Weights.names`.
        layout: of the trained model.
        is_tied: whether the output layer is the embedding.
        attention: the implementation that transformers is told.
        executor, max_tokens: how batches are learned from, see :func:`pivotrl.engine.executors.make_executor`.
        way, batch_rows, max_context, trunk_bytes: how samples are drawn, see
            :class:`pivotrl.engine.generation.LocalGenerator`.
    """

    names: Sequence[str]
    layout: Layout
    is_tied: bool
    attention: str
    executor: ExecutorName
    max_tokens: int
    way: str
    batch_rows: int | None
    max_context: int
    trunk_bytes: int

    @classmethod
    def of(cls, learner: LocalLearner, generator: LocalGenerator) -> Plan:
        weights, executor = learner.weights, learner.executor
        root = backbone(weights.model)
        first, last = root.get_input_embeddings(), root.get_output_embeddings()
        return cls(
            weights.names,
            layout_of(root),
            first.weight is last.weight,
            root.config.get_text_config()._attn_implementation,
            executor.name,
            executor.max_tokens,
            generator.way,
            generator.batch_rows,
            generator.max_context,
            trunk_bytes(weights.model),
        )


def lead(
    crew: Crew, learner: LocalLearner, generator: LocalGenerator, compute_dtype: torch.dtype | None, offload: bool
) -> tuple[ShardedLearner, SharedGenerator, SharedGenerator]:
    """The leader, while the others :func:`join`: (learner, generator, generator of the reference). Do not use what was
    passed in.

    Raises:
        InputError: another process cannot build the same model.
    """
    crew.same(Plan.of(learner, generator))
    with crew.apart():  # the others build theirs, and all learn who failed
        pass
    learner.optimizer = None  # it would keep the whole weights in memory
    executors, device = (learner.executor, learner.reference_executor), learner.weights.model.device
    site = _put_site(crew, learner.weights, executors, generator, device, compute_dtype, offload)
    crew.built()
    return (
        ShardedLearner(learner, site),
        SharedGenerator(generator, "policy", site),
        SharedGenerator(generator, "reference", site),
    )


def join(
    crew: Crew,
    name: str,
    device: str,
    dtype: Dtype,
    make_weights: Callable[..., Weights],
    compute_dtype: Dtype,
    offload: bool,
) -> None:
    """A process that does not lead: be ready to do its share.

    Args:
        name, device, dtype, compute_dtype, offload: see :class:`pivotrl.policies.hf.Policy`.
        make_weights: (model, names=...) -> its weights.

    Raises:
        InputError: it cannot build the model that the leader has.
    """
    with crew.apart():
        own = resolve_device(own_device(device))
        numbers = resolve_dtype(dtype, own)
    plan: Plan = crew.same(None)
    with crew.apart():
        model = load_empty_model(name, numbers, plan.is_tied)
        model.set_attn_implementation(plan.attention)
        weights = make_weights(model, names=plan.names)
        _require_layout(weights, plan.layout, name)
        executor = make_executor(plan.executor, weights.model, plan.max_tokens)
        reference = executor
        if weights.frozen_copy is not None:
            reference = make_executor(plan.executor, weights.frozen_copy, plan.max_tokens)

    generator = LocalGenerator(
        weights.folded,
        weights.model,
        identity={},
        max_context=plan.max_context,
        way=plan.way,
        batch_rows=plan.batch_rows,
        trunks=EpisodeTrunks(plan.trunk_bytes),
    )
    computes_in = numbers if compute_dtype == "auto" else resolve_dtype(compute_dtype, own)
    options = None if computes_in == numbers else computes_in, offload
    _put_site(crew, weights, (executor, reference), generator, own, *options)


def _put_site(
    crew: Crew,
    whole: Weights,
    executors: tuple[Executor, Executor],
    generator: LocalGenerator,
    device: torch.device,
    compute_dtype: torch.dtype | None,
    offload: bool,
) -> Site:
    """All processes together: cut the weights, and give the crew the place where this process does its share."""
    mesh = init_device_mesh(device.type, (crew.size,))
    weights = ShardedWeights(whole, ShardOptions(mesh, device, compute_dtype, offload))
    generators: dict[Which, LocalGenerator] = {
        "policy": generator.drawing_from(weights.folded),
        "reference": generator.drawing_from(weights.reference),
    }
    crew.site = site = Site(crew, weights, *executors, generators)
    return site


def _require_layout(weights: Weights, expected: Layout, name: str) -> None:
    """Take over the dtypes of single parameters.

    Raises:
        InputError: the model has other parameters than the leader's.
    """
    root = backbone(weights.model)
    ours, theirs = ({each: shape for each, (shape, _) in of.items()} for of in (layout_of(root), expected))
    if ours != theirs:
        unlike = sorted(each for each in ours.keys() | theirs.keys() if ours.get(each) != theirs.get(each))
        raise InputError(
            f"the model {name!r} has other parameters here than in process 0 ({unlike[0]} and {len(unlike) - 1} "
            "more); give all machines the same files"
        )
    for model in (root, weights.frozen_copy):
        for each, parameter in () if model is None else model.named_parameters():
            parameter.data = parameter.data.to(getattr(torch, expected[each][1].removeprefix("torch.")))
