"""Prefill prompts as one forest; what is known of their beginnings is taken over instead of computed.

Suffixes: _N prompts, _T rows of the pass, _D width of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pivotrl.engine.decoder import forward
from pivotrl.engine.forest import Forest, Ids, SortedSequences, build_forest
from pivotrl.engine.split_attention import ForestPass, TrunkState


@dataclass(frozen=True)
class Known:
    """Keys and values of a prompt's first ``num_tokens`` tokens, and perhaps of more that do not belong to it.

    ``num_tokens`` is less than the prompt's length: its last token predicts the first sampled one, so it is computed.
    """

    num_tokens: int = 0
    state: TrunkState | None = None


@dataclass(frozen=True)
class Prefilled:
    """A forest whose keys and values are all there."""

    forest: Forest
    trunk: TrunkState
    """Of all rows, in the forest's order."""
    leaves_N: tuple[int, ...]
    """The segment that each prompt ends with."""
    hidden_TD: Tensor
    """Of the computed rows."""
    forest_rows_T: Ids
    """Where they are in the forest."""
    num_computed_N: tuple[int, ...]
    """Rows computed for each prompt, those that it shares with an earlier one left out."""


def prefill(base: Any, prompts: SortedSequences, known_N: Sequence[Known]) -> Prefilled:
    """
    Args:
        base: the causal LM, without an adapter's wrapper.
        known_N: in the order of the sorted prompts.
    """
    beginnings = {i: known for i, known in enumerate(known_N) if known.num_tokens}
    # A known beginning is a sequence of its own, so that a segment ends where it ends.
    cut = SortedSequences([*prompts.ids, *(prompts.ids[i][: known.num_tokens] for i, known in beginnings.items())])
    forest = build_forest(cut, share_above=0, cut_at_ends=True)
    leaf_of = dict(zip(cut.order, forest.leaf_of, strict=True))
    leaves = tuple(leaf_of[i] for i in range(len(prompts)))
    source: dict[int, TrunkState] = {}
    for number, known in enumerate(beginnings.values()):
        assert known.state is not None
        for index in _path(forest, leaf_of[len(prompts) + number]):
            source[index] = known.state
    # Another episode may know the end of this prompt, but not its hidden state.
    for leaf in leaves:
        source.pop(leaf, None)
    trunk, found = TrunkState(), sorted(source)
    taken = ForestPass(
        forest,
        base.device,
        chosen=[i for i in range(len(forest.segments)) if i not in source],
        trunk=_side_by_side(forest, source, found),
        trunk_segments=found,
        keep=trunk,
    )
    hidden_TD = forward(base, taken)
    counts = _num_computed(forest, leaves, source)
    rows = taken.forest_rows_T
    del taken  # and with it the copies that it read
    if source:
        _fill_in(forest, source, trunk)
    return Prefilled(forest, trunk, leaves, hidden_TD, rows, counts)


def _path(forest: Forest, leaf: int) -> list[int]:
    """Segments from the root to this one."""
    path = []
    while leaf >= 0:
        path.append(leaf)
        leaf = forest.segments[leaf].parent
    return path[::-1]


def _slice(forest: Forest, index: int, tensor: Tensor) -> Tensor:
    """A segment's part of the keys or values of a whole sequence."""
    segment = forest.segments[index]
    return tensor[:, :, segment.depth : segment.depth + segment.end - segment.start]


def _side_by_side(forest: Forest, source: dict[int, TrunkState], found: Sequence[int]) -> TrunkState | None:
    """Keys and values of the known segments, one after the other."""
    if not found:
        return None
    layers = source[found[0]].keys
    return TrunkState(
        {layer: torch.cat([_slice(forest, i, source[i].keys[layer]) for i in found], dim=2) for layer in layers},
        {layer: torch.cat([_slice(forest, i, source[i].values[layer]) for i in found], dim=2) for layer in layers},
    )


def _fill_in(forest: Forest, source: dict[int, TrunkState], trunk: TrunkState) -> None:
    """Put the known segments between the computed ones, a layer at a time."""
    for layer in list(trunk.keys):
        keys, values, low = [], [], 0
        for index, segment in enumerate(forest.segments):
            if index in source:
                keys.append(_slice(forest, index, source[index].keys[layer]))
                values.append(_slice(forest, index, source[index].values[layer]))
            else:
                high = low + segment.end - segment.start
                keys.append(trunk.keys[layer][:, :, low:high])
                values.append(trunk.values[layer][:, :, low:high])
                low = high
        trunk.keys[layer], trunk.values[layer] = torch.cat(keys, dim=2), torch.cat(values, dim=2)


def _num_computed(forest: Forest, leaves: Sequence[int], source: dict[int, TrunkState]) -> tuple[int, ...]:
    counts, seen = [], set(source)
    for leaf in leaves:
        new = [i for i in _path(forest, leaf) if i not in seen]
        seen.update(new)
        counts.append(sum(forest.segments[i].end - forest.segments[i].start for i in new))
    return tuple(counts)


def whole(start: Prefilled, leaf: int, own: TrunkState) -> TrunkState:
    """Copies of the keys and values of a prompt, followed by those of what was sampled there."""
    spans = [slice(start.forest.segments[i].start, start.forest.segments[i].end) for i in _path(start.forest, leaf)]
    joined = TrunkState()
    for layer in start.trunk.keys:
        for buffers, trunk, sampled in (
            (joined.keys, start.trunk.keys[layer], own.keys.get(layer)),
            (joined.values, start.trunk.values[layer], own.values.get(layer)),
        ):
            parts = [trunk[:, :, span] for span in spans]
            buffers[layer] = torch.cat(parts if sampled is None else [*parts, sampled], dim=2)
    return joined
