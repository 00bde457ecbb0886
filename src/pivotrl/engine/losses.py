"""The clipped policy loss and the KL estimate, on per-token tensors (paper eq. 7).

Suffix _S: the scored tokens of a batch in sequence. Reductions are sums with weights that already hold the denominator
(:func:`pivotrl.protocols.tokens.token_weights`), so a batch may be cut anywhere without changing the gradient.
"""

from __future__ import annotations

import torch

_MAX_LOG_RATIO = 20.0
"""Beyond it, exp() could overflow on a single stale log-probability."""


def clipped_policy_loss(
    logprobs_S: torch.Tensor,
    old_logprobs_S: torch.Tensor,
    advantages_S: torch.Tensor,
    weights_S: torch.Tensor,
    clip_low: float,
    clip_high: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """-(sum of weight * min(w A, clip(w, 1 - clip_low, 1 + clip_high) A)), with w = exp(logprob - old).

    Returns:
        the loss (scalar) and the ratio w [S], detached.
    """
    ratio = torch.exp((logprobs_S - old_logprobs_S).clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO))
    unclipped = ratio * advantages_S
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high) * advantages_S
    return -(weights_S * torch.minimum(unclipped, clipped)).sum(), ratio.detach()


def kl_k3(logprobs_S: torch.Tensor, reference_logprobs_S: torch.Tensor) -> torch.Tensor:
    """k3 estimate of KL(policy || reference) per token [S]: exp(d) - d - 1 with d = reference - policy; never
    negative, zero where both agree."""
    difference = (reference_logprobs_S - logprobs_S).clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO)
    return torch.exp(difference) - difference - 1.0


def importance_weights(old_logprobs_S: torch.Tensor, sampled_logprobs_S: torch.Tensor, cap: float) -> torch.Tensor:
    """Truncated importance weights [S], without gradient: min(policy before the update / sampler, cap) per token.

    They correct for a sampler that differs from the policy, such as another engine or an older policy. A token that was
    not sampled (NaN) keeps the weight 1.
    """
    ratio = (old_logprobs_S.detach() - sampled_logprobs_S).clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO).exp()
    return torch.where(sampled_logprobs_S.isnan(), 1.0, ratio.clamp(max=cap))


def likelihood_loss(logprobs_S: torch.Tensor, advantages_S: torch.Tensor, weights_S: torch.Tensor) -> torch.Tensor:
    """Weighted cross-entropy: SFT when every advantage is 1."""
    return -(weights_S * advantages_S * logprobs_S).sum()


def weighted_likelihood_loss(
    logprobs_S: torch.Tensor, advantages_S: torch.Tensor, weights_S: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy, each token weighted by its detached probability (DFT, arXiv 2508.05629): what the policy finds
    unlikely pulls less."""
    return likelihood_loss(logprobs_S, advantages_S * logprobs_S.detach().exp(), weights_S)
