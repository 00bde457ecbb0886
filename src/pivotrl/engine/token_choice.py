"""Choose the next token of each row: inverse-CDF sampling on a uniform number, or the best token.

Suffixes: _N rows, _V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pivotrl.records import Sampling

_LOGITS_AT_ONCE = 1 << 25
"""Numbers in one block of logits that tokens are chosen from: 128 MiB in fp32."""

_BLOCK = 256
"""Entries of a distribution that are summed together when one is looked for."""


def choose(logits_NV: Tensor, uniform_N: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """(token ids [N], log-probabilities [N] under the distribution drawn from).

    Temperature 0 takes the best token, with its log-probability at temperature 1. With top-k and top-p, the k most
    probable tokens are kept first, and of those the fewest that reach p.
    """
    rows = max(1, _LOGITS_AT_ONCE // logits_NV.shape[1])
    if len(logits_NV) > rows:  # each of the copies below is as large as the logits
        blocks = zip(logits_NV.split(rows), uniform_N.split(rows), strict=True)
        token_blocks, logprob_blocks = zip(*(choose(*block, sampling) for block in blocks), strict=True)
        return torch.cat(token_blocks), torch.cat(logprob_blocks)
    logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    if sampling.temperature == 0.0:
        logprobs = torch.log_softmax(logits_NV, dim=-1)
        token_N = logprobs.argmax(dim=-1)
        return token_N, logprobs.gather(-1, token_N[:, None])[:, 0]
    logprobs = processed(logits_NV, sampling)
    token_N = inverse_cdf(logprobs.exp(), uniform_N)
    return token_N, logprobs.gather(-1, token_N[:, None])[:, 0]


def processed(logits_NV: Tensor, sampling: Sampling) -> Tensor:
    """Log-probabilities [N, V] of the distribution that is drawn from, at a temperature above 0; -inf for a token that
    is left out."""
    logprobs = torch.log_softmax(logits_NV / sampling.temperature, dim=-1)
    if sampling.top_k is not None and sampling.top_k < logprobs.shape[-1]:
        kept = logprobs.topk(sampling.top_k, dim=-1)
        logprobs = torch.log_softmax(
            torch.full_like(logprobs, -torch.inf).scatter_(-1, kept.indices, kept.values), dim=-1
        )
    if sampling.top_p < 1.0:
        ordered, order = logprobs.sort(dim=-1, descending=True)
        cumulative = ordered.exp().cumsum(dim=-1)
        outside = cumulative - ordered.exp() >= sampling.top_p  # the token that crosses top_p stays in
        ordered = ordered.masked_fill(outside, -torch.inf)
        logprobs = torch.log_softmax(torch.empty_like(ordered).scatter_(-1, order, ordered), dim=-1)
    return logprobs


def race(logits_NV: Tensor, times_NV: Tensor, sampling: Sampling) -> Tensor:
    """Token ids [N]: the winner of a race in which each token's time is exponential with its probability as the rate.

    The same distribution as :func:`choose`, but less moved by rounding. Inverse-CDF sampling sums the rounding of every
    token before the drawn one, so that in fp32 another batch shape gave another token at 1 of 288 places (SmolLM2-135M
    on a CPU). The winner changes only if the first two are as close as the rounding of their own logits.

    Args:
        times_NV: standard exponential numbers.
    """
    logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    if sampling.temperature == 0.0:
        return logits_NV.argmax(dim=-1)
    return (processed(logits_NV, sampling) - times_NV.clamp_min(1e-30).log()).argmax(dim=-1)


def inverse_cdf(weights_NV: Tensor, uniform_N: Tensor) -> Tensor:
    """The first entry [N] at which the running sum exceeds that share of the whole, never one of weight 0.

    Sums are in fp64. Blocks are summed first, and only the one that is hit entry by entry: a fifth of the time of a
    running sum over a whole vocabulary.

    Args:
        weights_NV: not negative, one at least positive in each row. Of a row with NaN any entry is returned.
        uniform_N: in [0, 1).
    """
    num_entries = weights_NV.shape[1]
    if missing := -num_entries % _BLOCK:
        weights_NV = torch.nn.functional.pad(weights_NV, (0, missing))
    padded = weights_NV.unflatten(1, (-1, _BLOCK))
    sums = torch.nn.functional.pad(padded.sum(dim=-1, dtype=torch.float64).cumsum(dim=-1), (1, 0))
    target = uniform_N.to(sums)[:, None] * sums[:, -1:]
    block = torch.searchsorted(sums[:, 1:].contiguous(), target, right=True).clamp(max=padded.shape[1] - 1)
    within = padded.gather(1, block[..., None].expand(-1, -1, _BLOCK))[:, 0].double().cumsum(dim=-1)
    within += sums.gather(1, block)
    # The block was summed in another order: what lies in it must not fall behind its end.
    target = torch.minimum(target, torch.nextafter(within[:, -1:], torch.zeros_like(target)))
    place = torch.searchsorted(within, target, right=True).clamp(max=_BLOCK - 1)  # of NaN it is behind the end
    return (block * _BLOCK + place)[:, 0].clamp(max=num_entries - 1)
