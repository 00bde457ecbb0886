"""Many completions behind one copy of their prompt, in a single row.

A pack is one token row: prompt, then each completion; then the next prompt, and so on. A tree mask lets a completion
see its own prompt and itself, positions restart behind the prompt, and only the positions that predict a completion
token are scored. No padding, and the prompt is computed once instead of G times. Gradients equal those of plain
padded rows (tested to 1e-5).

Suffixes: _T tokens of the row, _S scored positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class PackItem:
    """A prompt with its completions; each completion has its own weight and (optional) old log-probs later."""

    prompt: Sequence[int]
    completions: Sequence[Sequence[int]]

    @property
    def num_tokens(self) -> int:
        return len(self.prompt) + sum(len(completion) for completion in self.completions)


@dataclass(frozen=True)
class Pack:
    input_ids_T: torch.Tensor
    position_ids_T: torch.Tensor
    mask_TT: torch.Tensor
    """True where row may look at column."""
    scored_S: torch.Tensor
    """Row positions whose logits predict a completion token, in item, completion, token order."""
    targets_S: torch.Tensor
    sequence_S: torch.Tensor
    """Number of the completion (counted over the pack) that each scored token belongs to."""
    num_sequences: int


def pack(items: Sequence[PackItem], device: torch.device) -> Pack:
    """Lay the items out in one row.

    Raises:
        ValueError: a prompt or a completion is empty.
    """
    tokens: list[int] = []
    positions: list[int] = []
    scored: list[int] = []
    targets: list[int] = []
    sequence: list[int] = []
    spans: list[tuple[int, int, int, int]] = []  # prompt start, prompt end, completion start, completion end
    number = 0
    for item in items:
        if not item.prompt or not all(item.completions):
            raise ValueError("a prompt and each of its completions need at least one token")
        start = len(tokens)
        tokens += item.prompt
        positions += range(len(item.prompt))
        end = len(tokens)
        spans.append((start, end, start, end))
        for completion in item.completions:
            first = len(tokens)
            tokens += completion
            positions += range(len(item.prompt), len(item.prompt) + len(completion))
            spans.append((start, end, first, len(tokens)))
            scored += [end - 1, *range(first, len(tokens) - 1)]
            targets += completion
            sequence += [number] * len(completion)
            number += 1
    total = len(tokens)
    mask = torch.zeros(total, total, dtype=torch.bool, device=device)
    for start, end, first, last in spans:
        if first == start:
            mask[start:end, start:end] = True
        else:
            mask[first:last, start:end] = True
            mask[first:last, first:last] = True
    mask &= torch.ones(total, total, dtype=torch.bool, device=device).tril()

    def as_tensor(values: list[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return Pack(
        as_tensor(tokens),
        as_tensor(positions),
        mask,
        as_tensor(scored),
        as_tensor(targets),
        as_tensor(sequence),
        number,
    )


def split_by_size(sizes: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices in order, cut into packs of at most ``max_tokens`` (a larger single item stands alone)."""
    groups: list[list[int]] = []
    used = 0
    for index, size in enumerate(sizes):
        if not groups or used + size > max_tokens:
            groups.append([])
            used = 0
        groups[-1].append(index)
        used += size
    return groups


def scored_logits(model: torch.nn.Module, packed: Pack) -> torch.Tensor:
    """Logits [S, V] in fp32 at the scored positions only."""
    unique, inverse = torch.unique(packed.scored_S, return_inverse=True)
    logits: torch.Tensor = model(
        input_ids=packed.input_ids_T[None],
        attention_mask=packed.mask_TT[None, None],
        position_ids=packed.position_ids_T[None],
        logits_to_keep=unique,
        use_cache=False,
    ).logits[0]
    return logits.float()[inverse]


def padded_logits(model: torch.nn.Module, items: Sequence[PackItem], pad_id: int, device: torch.device) -> torch.Tensor:
    """The same logits [S, V] the plain way: one right-padded row per completion. For any architecture."""
    rows = [[*item.prompt, *completion] for item in items for completion in item.completions]
    spans = [(len(item.prompt), len(completion)) for item in items for completion in item.completions]
    longest = max(map(len, rows))
    input_ids = torch.full((len(rows), longest), pad_id, dtype=torch.long, device=device)
    attention = torch.zeros((len(rows), longest), dtype=torch.long, device=device)
    for i, row in enumerate(rows):
        input_ids[i, : len(row)] = torch.tensor(row, device=device)
        attention[i, : len(row)] = 1
    logits = model(input_ids=input_ids, attention_mask=attention, use_cache=False).logits
    return torch.cat([logits[i, p - 1 : p - 1 + r].float() for i, (p, r) in enumerate(spans)])
