"""Every token of a forest once: trunk rows and branch rows in one pass, or the trunk first and branches in chunks.

A micro-batch that fits is one forward and one backward. A larger one keeps its trunk: the branches go through in
chunks that read the trunk's keys and values, their gradients meet in a buffer (fp32), and one backward through the
trunk takes them in. The activations of at most ``max_tokens`` rows are kept at once; a trunk that would leave no room
for its branches keeps the inputs of its layers only, beside its keys and values.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from pivotrl.engine.decoder import backbone, forward
from pivotrl.engine.executors.chunked import ChunkedExecutor
from pivotrl.engine.executors.contract import Collector, ExecutorName, Loss, Scored, scored_spans
from pivotrl.engine.executors.targets import Targets
from pivotrl.engine.forest import (
    SHARE_ABOVE,
    Forest,
    Ids,
    SortedSequences,
    build_forest,
    input_sequences,
    micro_batches,
)
from pivotrl.engine.head import Head, score
from pivotrl.engine.items import Item
from pivotrl.engine.split_attention import NAME, ForestPass, TrunkState


class SplitExecutor(ChunkedExecutor):
    """Trunk and branches by split attention, for models that attend (with or without sliding windows).

    Args:
        max_tokens: rows whose activations are kept at once. A trunk of more than half of them is checkpointed layer
            by layer.
        share_above: see :func:`pivotrl.engine.forest.build_forest`.
    """

    name: ExecutorName = "split"

    def __init__(self, model: Any, max_tokens: int, share_above: int = SHARE_ABOVE) -> None:
        super().__init__(model, max_tokens)
        self._share_above = share_above

    def _score(self, items: Sequence[Item], temperature: float, loss: Loss | None) -> Scored:
        """
        Raises:
            NotImplementedError: the model's layers do not attend through :mod:`pivotrl.engine.split_attention`.
        """
        attention = backbone(self._model).config.get_text_config()._attn_implementation
        if attention != NAME:
            raise NotImplementedError(f"attention {attention!r} cannot be split; load the model with {NAME!r}")
        collector = Collector(items, self._model.device)
        spans, sequences = scored_spans(items), SortedSequences(input_sequences(items))
        for batch in micro_batches(sequences, self.max_tokens):
            forest = build_forest(batch, self._share_above)
            work = _Work(self._model, forest, Targets(forest, batch, spans, items), temperature, loss, collector)
            if len(forest.token_ids_T) <= self.max_tokens:
                work.at_once()
            else:
                work.trunk_then_branches(self.max_tokens)
            self.num_computed += len(forest.token_ids_T)
        return collector.all()


class _Work:
    """One micro-batch."""

    def __init__(
        self,
        model: Any,
        forest: Forest,
        targets: Targets,
        temperature: float,
        loss: Loss | None,
        collector: Collector,
    ) -> None:
        self._model, self._base, self._forest, self._targets = model, backbone(model), forest, targets
        self._head, self._temperature, self._loss, self._collector = Head.of(self._base), temperature, loss, collector

    def at_once(self) -> None:
        taken = ForestPass(self._forest, self._model.device)
        hidden_TD = forward(self._base, taken)
        self._backward(hidden_TD, taken)

    def trunk_then_branches(self, max_tokens: int) -> None:
        segments = self._forest.segments
        trunk = [i for i, segment in enumerate(segments) if not segment.is_leaf]
        leaves = [i for i, segment in enumerate(segments) if segment.is_leaf]
        state, taken = TrunkState(), None
        room, lean = max_tokens, False
        if trunk:
            taken = ForestPass(self._forest, self._model.device, chosen=trunk, keep=state)
            lean = len(taken.forest_rows_T) > max_tokens // 2
            room -= 0 if lean else len(taken.forest_rows_T)
            with checkpointed(self._base) if lean else contextlib.nullcontext():
                trunk_TD = forward(self._base, taken)
        for chunk in _chunks(leaves, [segments[i].end - segments[i].start for i in leaves], room):
            branches = ForestPass(self._forest, self._model.device, chosen=chunk, trunk=state, trunk_segments=trunk)
            self._backward(forward(self._base, branches), branches)
        if taken is not None:
            with checkpointed(self._base) if lean else contextlib.nullcontext():
                self._backward(trunk_TD, taken)

    def _backward(self, hidden_TD: Tensor, taken: ForestPass) -> None:
        """Score what the pass predicts and send its part of the loss back."""
        rows, targets = taken.forest_rows_T, self._targets
        chosen_S = np.flatnonzero(np.isin(targets.row_S, rows, assume_unique=False))
        total: Tensor | None = None
        if len(chosen_S):
            unique, inverse = np.unique(np.searchsorted(rows, targets.row_S[chosen_S]), return_inverse=True)

            def on_device(values: Ids) -> Tensor:
                return torch.from_numpy(values).to(hidden_TD.device)

            logprobs_S, entropy_S = score(
                self._head,
                hidden_TD[on_device(unique)],
                on_device(inverse),
                on_device(targets.target_S[chosen_S]),
                self._temperature,
            )
            scored = Scored(on_device(targets.place_S[chosen_S]), logprobs_S, entropy_S)
            self._collector.add(scored)
            total = self._loss(scored) if self._loss is not None else None
        if self._loss is None or not hidden_TD.requires_grad:
            return
        if total is not None and total.requires_grad:
            total.backward()
        elif taken.keep is not None:  # nothing is scored here, but the branches' gradients wait to go through
            hidden_TD.backward(torch.zeros_like(hidden_TD))


def _chunks(names: Sequence[int], sizes: Sequence[int], max_tokens: int) -> list[list[int]]:
    """In order, at most ``max_tokens`` rows each; a larger one stands alone."""
    chunks: list[list[int]] = []
    used = 0
    for name, size in zip(names, sizes, strict=True):
        if not chunks or used + size > max_tokens:
            chunks.append([])
            used = 0
        chunks[-1].append(name)
        used += size
    return chunks


@contextlib.contextmanager
def checkpointed(base: Any) -> Iterator[None]:
    """Inside, layers keep their inputs only and compute the rest again in the backward."""
    layers: list[Any] = [m for m in base.get_decoder().modules() if isinstance(m, GradientCheckpointingLayer)]
    for layer in layers:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = functools.partial(checkpoint, use_reentrant=False)
        # What transformers looks at; nothing else depends on it but dropout, which is off.
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.gradient_checkpointing = layer.training = False
