"""The ``prefix-grouper`` package: each prompt once for all its completions, pivots still apart.

The package splits every attention into a prompt call and a completion call and repeats the prompt's keys and values
for each completion. It hands its attention a padding mask; for SDPA the masks are built here once per forward.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

from measuring import NotAvailable
from models import twin
from peers.common import Advantages, Step, batches, chosen_logprobs, policy_loss, token_advantages, total_scored
from pivotrl.engine.items import Item

MICRO_BATCHES = (1, 2, 4)
_NAME = "bench_prefix_grouper"


class _Masks:
    """For SDPA, from the padding masks of the package; None where a causal kernel needs no mask."""

    def __init__(self, grouper: Any, dtype: torch.dtype) -> None:
        prompts = grouper.prefix_attn_mask
        length = prompts.shape[1]
        square = torch.ones(length, length, dtype=torch.bool, device=prompts.device).tril()
        self.prompt = None if prompts.all() else prompts[:, None, None, :] & square
        keys, own = grouper.suffix_attn_mask, grouper.suffix_x_shape[1]
        staircase = torch.ones(own, keys.shape[1], dtype=torch.bool, device=keys.device).tril(keys.shape[1] - own)
        self.completion = keys[:, None, None, :] & staircase
        if self.prompt is not None:  # a padding row that sees nothing would be NaN: let it see itself
            self.prompt = self.prompt | torch.eye(length, dtype=torch.bool, device=prompts.device)


def _sdpa(query: Any, key: Any, value: Any, padding: Any, masks: _Masks, scaling: float | None) -> torch.Tensor:
    is_prompt = query.shape[2] == key.shape[2]
    mask = masks.prompt if is_prompt else masks.completion
    output = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=True
    )
    return output.transpose(1, 2)


def _attention(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, *,
    prefix_grouper: Any, masks: _Masks, scaling: float | None = None, **_: Any
) -> tuple[torch.Tensor, None]:  # fmt: skip
    return prefix_grouper.forward(_sdpa, query, key, value, masks, scaling), None


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, lambda **_: None)


def prepare(model: Any, tokenizer: Any, micro_batch: int) -> Step:
    """``micro_batch``: groups (a prompt with its completions) per forward and backward."""
    try:
        grouper_class = importlib.import_module("prefix_grouper").PrefixGrouper
    except ImportError as error:
        raise NotAvailable("not installed: prefix-grouper") from error
    model = twin(model, _NAME)

    def step(items: Sequence[Item], advantages: Advantages) -> float:
        num_tokens, total = total_scored(items), 0.0
        groups = sorted(zip(items, advantages, strict=True), key=lambda pair: -len(pair[0].prompt))
        for batch in batches(groups, micro_batch):
            loss = _loss(model, grouper_class, *map(list, zip(*batch, strict=True)), num_tokens)
            loss.backward()
            total += loss.item()
        return total

    return step


def _loss(model: Any, grouper_class: Any, items: list[Item], advantages: Any, num_tokens: int) -> torch.Tensor:
    device = model.device
    longest = max(len(item.prompt) + item.num_scored for item in items)
    input_ids = torch.zeros(len(items), longest, dtype=torch.long)
    positions = torch.zeros_like(input_ids)
    where: list[tuple[int, int]] = []
    for i, item in enumerate(items):
        prompt, start = len(item.prompt), len(item.prompt)
        input_ids[i, :prompt] = torch.tensor(item.prompt)
        positions[i, :prompt] = torch.arange(prompt)
        for completion in item.completions:
            end = start + len(completion)
            input_ids[i, start:end] = torch.tensor(completion)
            positions[i, start:end] = torch.arange(prompt, prompt + len(completion))
            where += [(i, prompt - 1), *((i, column) for column in range(start, end - 1))]
            start = end
    sizes = [[len(item.prompt), *map(len, item.completions)] for item in items]
    grouper = grouper_class(sizes, device=device)
    decoder = model.get_decoder()
    hidden = decoder(
        input_ids=input_ids.to(device),
        position_ids=positions.to(device),
        use_cache=False,
        prefix_grouper=grouper,
        masks=_Masks(grouper, model.dtype),
    ).last_hidden_state
    row_S, column_S = torch.tensor(where, device=device).T
    logits_SV = model.get_output_embeddings()(hidden[row_S, column_S])
    targets = [token for item in items for completion in item.completions for token in completion]
    targets_S = torch.tensor(targets, device=device)
    return policy_loss(chosen_logprobs(logits_SV, targets_S), token_advantages(items, advantages, device), num_tokens)
