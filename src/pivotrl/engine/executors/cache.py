"""Shared prefixes through the model's own cache: for states and layers that split attention does not know.

Segments of the forest go through one after the other, each on a copy of the cache that its prefix left; branches of
one place go through side by side. Everything stays in one graph, so memory grows with the whole micro-batch: a sequence
and ``max_tokens`` of what stands beside it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from pivotrl.engine.decoder import backbone
from pivotrl.engine.executors.chunked import ChunkedExecutor
from pivotrl.engine.executors.contract import Collector, ExecutorName, Loss, Scored, scored_spans
from pivotrl.engine.executors.targets import Targets
from pivotrl.engine.forest import Forest, SortedSequences, build_forest, input_sequences, micro_batches
from pivotrl.engine.head import Head, score
from pivotrl.engine.items import Item

_SHARE_ABOVE = 64
"""A segment costs a forward of its own here."""


class CacheExecutor(ChunkedExecutor):
    """Trunk and branches by continuing caches."""

    name: ExecutorName = "cache"
    takes = 0.25  # attention written out keeps its weights, and every branch a copy of its prefix

    def _score(self, items: Sequence[Item], temperature: float, loss: Loss | None) -> Scored:
        collector = Collector(items, self._model.device)
        spans, sequences = scored_spans(items), SortedSequences(input_sequences(items))
        for batch in micro_batches(sequences, self.max_tokens, in_one_pass=True):
            forest = build_forest(batch, _SHARE_ABOVE)
            targets = Targets(forest, batch, spans, items)
            hidden_TD = self._forward(forest)
            unique, inverse = np.unique(targets.row_S, return_inverse=True)
            row_U, row_S, target_S, place_S = (
                torch.from_numpy(values).to(hidden_TD.device)
                for values in (unique, inverse, targets.target_S, targets.place_S)
            )
            head = Head.of(backbone(self._model))
            logprobs_S, entropy_S = score(head, hidden_TD[row_U], row_S, target_S, temperature)
            scored = Scored(place_S, logprobs_S, entropy_S)
            collector.add(scored)
            if loss is not None:
                loss(scored).backward()
        return collector.all()

    def _forward(self, forest: Forest) -> Tensor:
        """Hidden states [T, D] in the order of the forest's rows."""
        decoder = backbone(self._model).get_decoder()
        caches: dict[int, DynamicCache] = {}
        hidden: dict[int, Tensor] = {}
        for parent, children in _families(forest):
            before = caches[parent] if parent >= 0 else functional_cache(self._model.config)
            lengths = [forest.segments[i].end - forest.segments[i].start for i in children]
            input_ids = np.zeros((len(children), max(lengths)), dtype=np.int64)
            for row, i in enumerate(children):
                input_ids[row, : lengths[row]] = forest.token_ids_T[forest.segments[i].start : forest.segments[i].end]
            cache = copy_cache(before)
            if len(children) > 1 and parent >= 0:
                cache.reorder_cache(torch.zeros(len(children), dtype=torch.long, device=self._model.device))
            output = decoder(
                input_ids=torch.from_numpy(input_ids).to(self._model.device), past_key_values=cache, use_cache=True
            ).last_hidden_state
            self.num_computed += input_ids.size
            for row, i in enumerate(children):
                hidden[i] = output[row, : lengths[row]]
            if len(children) == 1:
                caches[children[0]] = cache
        return torch.cat([hidden[i] for i in range(len(forest.segments))])


def _families(forest: Forest) -> list[tuple[int, list[int]]]:
    """(parent, segments that go through together) in an order that has every parent before its children.

    A segment that others continue goes alone, since its cache is needed; leaves of one parent go side by side.
    """
    families: list[tuple[int, list[int]]] = []
    leaves: dict[int, list[int]] = {}
    for index, segment in enumerate(forest.segments):
        if segment.is_leaf:
            leaves.setdefault(segment.parent, []).append(index)
        else:
            families.append((segment.parent, [index]))
    return [*families, *leaves.items()]


class _Functional:
    """Mixed into a cache layer: states are replaced, never overwritten, so that earlier ones keep their graph."""

    conv_states: dict[int, Tensor]
    recurrent_states: dict[int, Tensor]
    is_conv_states_initialized: dict[int, bool]
    is_recurrent_states_initialized: dict[int, bool]

    def update_conv_state(self, conv_states: Tensor, state_idx: int = 0, **kwargs: Any) -> Tensor:
        if self.is_conv_states_initialized[state_idx]:
            self.conv_states[state_idx] = self.conv_states[state_idx].clone()
        return super().update_conv_state(conv_states, state_idx, **kwargs)  # type: ignore[misc,no-any-return]

    def update_recurrent_state(self, recurrent_states: Tensor, state_idx: int = 0, **kwargs: Any) -> Tensor:
        if self.is_recurrent_states_initialized[state_idx]:
            self.recurrent_states[state_idx] = self.recurrent_states[state_idx].clone()
        return super().update_recurrent_state(recurrent_states, state_idx, **kwargs)  # type: ignore[misc,no-any-return]


def functional_cache(config: Any) -> DynamicCache:
    """An empty cache for a model of this configuration whose updates can be differentiated."""
    cache = DynamicCache(config=config)
    for index, layer in enumerate(cache.layers):
        if hasattr(layer, "recurrent_states"):
            kind: Any = type(f"Functional{type(layer).__name__}", (_Functional, type(layer)), {})
            cache.layers[index] = kind.__new__(kind)
            vars(cache.layers[index]).update(vars(layer))
    return cache


def copy_cache(cache: DynamicCache) -> DynamicCache:
    """Another cache that holds the same tensors."""
    twin = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in twin.layers:
        for name, value in vars(layer).items():
            if isinstance(value, dict):
                setattr(layer, name, dict(value))
    return twin
