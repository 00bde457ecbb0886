"""Checks after an optimizer step that the weights and the model's outputs are finite."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch

from pivotrl.protocols import InputError

_PROBE_TOKENS = 64


@torch.no_grad()
def require_finite(
    model: Any, optimizer: torch.optim.Optimizer, token_ids: Sequence[int], learning_rate: float
) -> None:
    """Check weights, moments and the logits of a text: finite weights can still be too large to give probabilities.

    Args:
        model: a causal LM whose parameters have just been changed.
        token_ids: a text of the batch; its last 64 tokens are used.

    Raises:
        InputError: a weight, a moment or a logit is not finite.
    """
    if not are_finite(optimizer) or not gives_finite(model, token_ids):
        raise blown_up(learning_rate)


def are_finite(optimizer: torch.optim.Optimizer) -> bool:
    """Whether weights and moments are finite; of sharded ones, the shards of this process."""
    weights = (weight for group in optimizer.param_groups for weight in group["params"])
    moments = (value for state in optimizer.state.values() for value in state.values())
    tensors = (getattr(each, "_local_tensor", each) for each in itertools.chain(weights, moments))
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


@torch.no_grad()
def gives_finite(model: Any, token_ids: Sequence[int]) -> bool:
    """Whether the logits after the last 64 of these tokens are finite."""
    input_ids = torch.tensor([list(token_ids[-_PROBE_TOKENS:])], device=model.device)
    return bool(torch.isfinite(model(input_ids=input_ids, use_cache=False, logits_to_keep=1).logits).all())


def optimizer_step(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """``optimizer.step()``.

    Raises:
        InputError: the learning rate exceeds the range of a weight.
    """
    try:
        optimizer.step()
    except RuntimeError as error:
        if "overflow" in str(error):
            raise blown_up(learning_rate) from error
        raise


def blown_up(learning_rate: float) -> InputError:
    """What to raise after such a step."""
    return InputError(
        f"a step at learning rate {learning_rate:g} made weights that give no finite numbers. The samples and the last "
        "checkpoint are kept; train again with a lower --learning-rate"
    )
