"""The trunk-and-branch engine of this package, in the form of a peer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models import twin
from peers.common import Advantages, Step, policy_loss, token_advantages, total_scored
from pivotrl.engine.executors import ExecutorName, Scored, make_executor
from pivotrl.engine.items import Item
from pivotrl.engine.split_attention import NAME

MICRO_BATCHES = (2048, 4608)
"""The second is what the engine itself takes for SmolLM2-135M on the CPU."""


def prepare(model: Any, tokenizer: Any, micro_batch: int, executor_name: ExecutorName = "split") -> Step:
    """``micro_batch``: tokens of a forward pass whose activations are kept.

    The executor is named, never chosen, so that a fallback cannot pass unseen.
    """
    executor = make_executor(executor_name, twin(model, NAME), max_tokens=micro_batch)

    def step(items: Sequence[Item], advantages: Advantages) -> float:
        num_tokens, total = total_scored(items), 0.0
        advantages_S = token_advantages(items, advantages, model.device)

        def loss(scored: Scored) -> Any:
            nonlocal total
            value = policy_loss(scored.logprobs_S, advantages_S[scored.index_S], num_tokens)
            total += value.item()
            return value

        executor.score(items, 1.0, loss)
        return total

    return step
