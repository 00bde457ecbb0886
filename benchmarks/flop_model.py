"""What a method must compute, on paper: floating-point operations of an update and of a whole iteration.

A forward costs ``dense`` per token, ``attention`` per visible (query, key) pair and ``head`` per scored token; a
backward costs 2, 2.5 and 2 times that (a flash backward recomputes the scores). Norms, RoPE and softmax are left out.
Only the matrix products of a dense decoder are counted: for mixtures of experts the model does not hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM

from loads import Lengths

Method = Literal["naive", "grouped", "shared"]
"""Every branch with its prompt; each prompt once per group; the trunk once."""
Prefill = Literal["rows", "groups", "trunk"]
"""What a sampler computes of the prompts: one per branch, one per pivot, or the trunk once (a prefix cache)."""


@dataclass(frozen=True)
class Costs:
    """FLOPs of a forward."""

    dense: float
    attention: float
    head: float


def costs_of(config: Any) -> Costs:
    """From a transformers configuration; builds the model without memory to read its weight shapes."""
    text = config.get_text_config()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not head]
    head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Costs(
        dense=2.0 * sum(module.weight.numel() for module in linear),
        attention=4.0 * text.num_hidden_layers * text.num_attention_heads * head_size,
        head=2.0 * head.weight.numel(),
    )


@dataclass(frozen=True)
class Work:
    """Tokens through the layers, attention pairs, tokens through the LM head."""

    tokens: float
    pairs: float
    scored: float

    def forward(self, costs: Costs) -> float:
        return costs.dense * self.tokens + costs.attention * self.pairs + costs.head * self.scored

    def backward(self, costs: Costs, adapter: bool = False) -> float:
        """With an adapter the frozen weights need no gradient: half of the dense work is gone."""
        products = 1 if adapter else 2
        linear = costs.dense * self.tokens + costs.head * self.scored
        return products * linear + 2.5 * costs.attention * self.pairs


def work_of(method: Method, sizes: Lengths) -> Work:
    """One forward that scores every completion token. A causal square of n tokens has n^2 / 2 pairs."""
    branches = _branch_work(sizes)
    longest = max(prompt for prompt, _ in sizes)
    match method:
        case "naive":
            rows = [(prompt, own) for prompt, completions in sizes for own in completions]
            return Work(sum(map(sum, rows)), sum((prompt + own) ** 2 / 2 for prompt, own in rows), branches.scored)
        case "grouped":
            tokens = sum(prompt for prompt, _ in sizes)
            pairs = sum(prompt**2 / 2 for prompt, _ in sizes)
        case "shared":
            tokens, pairs = longest, longest**2 / 2
    return Work(tokens + branches.tokens, pairs + branches.pairs, branches.scored)


def _branch_work(sizes: Lengths) -> Work:
    tokens = sum(sum(completions) for _, completions in sizes)
    pairs = sum(own * prompt + own**2 / 2 for prompt, completions in sizes for own in completions)
    return Work(tokens, pairs, tokens)


def update_flops(method: Method, sizes: Lengths, costs: Costs, adapter: bool = False) -> float:
    """Forward and backward, no recomputation."""
    work = work_of(method, sizes)
    return work.forward(costs) + work.backward(costs, adapter)


def sampling_flops(prefill: Prefill, sizes: Lengths, costs: Costs) -> float:
    """Prefill of the prompts, then every branch token by token."""
    prompts = {
        "rows": [prompt for prompt, completions in sizes for _ in completions],
        "groups": [prompt for prompt, _ in sizes],
        "trunk": [max(prompt for prompt, _ in sizes)],
    }[prefill]
    first = Work(sum(prompts), sum(prompt**2 / 2 for prompt in prompts), 0)
    return first.forward(costs) + _branch_work(sizes).forward(costs)


def iteration_flops(
    method: Method, sizes: Lengths, costs: Costs, prefill: Prefill = "trunk", old_logprobs: bool = True
) -> float:
    """Sampling in an engine of its own, the old log-probabilities where the trainer computes them, and the update."""
    old = work_of(method, sizes).forward(costs) if old_logprobs else 0.0
    return sampling_flops(prefill, sizes, costs) + old + update_flops(method, sizes, costs)


def least_iteration_flops(sizes: Lengths, costs: Costs, adapter: bool = False) -> float:
    """The bound for one on-policy step: the trunk forward serves sampling and update, log-probabilities are kept."""
    return update_flops("shared", sizes, costs, adapter) + _branch_work(sizes).forward(costs)
