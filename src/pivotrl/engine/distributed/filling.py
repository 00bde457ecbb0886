"""Gives the leader's weights to all processes: one tensor at a time, of which each keeps its shard.

The other processes build the model on the meta device, where it takes no memory, so only the leader reads the files and
ever holds a whole copy that it does not compute with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import distribute_tensor

Layout = Mapping[str, tuple[tuple[int, ...], str]]
"""name of a parameter -> its shape and dtype"""


def layout_of(model: Any) -> Layout:
    return {name: (tuple(p.shape), str(p.dtype)) for name, p in model.named_parameters()}


def make_room(root: Any, device: torch.device, shards_on: torch.device) -> None:
    """Give a model in shards on the meta device memory, which holds anything."""
    root.to_empty(device=shards_on)
    for module in root.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(device)
        for name, tensor in _loose(module):
            setattr(module, name, torch.empty_like(tensor, device=device))


@torch.no_grad()
def fill(root: Any, whole: Mapping[str, Tensor], mesh: DeviceMesh, device: torch.device) -> None:
    """All processes together: have the leader's parameters, buffers and other tensors.

    Args:
        root: the model in shards.
        whole: the leader's parameters by name; of the others, whatever they hold has the right shapes, or nothing.
        device: through which tensors travel.
    """
    for name, parameter in root.named_parameters():
        given = whole.get(name)
        if given is None:
            given = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
        cut = distribute_tensor(given.detach().to(device), mesh, parameter.placements)
        parameter.to_local().copy_(cut.to_local())
    for tensor in (*root.buffers(), *(tensor for module in root.modules() for _, tensor in _loose(module))):
        there = tensor.contiguous()
        dist.broadcast(there, src=0, group=mesh.get_group())
        tensor.copy_(there)


def _loose(module: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a module that are neither parameters nor buffers."""
    return ((name, value) for name, value in sorted(vars(module).items()) if isinstance(value, Tensor))
