"""Saves and restores a training in shards, also with another number of processes, or from a single one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from pivotrl.engine.checkpoint import load_checkpoint
from pivotrl.engine.distributed.checkpoint import is_in_shards, read_shards, read_state, write_shards, write_state
from pivotrl.engine.distributed.crew import Crew
from pivotrl.protocols import InputError
from pivotrl.storage.folders import atomic_folder

_MOMENTS = ("exp_avg", "exp_avg_sq")


def save_training(
    path: Path, crew: Crew, trained: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """All processes together: write weights and moments into a folder that appears whole or not at all.

    Raises:
        ValueError: a tensor is not finite; such weights are never written.
        OSError: the disk is full; the old folder remains.
    """
    tensors = training_tensors(trained, optimizer)
    steps = {name: _steps(optimizer, parameter) for name, parameter in trained.items()}
    folder: Path | None = None
    with contextlib.ExitStack() as unfinished:
        with crew.apart():
            for name, tensor in tensors.items():
                if not torch.isfinite(_local(tensor)).all():
                    raise ValueError(f"{name} holds values that are not finite; the checkpoint was not written")
            if crew.rank == 0:
                folder = unfinished.enter_context(atomic_folder(path))
        folder = crew.same(folder)
        with crew.apart():
            write_shards(folder, tensors, crew.group)
        with crew.apart():
            if crew.rank == 0:
                write_state(folder, {"parameters": list(trained), "steps": steps})
                unfinished.close()


def load_training(
    path: Path, crew: Crew, trained: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """All processes together: put weights and moments into the shards.

    Raises:
        InputError: the checkpoint is damaged or holds other parameters.
    """
    in_shards = is_in_shards(path)
    with crew.apart():
        (restore_steps if in_shards else _load_whole)(path, trained, optimizer)
    if in_shards:
        with crew.apart():
            read_shards(path, training_tensors(trained, optimizer), crew.group)


def restore_steps(path: Path, trained: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Make room for the moments that a checkpoint in shards has, and count its steps.

    Raises:
        InputError: the checkpoint is damaged or holds other parameters.
    """
    state = read_state(path)
    if state["parameters"] != list(trained):
        raise InputError(f"{path} holds other parameters than this policy trains; use the settings it was made with")
    optimizer.state.clear()
    for name, parameter in trained.items():
        if (steps := state["steps"][name]) is not None:
            moments = {kind: torch.zeros_like(parameter, requires_grad=False) for kind in _MOMENTS}
            optimizer.state[parameter] = {"step": torch.tensor(float(steps)), **moments}


def training_tensors(trained: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What a checkpoint in shards holds, by its names."""
    tensors: dict[str, Tensor] = {f"weights|{name}": parameter.detach() for name, parameter in trained.items()}
    for name, parameter in trained.items():
        state = optimizer.state.get(parameter, {})
        tensors |= {f"{kind}|{name}": state[kind] for kind in _MOMENTS if kind in state}
    return tensors


def _steps(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter) -> int | None:
    state = optimizer.state.get(parameter, {})
    return int(state["step"]) if state else None


def _load_whole(path: Path, trained: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """From a checkpoint of a single process."""
    tensors, state = load_checkpoint(path)
    shapes = {name: value.shape for name, value in tensors["weights"].items()}
    if state["parameters"] != list(trained) or shapes != {name: p.shape for name, p in trained.items()}:
        raise InputError(f"{path} holds other parameters than this policy trains; use the settings it was made with")
    optimizer.state.clear()
    with torch.no_grad():
        for name, value in tensors["weights"].items():
            _local(trained[name]).copy_(_local(_cut_like(value, trained[name])))
        for key, value in tensors["optimizer"].items():
            name, _, kind = key.rpartition("|")
            parameter = trained[name]
            optimizer.state[parameter][kind] = value.clone() if kind == "step" else _cut_like(value, parameter)


def _cut_like(whole: Tensor, parameter: Any) -> Tensor:
    """The shards of a tensor that every process has; nothing is sent."""
    if not isinstance(parameter, DTensor):  # each process has all of it
        return whole.to(parameter.device).clone()
    device = _local(parameter).device
    cut = distribute_tensor(whole.to(device), parameter.device_mesh, parameter.placements, src_data_rank=None)
    return cut.clone()


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
