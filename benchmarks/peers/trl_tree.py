"""TRL's tree packer (AsyncGRPO), driven directly: a trie of all rows, keys and values gathered per path.

Its attention is a varlen flash kernel from the Hub, so it runs on CUDA only. Where the Hub cannot be reached the
varlen flash kernel of torch takes its place; layout, gathering and LM head stay TRL's.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch

from measuring import NotAvailable
from models import twin
from peers.common import Advantages, Step, policy_loss, total_scored
from pivotrl.engine.items import Item

MICRO_BATCHES = (8192, 32768, 131072)


def prepare(model: Any, tokenizer: Any, micro_batch: int, kernel: Callable[..., torch.Tensor] | None = None) -> Step:
    """``micro_batch``: unique tokens of a packed row.

    Args:
        kernel: stands in for ``flash_attn_varlen_func`` (the tests bring one for the CPU).

    Raises:
        NotAvailable: TRL is missing, or there is neither CUDA in half precision nor a kernel.
    """
    half = model.dtype in (torch.bfloat16, torch.float16)
    if kernel is None and not (model.device.type == "cuda" and half):
        raise NotAvailable("TRL's tree packer needs CUDA and half precision")
    try:
        packing = importlib.import_module("trl.experimental.async_grpo.packing")
        add_fused_lm_head = importlib.import_module("trl.trainer.utils").add_fused_lm_head
    except ImportError as error:
        raise NotAvailable(f"not installed: {error.name}") from error
    if kernel is not None or not _hub_kernel_loads(packing):
        packing._flash_attn = lambda: _Kernel(kernel or _torch_varlen)
    packing.register_tree_attention()
    model = twin(model, packing.TREE_ATTENTION)
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    add_fused_lm_head(plain, outputs=("log_probs", "entropy"))  # the trainer logs the entropy

    def step(items: Sequence[Item], advantages: Advantages) -> float:
        num_tokens, total = total_scored(items), 0.0
        for row in _rows(packing.TreeRow, items, advantages, micro_batch):
            loss = _loss(model, row.pack(), num_tokens)
            loss.backward()
            total += loss.item()
        return total

    return step


class _Kernel:
    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        self.flash_attn_varlen_func = function


def _hub_kernel_loads(packing: Any) -> bool:
    try:
        packing._flash_attn()
    except (ImportError, OSError, ValueError):  # no `kernels` package, no Hub, or no build for this machine
        return False
    return True


def _torch_varlen(
    query: Any, key: Any, value: Any, cu_q: Any, cu_k: Any, max_q: int, max_k: int, *,
    softmax_scale: float | None, causal: bool, window_size: tuple[int, int]
) -> torch.Tensor:  # fmt: skip
    from torch.nn.attention.varlen import varlen_attn

    window = (window_size[0], 0) if causal else window_size
    output = varlen_attn(
        query, key, value, cu_q, cu_k, max_q, max_k,
        scale=softmax_scale, window_size=window, enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    assert isinstance(output, torch.Tensor)
    return output


def _rows(tree_row: Any, items: Sequence[Item], advantages: Advantages, budget: int) -> list[Any]:
    rows = [tree_row()]
    for group, (item, values) in enumerate(zip(items, advantages, strict=True)):
        for completion, advantage in zip(item.completions, values, strict=True):
            sample = {
                "input_ids": torch.tensor([*item.prompt, *completion]),
                "completion_mask": torch.tensor([0] * len(item.prompt) + [1] * len(completion)),
                "old_log_probs": torch.zeros(len(item.prompt) + len(completion)),
                "advantage": advantage,
                "group_id": group,
            }
            if rows[-1].samples and not rows[-1].fits(sample, budget):
                rows.append(tree_row())
            rows[-1].add(sample)
    return rows


def _loss(model: Any, packed: dict[str, torch.Tensor], num_tokens: int) -> torch.Tensor:
    packed = {key: tensor.to(model.device) for key, tensor in packed.items()}
    max_q, max_k = packed["tree_max_seqlens"].tolist()
    outputs = model(
        input_ids=packed["input_ids"][None],
        position_ids=packed["position_ids"][None],
        shift_labels=packed["shift_labels"][None],
        fused_lm_head=True,
        tree_kv_index=packed["tree_kv_index"],
        tree_cu_seqlens_q=packed["tree_cu_seqlens_q"],
        tree_cu_seqlens_k=packed["tree_cu_seqlens_k"],
        tree_max_seqlen_q=max_q,
        tree_max_seqlen_k=max_k,
    )
    logprobs_S = outputs.log_probs.flatten()[packed["token_index"]]
    return policy_loss(logprobs_S, packed["advantages"], num_tokens)
