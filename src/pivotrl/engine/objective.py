"""Computes the loss and the metrics of a batch of groups, token by token.

Weights hold the denominators of the whole batch, so an executor's chunks or several processes may cut it anywhere: the
gradients of the parts sum to the gradient of the whole. Metrics are computed from per-token results after the executor
is done, so nothing counts twice if it restarts with smaller chunks. The metrics of a part are means over that part.

Suffix _S: completion tokens of the batch in item, completion, token order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pivotrl.engine.executors import Executor, Scored
from pivotrl.engine.items import Item
from pivotrl.engine.losses import (
    clipped_policy_loss,
    importance_weights,
    kl_k3,
    likelihood_loss,
    weighted_likelihood_loss,
)
from pivotrl.protocols import UpdateOptions
from pivotrl.protocols.tokens import Example


@dataclass(frozen=True)
class Batch:
    """Items, with per-token advantages, weights and log-probabilities. The weights are those of the examples: over a
    whole batch they sum to 1, minus the weights of completions left out because they have no gradient."""

    items: Sequence[Item]
    advantages_S: Tensor
    weights_S: Tensor
    sampled_S: Tensor
    """Log-probabilities that the sampler reported; NaN for tokens that were not sampled."""

    @classmethod
    def of(cls, examples: Sequence[Example], options: UpdateOptions) -> Batch:
        """A batch, or a part of one. Without a KL term, completions of advantage 0 are left out, unless that would
        leave none."""
        kept = with_gradient(examples, options)
        completions = [completion for each in kept for completion in each.completions_G]
        repeats = torch.tensor([len(completion.token_ids_T) for completion in completions])
        return cls(
            [Item(each.prompt, [completion.token_ids_T for completion in each.completions_G]) for each in kept],
            torch.tensor([advantage for each in kept for advantage in each.advantages_G]).repeat_interleave(repeats),
            torch.tensor([weight for each in kept for weight in each.weights_G]).repeat_interleave(repeats),
            torch.tensor([logprob for completion in completions for logprob in completion.logprobs_T]),
        )

    def to(self, device: torch.device) -> Batch:
        return Batch(self.items, self.advantages_S.to(device), self.weights_S.to(device), self.sampled_S.to(device))


def with_gradient(examples: Sequence[Example], options: UpdateOptions) -> list[Example]:
    """The examples without completions that have no gradient, if any has one; see :meth:`Batch.of`."""
    if options.kl_coefficient > 0.0 or not any(advantage for each in examples for advantage in each.advantages_G):
        return [each for each in examples if each.completions_G]
    kept = []
    for each in examples:
        rows = [row for row in zip(each.completions_G, each.advantages_G, each.weights_G, strict=True) if row[1]]
        if rows:
            completions, advantages, weights = (list(column) for column in zip(*rows, strict=True))
            kept.append(Example(each.prompt, completions, advantages, weights, each.key))
    return kept


class Objective:
    """The loss of one batch, for one or more passes over it.

    Args:
        reference_S: log-probabilities of the reference policy; needed if the KL coefficient is not 0.
        old_S: log-probabilities of the old policy; None: those of the first pass.
    """

    def __init__(
        self, batch: Batch, options: UpdateOptions, reference_S: Tensor | None, old_S: Tensor | None = None
    ) -> None:
        self._batch, self._options, self._reference_S, self._old_S = batch, options, reference_S, old_S

    def backward(self, executor: Executor) -> dict[str, float]:
        """Add the gradient of the loss to the parameters and return metrics. The first call fixes the old policy."""
        return self.metrics(self.send_back(executor))

    def send_back(self, executor: Executor) -> Scored:
        """Like :meth:`backward`, without the metrics."""
        scored = executor.score(self._batch.items, self._options.temperature, self._loss)
        if self._old_S is None:
            self._old_S = scored.logprobs_S
        return scored

    def _loss(self, scored: Scored) -> Tensor:
        total, _, _ = self._parts(scored)
        return total

    def _parts(self, scored: Scored) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """(loss, its KL term, ratio [S])."""
        index, options, batch = scored.index_S, self._options, self._batch
        advantages_S, weights_S = batch.advantages_S[index], batch.weights_S[index]
        ratio_S, kl = None, None
        if options.objective == "likelihood":
            loss = likelihood_loss(scored.logprobs_S, advantages_S, weights_S)
        elif options.objective == "weighted_likelihood":
            loss = weighted_likelihood_loss(scored.logprobs_S, advantages_S, weights_S)
        else:
            loss, ratio_S = self._policy_loss(scored, advantages_S, weights_S)
        if self._reference_S is not None:
            kl = (weights_S * kl_k3(scored.logprobs_S, self._reference_S[index])).sum()
            loss = loss + options.kl_coefficient * kl
        return loss, kl, ratio_S

    def _policy_loss(self, scored: Scored, advantages_S: Tensor, weights_S: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, ratio [S])."""
        index, options, batch = scored.index_S, self._options, self._batch
        old_S = scored.logprobs_S.detach() if self._old_S is None else self._old_S[index]
        if options.importance_cap is not None:
            weights_S = weights_S * importance_weights(old_S, batch.sampled_S[index], options.importance_cap)
        return clipped_policy_loss(
            scored.logprobs_S, old_S, advantages_S, weights_S, options.clip_low, options.clip_high
        )

    @torch.no_grad()
    def metrics(self, scored: Scored) -> dict[str, float]:
        """Of the batch, given what its tokens scored in a pass. Call it after the first pass."""
        loss, kl, ratio_S = self._parts(scored)
        metrics = {"loss/total": loss.item()}
        if kl is not None:
            metrics["loss/kl"] = kl.item()
        options, weights_S = self._options, self._batch.weights_S / self._batch.weights_S.sum()
        if options.objective == "weighted_likelihood":
            metrics["loss/nll"] = -(weights_S * scored.logprobs_S).sum().item()
        if ratio_S is None:
            return metrics
        outside_S = (ratio_S < 1 - options.clip_low) | (ratio_S > 1 + options.clip_high)
        was_sampled_S = ~self._batch.sampled_S.isnan()
        gap_S = (scored.logprobs_S - self._batch.sampled_S).abs().nan_to_num(0.0)
        metrics |= {
            "loss/policy": loss.item() - (options.kl_coefficient * kl.item() if kl is not None else 0.0),
            "ratio/mean": (weights_S * ratio_S).sum().item(),
            "ratio/clipped_fraction": (weights_S * outside_S).sum().item(),
            "policy/entropy": (weights_S * scored.entropy_S).sum().item(),
        }
        if was_sampled_S.any():
            metrics["policy/sampler_gap"] = ((weights_S * gap_S).sum() / (weights_S * was_sampled_S).sum()).item()
            metrics["policy/sampler_gap_max"] = gap_S.max().item()
        if options.importance_cap is not None and self._old_S is not None:
            ratio_S = importance_weights(self._old_S, self._batch.sampled_S, options.importance_cap)
            metrics["importance/capped_fraction"] = (weights_S * (ratio_S >= options.importance_cap)).sum().item()
            metrics["importance/mean"] = (weights_S * ratio_S).sum().item()
        return metrics
