"""A model of transformers on this machine as a learner: see :class:`pivotrl.protocols.tokens.Learner`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pivotrl.engine.checkpoint import load_checkpoint, save_checkpoint
from pivotrl.engine.distributed.checkpoint import is_in_shards, read_shards
from pivotrl.engine.distributed.keeping import restore_steps, training_tensors
from pivotrl.engine.executors import Executor, ExecutorName, make_executor
from pivotrl.engine.executors.choosing import why_not
from pivotrl.engine.executors.contract import Scored
from pivotrl.engine.finite import optimizer_step, require_finite
from pivotrl.engine.items import Item
from pivotrl.engine.objective import Batch, Objective
from pivotrl.engine.weights import Weights
from pivotrl.protocols import InputError, ObjectiveName, UpdateOptions
from pivotrl.protocols.tokens import Example

_LEARNING_RATES: dict[tuple[bool, ObjectiveName], float] = {
    (True, "policy_gradient"): 5e-5,
    (True, "likelihood"): 2e-4,
    (False, "policy_gradient"): 1e-6,
    (False, "likelihood"): 1e-5,
    (True, "weighted_likelihood"): 2e-4,
    (False, "weighted_likelihood"): 1e-5,
}
"""(Whether an adapter is trained, objective) -> learning rate. docs/method.md gives the sources."""


class LocalLearner:
    """AdamW over an executor that computes common prefixes once.

    Args:
        weights: the trained weights and their reference.
        executor, pass_tokens: see :class:`pivotrl.policies.hf.Policy`.
        write: writes an export: ``write(path, model, folded=weights.folded)``.

    Raises:
        InputError: the executor does not reproduce this model's own numbers.
    """

    def __init__(
        self, weights: Weights, executor: ExecutorName, pass_tokens: int | None, write: Callable[..., None]
    ) -> None:
        self.weights, self._write = weights, write
        trained = list(weights.trained().values())
        self.optimizer: torch.optim.Optimizer | None = None
        if trained:
            self.optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0)
        self.executor: Executor = make_executor(executor, weights.model, pass_tokens)
        if executor not in ("auto", "reference") and (reason := why_not(self.executor, weights.model)):
            raise InputError(f"executor={executor!r} does not serve this model: {reason}; use 'auto'")
        self.reference_executor = self.executor
        if weights.frozen_copy is not None:
            same, size = self.executor.name, self.executor.max_tokens
            self.reference_executor = make_executor(same, weights.frozen_copy, size)

    # --- learning -------------------------------------------------------------------------------------------------

    def update(self, examples: Sequence[Example], learning_rate: float, options: UpdateOptions) -> dict[str, float]:
        """See :class:`pivotrl.protocols.Policy`. Without a KL term, completions of advantage 0 have no gradient and do
        not go through the model.

        Raises:
            InputError: the step made weights or logits that are not finite.
        """
        assert self.optimizer is not None, "this policy was made with trainable=False"
        model = self.weights.model
        batch = Batch.of(examples, options).to(model.device)
        reference_S = None
        if options.kl_coefficient > 0:
            with self.weights.reference():
                reference_S = self.reference_executor.score(batch.items, options.temperature).logprobs_S
        objective = Objective(batch, options, reference_S)
        metrics: dict[str, float] = {}
        num_skipped = 0.0
        for _ in range(options.num_epochs):
            self.optimizer.zero_grad(set_to_none=True)
            metrics = objective.backward(self.executor)
            metrics |= self._step(learning_rate, options, metrics["loss/total"])
            num_skipped += metrics["update/skipped"]
        num_computed = self.executor.num_computed
        first = batch.items[0]
        self._require_finite([*first.prompt, *first.completions[0]], learning_rate)
        num_rows = sum(len(c) + len(item.prompt) for item in batch.items for c in item.completions)
        return {
            **metrics,
            "update/skipped": float(num_skipped > 0),
            "tokens/trained": float(len(batch.weights_S)),
            "tokens/computed": float(num_computed),
            "tokens/unshared": float(num_rows),
        }

    def _step(self, learning_rate: float, options: UpdateOptions, loss: float) -> dict[str, float]:
        assert self.optimizer is not None
        parameters = list(self.weights.trained().values())
        norm = self._clip(parameters, options.max_gradient_norm)
        finite = math.isfinite(norm) and math.isfinite(loss)
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"], group["weight_decay"] = learning_rate, options.weight_decay
            optimizer_step(self.optimizer, learning_rate)
        self.optimizer.zero_grad(set_to_none=True)
        return {
            "gradient/norm": norm,
            "update/skipped": float(not finite),
            "update/learning_rate": learning_rate,
        }

    def _clip(self, parameters: Sequence[torch.nn.Parameter], max_norm: float) -> float:
        """The norm of the gradient before it is clipped."""
        return float(torch.nn.utils.clip_grad_norm_(parameters, max_norm))

    def _require_finite(self, tokens: Sequence[int], learning_rate: float) -> None:
        assert self.optimizer is not None
        require_finite(self.weights.model, self.optimizer, tokens, learning_rate)

    def default_learning_rate(self, objective: ObjectiveName) -> float:
        return _LEARNING_RATES[self.weights.has_adapter, objective]

    # --- scoring --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def logprobs(self, prompt: Sequence[int], answer: Sequence[int]) -> torch.Tensor:
        """Log-probability of every token of the vocabulary [S, V] at each position of the answer."""
        return _all_logprobs(self.weights.model, prompt, answer)

    @torch.no_grad()
    def score(
        self, prompt: Sequence[int], answer: Sequence[int], logprobs_SV: torch.Tensor | None = None
    ) -> tuple[float, float | None]:
        """See :class:`pivotrl.protocols.tokens.Learner`. The KL is exact, over the whole vocabulary.

        Args:
            logprobs_SV: from :meth:`logprobs`, if they are known already.
        """
        logprobs_SV = self.logprobs(prompt, answer) if logprobs_SV is None else logprobs_SV
        chosen = torch.tensor(answer, device=logprobs_SV.device)[:, None]
        nll = -logprobs_SV.gather(-1, chosen).mean().item()
        if not self.weights.has_reference:
            return nll, None
        with self.weights.reference() as model:
            reference_SV = _all_logprobs(model, prompt, answer)
        return nll, (logprobs_SV.exp() * (logprobs_SV - reference_SV)).sum(dim=-1).mean().item()

    def token_logprobs(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[list[float]]]:
        """See :class:`pivotrl.protocols.tokens.Learner`. Common prefixes are computed once."""
        return self._by_token(prompts, completions, lambda scored: scored.logprobs_S)

    def token_entropies(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[list[float]]]:
        """Entropy, in nats, of the distribution that each token was chosen from; shaped as :meth:`token_logprobs`."""
        return self._by_token(prompts, completions, lambda scored: scored.entropy_S)

    def _by_token(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[Sequence[int]]],
        number: Callable[[Scored], Tensor],
    ) -> list[list[list[float]]]:
        items = [Item(prompt, its) for prompt, its in zip(prompts, completions, strict=True)]
        numbers = iter(number(self.executor.score(items)).tolist())
        return [[list(itertools.islice(numbers, len(tokens))) for tokens in item.completions] for item in items]

    # --- keeping --------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        assert self.optimizer is not None
        trained = self.weights.trained()
        moments = {
            f"{name}|{kind}": value
            for name, parameter in trained.items()
            for kind, value in self.optimizer.state.get(parameter, {}).items()
        }
        save_checkpoint(path, {"weights": dict(trained), "optimizer": moments}, {"parameters": list(trained)})

    def load(self, path: Path) -> None:
        """
        Raises:
            InputError: the checkpoint is damaged or holds other parameters.
        """
        assert self.optimizer is not None
        trained = self.weights.trained()
        if is_in_shards(path):
            restore_steps(path, trained, self.optimizer)
            read_shards(path, training_tensors(trained, self.optimizer))
            return
        tensors, state = load_checkpoint(path)
        shapes = {name: value.shape for name, value in tensors["weights"].items()}
        if state["parameters"] != list(trained) or shapes != {name: p.shape for name, p in trained.items()}:
            raise InputError(
                f"{path} holds other parameters than this policy trains; use the settings it was made with"
            )
        with torch.no_grad():
            for name, value in tensors["weights"].items():
                trained[name].copy_(value)
        self.optimizer.state.clear()
        for key, value in tensors["optimizer"].items():
            name, _, kind = key.rpartition("|")
            moved = value if kind == "step" else value.to(trained[name].device)
            self.optimizer.state[trained[name]][kind] = moved.clone()

    def export(self, path: Path) -> None:
        self._write(path, self.weights.model, folded=self.weights.folded)


def _all_logprobs(model: Any, prompt: Sequence[int], answer: Sequence[int]) -> torch.Tensor:
    input_ids = torch.tensor([[*prompt, *answer[:-1]]], device=model.device)
    logits = model(input_ids=input_ids, use_cache=False, logits_to_keep=len(answer)).logits[0]
    return torch.log_softmax(logits.float(), dim=-1)
