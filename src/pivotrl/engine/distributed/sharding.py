"""The weights of a model in shards, one in each process, by FSDP2; and whole while the model computes.

Between updates a process holds its shard alone. Before the model computes, all processes gather the weights, layer
after layer, and keep them until the next optimizer step. So inside a pass nothing is exchanged: processes may run any
executor, any number of forwards and backwards, or none at all, without waiting for each other. After the backwards the
gradients are summed into the shards, again layer after layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor

from pivotrl.engine.decoder import backbone
from pivotrl.engine.distributed.filling import fill, make_room
from pivotrl.engine.trainable import Trainable


@dataclass(frozen=True)
class ShardOptions:
    """
    Args:
        mesh: the processes, in one dimension.
        device: where this process computes.
        compute_dtype: of gathered weights and of passes; None: that of the shards.
        offload: keep shards of weights, gradients and moments in the memory of the CPU.
    """

    mesh: DeviceMesh
    device: torch.device
    compute_dtype: torch.dtype | None = None
    offload: bool = False


class ShardedModel:
    """A model whose weights are cut into shards, in place.

    Args:
        model: a causal LM of transformers, with or without an adapter. Every process has the same; it may lie on the
            meta device of those that do not lead, as the leader's weights are taken.
    """

    def __init__(self, model: Any, options: ShardOptions) -> None:
        self.root, self.device = backbone(model), options.device
        is_empty = self.root.device.type == "meta"
        whole: dict[str, torch.Tensor] = {} if is_empty else dict(self.root.named_parameters())
        # Where passes compute in half precision, gradients are summed in single precision all the same.
        reduced = None if options.compute_dtype is None else torch.float32
        policy = MixedPrecisionPolicy(options.compute_dtype, reduced, None, cast_forward_inputs=False)
        pinned = options.mesh.device_type == "cuda"
        offload = CPUOffloadPolicy(pin_memory=pinned) if options.offload else OffloadPolicy()
        settings: dict[str, Any] = {
            "mesh": options.mesh,
            "mp_policy": policy,
            "offload_policy": offload,
            "reshard_after_forward": False,
        }
        for module in (*Trainable(self.root, 0).layers, self.root):
            fully_shard(module, **settings)
            module.set_gradient_divide_factor(1.0)  # weights hold the denominators of the whole batch
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other
            module.set_reduce_scatter_unused_params(True)  # a process without work, experts that nobody chose
        if is_empty:
            make_room(self.root, self.device, torch.device("cpu") if options.offload else self.device)
        fill(self.root, whole, options.mesh, self.device)
        whole.clear()  # or they would lie beside the gathered ones
        self._accumulate(True)
        self.is_whole = False
        self._forward_once()  # FSDP takes the first module that runs for the root

    @torch.no_grad()
    def _forward_once(self) -> None:
        self.root(input_ids=self._one_token(), use_cache=False)
        self.release()

    def _one_token(self) -> torch.Tensor:
        return torch.ones(1, 1, dtype=torch.long, device=self.device)

    def _accumulate(self, yes: bool) -> None:
        """Whether backwards keep gradients whole and to themselves."""
        self.root.set_requires_gradient_sync(not yes)
        self.root.set_reshard_after_backward(not yes)

    def gather(self) -> None:
        """All processes together: give each the whole weights."""
        if self.is_whole:
            return
        for module in self._units():
            module.unshard()
        self.is_whole = True

    def release(self) -> None:
        """Drop the whole weights, what was changed in them, and gradients that were not summed. A process may do it
        alone, also after an error in the middle of a pass."""
        for parameter in self.root.parameters():
            if not isinstance(parameter, DTensor):
                parameter.grad = None
        for module in self._units():
            for group in module._get_fsdp_state()._fsdp_param_groups:
                for each in group.fsdp_params:
                    each.unsharded_accumulated_grad = None
        self.root.reset_iter_state()
        self.is_whole = False

    def reduce(self) -> None:
        """All processes together: sum the gradients into the shards, and drop whole weights and gradients.

        A backward of zero triggers it, so a process without work joins in as any other.
        """
        assert self.is_whole
        self._accumulate(False)
        with torch.enable_grad():
            logits = self.root(input_ids=self._one_token(), use_cache=False).logits
            (logits.sum() * 0.0).backward()
        self._accumulate(True)
        self.release()

    def _units(self) -> list[FSDPModule]:
        return [module for module in self.root.modules() if isinstance(module, FSDPModule)]


def whole_tensors(model: Any) -> dict[str, torch.Tensor]:
    """What ``state_dict`` would give, from whole weights: FSDP's own always gives shards."""
    found = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        kept = [(n, p) for n, p in module._parameters.items() if p is not None]
        kept += [(n, b) for n, b in module._buffers.items() if b is not None and n not in _passing(module)]
        for name, tensor in kept:
            assert not isinstance(tensor, DTensor), "gather the weights first"
            found[f"{prefix}.{name}" if prefix else name] = tensor.detach()
    return found


def _passing(module: torch.nn.Module) -> set[str]:
    """Buffers that are not saved."""
    return module._non_persistent_buffers_set


def is_sharded(model: Any) -> bool:
    return isinstance(model, FSDPModule)
