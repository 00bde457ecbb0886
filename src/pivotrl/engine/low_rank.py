"""The additions of plain LoRA to linear layers, and the sum of two such additions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from peft.tuners.lora import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor

_NAME = "default"


class LowRank(NamedTuple):
    """The addition ``scaling * up @ down`` to a weight: ``up`` [out, R] and ``down`` [R, in], fp32 on the CPU."""

    up: Tensor
    down: Tensor
    scaling: float


def plain_additions(model: Any) -> dict[str, LowRank] | None:
    """Module name (of the base model) -> what the adapter adds to it; None if the adapter does more than that.

    DoRA's magnitudes, biases, trained copies of whole modules or tokens, and layers that are not linear are more.

    Args:
        model: a PEFT model with one unmerged adapter.
    """
    found = {}
    for name, layer in model.get_base_model().named_modules():
        if isinstance(layer, AuxiliaryTrainingWrapper):
            return None
        if not isinstance(layer, BaseTunerLayer):
            continue
        if not _is_plain(layer):
            return None
        up, down = layer.lora_B[_NAME].weight, layer.lora_A[_NAME].weight
        found[name] = LowRank(_kept(up), _kept(down), float(layer.scaling[_NAME]))
    return found if model.peft_config[_NAME].bias == "none" else None


def _is_plain(layer: BaseTunerLayer) -> bool:
    return type(layer) is Linear and _NAME not in layer.lora_variant and not layer.lora_bias[_NAME]


def _kept(weight: Tensor) -> Tensor:
    return weight.detach().to("cpu", torch.float32, copy=True)


def add(first: Mapping[str, LowRank], second: Mapping[str, LowRank]) -> dict[str, LowRank]:
    """Both additions as one: ranks add up, ``s1 B1 A1 + s2 B2 A2 = [s1 B1, s2 B2] [A1; A2]``, with scaling 1."""
    parts: dict[str, list[LowRank]] = {}
    for additions in (first, second):
        for name, part in additions.items():
            parts.setdefault(name, []).append(part)
    return {
        name: LowRank(
            torch.cat([part.scaling * part.up for part in found], dim=1),
            torch.cat([part.down for part in found], dim=0),
            1.0,
        )
        for name, found in parts.items()
    }


def of_one_rank(additions: Mapping[str, LowRank]) -> dict[str, LowRank]:
    """The same additions, padded with zeros to the largest rank.

    Some programs that load adapters do not support ``rank_pattern``; all support a single rank.
    """
    rank = max(part.down.shape[0] for part in additions.values())
    filled = {}
    for name, part in additions.items():
        missing = rank - part.down.shape[0]
        filled[name] = LowRank(
            torch.nn.functional.pad(part.up, (0, missing)),
            torch.nn.functional.pad(part.down, (0, 0, 0, missing)),
            part.scaling,
        )
    return filled
