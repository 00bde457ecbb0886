"""Spreads a policy of one process over all that torchrun started."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh

from pivotrl.engine.distributed.crew import Crew
from pivotrl.engine.distributed.launch import current_crew
from pivotrl.engine.distributed.learning import ShardedLearner, SharedGenerator
from pivotrl.engine.distributed.sharding import ShardOptions
from pivotrl.engine.distributed.sites import Site
from pivotrl.engine.distributed.weights import ShardedWeights, Which
from pivotrl.engine.generation import LocalGenerator
from pivotrl.engine.learning import LocalLearner
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


def spread(
    crew: Crew, learner: LocalLearner, generator: LocalGenerator, compute_dtype: torch.dtype | None, offload: bool
) -> tuple[ShardedLearner, SharedGenerator, SharedGenerator]:
    """All processes together: (learner, generator, generator of the reference). Do not use what was passed in."""
    mesh = init_device_mesh(learner.weights.model.device.type, (crew.size,))
    weights = ShardedWeights(learner.weights, ShardOptions(mesh, compute_dtype, offload))
    policy, reference = generator.drawing_from(weights.folded), generator.drawing_from(weights.reference)
    generators: dict[Which, LocalGenerator] = {"policy": policy, "reference": reference}
    crew.site = site = Site(crew, weights, learner.executor, learner.reference_executor, generators)
    crew.built()
    return (
        ShardedLearner(learner, site),
        SharedGenerator(policy, "policy", site),
        SharedGenerator(reference, "reference", site),
    )
