"""Log-probabilities of given tokens from hidden states, with at most one block of full-vocabulary logits at a time.

Suffixes: _U rows of hidden states, _S scored tokens (several may share a row), _V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

_LOGITS_AT_ONCE = 1 << 24
"""Numbers in one block of logits: 64 MiB in fp32."""


@dataclass(frozen=True)
class Head:
    """The output layer of a model: logits = softcap(scale * (hidden @ weight.T + bias))."""

    layer: Any
    weight: Tensor
    scale: float
    softcap: float | None

    @classmethod
    def of(cls, model: Any) -> Head:
        config, layer = model.config.get_text_config(), model.get_output_embeddings()
        scale = float(getattr(config, "logit_scale", None) or getattr(config, "lm_head_multiplier", None) or 1.0)
        scale /= float(getattr(config, "logits_scaling", None) or 1.0)
        return cls(layer, layer.weight, scale, getattr(config, "final_logit_softcapping", None))

    def logits(self, hidden_UD: Tensor) -> Tensor:
        """[U, V] in fp32 (fp64 for fp64)."""
        logits: Tensor = self.layer(hidden_UD)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits


def score(head: Head, hidden_UD: Tensor, row_S: Tensor, target_S: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(log-probability, entropy) [S] of the distribution at row ``row_S``; only the log-probability has a gradient.

    Args:
        row_S: rows of ``hidden_UD``, ascending.
    """
    size = max(1, _LOGITS_AT_ONCE // head.weight.shape[0])
    is_whole = not isinstance(head.weight, DTensor)
    frozen = is_whole and not head.weight.requires_grad and head.softcap is None
    logprobs, entropies = [], []
    for low in range(0, len(hidden_UD), size):
        first, last = torch.searchsorted(row_S, torch.tensor([low, low + size], device=row_S.device)).tolist()
        block, row, target = hidden_UD[low : low + size], row_S[first:last] - low, target_S[first:last]
        if not (torch.is_grad_enabled() and hidden_UD.requires_grad):
            logprob, entropy = _block(block, row, target, head, temperature)
        elif frozen:
            logprob, entropy = _FrozenHead.apply(block, row, target, head, temperature)  # type: ignore[no-untyped-call]
        else:
            logprob, entropy = checkpoint(_block, block, row, target, head, temperature, use_reentrant=False)
        logprobs.append(logprob)
        entropies.append(entropy.detach())
    return torch.cat(logprobs), torch.cat(entropies)


def _block(hidden_UD: Tensor, row_S: Tensor, target_S: Tensor, head: Head, temperature: float) -> tuple[Tensor, Tensor]:
    logits_UV = head.logits(hidden_UD)
    if temperature != 1.0:
        logits_UV = logits_UV / temperature
    lse_U = logits_UV.logsumexp(dim=-1)
    with torch.no_grad():
        entropy_U = lse_U - (torch.exp(logits_UV - lse_U[:, None]) * logits_UV).sum(dim=-1)
    return logits_UV[row_S, target_S] - lse_U[row_S], entropy_U[row_S]


class _FrozenHead(torch.autograd.Function):
    """With frozen weights the logits determine the gradient of a hidden state up to one factor per scored token:
    weight[target] - probabilities @ weight. So the logits are computed once and not kept."""

    @staticmethod
    def forward(ctx: Any, hidden_UD: Tensor, row_S: Tensor, target_S: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        head, temperature = rest
        logprobs_UV = torch.log_softmax(head.logits(hidden_UD) / temperature, dim=-1)
        chosen_S = logprobs_UV[row_S, target_S]
        probabilities_UV = logprobs_UV.exp()
        entropy_U = -(probabilities_UV * logprobs_UV).sum(dim=-1)
        mean_UD = probabilities_UV.to(head.weight.dtype) @ head.weight
        ctx.save_for_backward(row_S, target_S, mean_UD, head.weight)
        ctx.factor = head.scale / temperature
        entropy_S = entropy_U[row_S]
        ctx.mark_non_differentiable(entropy_S)
        return chosen_S, entropy_S

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        row_S, target_S, mean_UD, weight = ctx.saved_tensors
        towards_SD = (weight[target_S] - mean_UD[row_S]).to(grads[0].dtype) * (grads[0] * ctx.factor)[:, None]
        d_hidden = torch.zeros(mean_UD.shape, dtype=grads[0].dtype, device=mean_UD.device)
        d_hidden.index_add_(0, row_S, towards_SD)
        return d_hidden.to(mean_UD.dtype), None, None, None, None
