"""The decoder inside a causal LM, and a forward through it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def backbone(model: Any) -> Any:
    """The causal LM inside an adapter's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def forward(base: Any, taken: Any) -> Tensor:
    """Hidden states [T, D] of the rows of a pass."""
    hidden: Tensor = base.get_decoder()(
        input_ids=taken.input_ids_T[None],
        position_ids=taken.position_ids_T[None],
        # One number in four dimensions: models take it as a finished mask and build none.
        attention_mask=torch.zeros(1, 1, 1, 1, device=taken.input_ids_T.device),
        use_cache=False,
        forest_pass=taken,
    ).last_hidden_state[0]
    return hidden
