"""Draw G completions per prompt with one prompt prefill.

The G branches of a prompt stand side by side in the query dimension of one cache row; a mask lets each see the
prompt and its own tokens. Randomness is inverse-CDF sampling on uniforms fixed by (seed, turn, sample index), so
order, batch size and number of workers do not choose a sample.

Suffixes: _B prompts, _G branches, _T tokens, _V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicLayer

from pivotrl.records import Sampling
from pivotrl.seeding import uniforms


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """A cache layer that reserves room ahead; the stock one copies the whole cache at every token."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.length = 0
            self.key_room = self.value_room = key_states[:, :, :0]
        end = self.length + key_states.shape[-2]
        if end > self.key_room.shape[-2]:
            self.key_room = self._roomier(self.key_room, key_states, end)
            self.value_room = self._roomier(self.value_room, value_states, end)
        self.key_room[:, :, self.length : end] = key_states
        self.value_room[:, :, self.length : end] = value_states
        self.length = end
        self.keys, self.values = self.key_room[:, :, :end], self.value_room[:, :, :end]
        return self.keys, self.values

    def _roomier(self, room: torch.Tensor, like: torch.Tensor, end: int) -> torch.Tensor:
        batch, heads, _, size = like.shape
        bigger = like.new_empty(batch, heads, end + max(32, end // 4), size)
        if self.length:
            bigger[:, :, : self.length] = room[:, :, : self.length]
        return bigger


@dataclass(frozen=True)
class Drawn:
    """Token ids as sampled and their log-probabilities; ``stopped`` when the last one is a stop token."""

    token_ids_T: list[int]
    logprobs_T: list[float]
    stopped: bool


def choose(
    logits_NV: torch.Tensor, uniform_N: torch.Tensor, temperature: float, top_p: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(token ids [N], log-probabilities [N] under the distribution drawn from). Temperature 0 takes the best token,
    with its log-probability at temperature 1."""
    if temperature == 0.0:
        logprobs = torch.log_softmax(logits_NV.float(), dim=-1)
        token_N = logprobs.argmax(dim=-1)
        return token_N, logprobs.gather(-1, token_N[:, None])[:, 0]
    logprobs = torch.log_softmax(logits_NV.float() / temperature, dim=-1)
    if top_p < 1.0:
        ordered, order = logprobs.sort(dim=-1, descending=True)
        cumulative = ordered.exp().cumsum(dim=-1)
        outside = cumulative - ordered.exp() >= top_p  # the token that crosses top_p stays in
        ordered = ordered.masked_fill(outside, -torch.inf)
        logprobs = torch.log_softmax(torch.empty_like(ordered).scatter_(-1, order, ordered), dim=-1)
    cumulative = logprobs.double().exp().cumsum(dim=-1)
    target = uniform_N.to(cumulative)[:, None] * cumulative[:, -1:]
    token_N = torch.searchsorted(cumulative, target, right=True)[:, 0].clamp_(max=logits_NV.shape[-1] - 1)
    return token_N, logprobs.gather(-1, token_N[:, None])[:, 0]


class _Branches:
    """N completions that grow side by side, each until its first stop token."""

    def __init__(self, model: Any, turn_ids: Sequence[str], num_samples: int, sampling: Sampling, stop: frozenset[int]):
        draws = [uniforms(sampling.seed, turn, g, sampling.max_tokens) for turn in turn_ids for g in range(num_samples)]
        self._uniform_NT = torch.from_numpy(np.stack(draws)).to(model.device)
        self._sampling = sampling
        self._is_stop = torch.zeros(
            model.get_output_embeddings().weight.shape[0], dtype=torch.bool, device=model.device
        )
        self._is_stop[list(stop)] = True
        self._alive = torch.ones(len(draws), dtype=torch.bool, device=model.device)
        self._tokens: list[list[int]] = [[] for _ in draws]
        self._logprobs: list[list[float]] = [[] for _ in draws]

    def extend(self, logits_NV: torch.Tensor, step: int) -> torch.Tensor | None:
        """Choose the next token of each branch [N]; None when every branch has stopped."""
        token_N, logprob_N = choose(
            logits_NV, self._uniform_NT[:, step], self._sampling.temperature, self._sampling.top_p
        )
        rows = zip(token_N.tolist(), logprob_N.tolist(), self._alive.tolist(), strict=True)
        for i, (token, logprob, alive) in enumerate(rows):
            if alive:
                self._tokens[i].append(token)
                self._logprobs[i].append(logprob)
        self._alive = self._alive & ~self._is_stop[token_N]
        return token_N if self._alive.any() else None

    def drawn(self) -> list[Drawn]:
        return [
            Drawn(tokens, logprobs, not alive)
            for tokens, logprobs, alive in zip(self._tokens, self._logprobs, self._alive.tolist(), strict=True)
        ]


def draw(
    model: Any,
    prompts: Sequence[Sequence[int]],
    turn_ids: Sequence[str],
    num_samples: int,
    sampling: Sampling,
    stop_ids: frozenset[int],
    shared: bool = True,
) -> list[list[Drawn]]:
    """``num_samples`` completions for each prompt.

    Args:
        model: a causal LM of transformers.
        prompts: token ids, at least one each.
        shared: keep the branches of a prompt behind one cache row. False gives each branch a row of its own in the
            model's own cache, one prompt at a time: for windows and states that no mask can isolate.
    """
    if shared:
        return _draw_shared(model, prompts, turn_ids, num_samples, sampling, stop_ids)
    return [
        _draw_rows(model, prompt, turn, num_samples, sampling, stop_ids)
        for prompt, turn in zip(prompts, turn_ids, strict=True)
    ]


def _draw_rows(
    model: Any, prompt: Sequence[int], turn_id: str, num_samples: int, sampling: Sampling, stop_ids: frozenset[int]
) -> list[Drawn]:
    branches = _Branches(model, [turn_id], num_samples, sampling, stop_ids)
    input_ids = torch.tensor([list(prompt)] * num_samples, device=model.device)
    cache = None
    for step in range(sampling.max_tokens):
        output = model(input_ids=input_ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = output.past_key_values
        token_N = branches.extend(output.logits[:, -1], step)
        if token_N is None:
            break
        input_ids = token_N[:, None]
    return branches.drawn()


def _draw_shared(
    model: Any,
    prompts: Sequence[Sequence[int]],
    turn_ids: Sequence[str],
    num_samples: int,
    sampling: Sampling,
    stop_ids: frozenset[int],
) -> list[list[Drawn]]:
    device = model.device
    num_rows, longest = len(prompts), max(map(len, prompts))
    branches = _Branches(model, turn_ids, num_samples, sampling, stop_ids)
    length_B = torch.tensor([len(prompt) for prompt in prompts], device=device)
    cache = Cache(layer_class_to_replicate=GrowingLayer)
    # Right-padded prefill of all but the last prompt token: causal attention never looks right, so the padding can
    # only spoil rows that are masked below.
    padded = torch.zeros((num_rows, longest), dtype=torch.long, device=device)
    for row, prompt in enumerate(prompts):
        padded[row, : len(prompt)] = torch.tensor(prompt, device=device)
    if longest > 1:
        model(input_ids=padded[:, :-1], past_key_values=cache, use_cache=True, logits_to_keep=1)
    columns = torch.arange(longest, device=device)
    # Columns of the cache: longest - 1 prompt tokens, one last prompt token, then G tokens per step.
    sees_prompt = torch.cat(
        [columns[None, :-1] < length_B[:, None] - 1, torch.ones(num_rows, 1, dtype=torch.bool, device=device)], dim=1
    )
    own = torch.eye(num_samples, dtype=torch.bool, device=device)[None].expand(num_rows, num_samples, num_samples)
    input_ids = padded.gather(1, length_B[:, None] - 1)
    mask = sees_prompt[:, None, None, :]
    own_mask = torch.zeros(num_rows, num_samples, 0, dtype=torch.bool, device=device)
    for step in range(sampling.max_tokens):
        logits = model(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=(length_B - 1 + step)[:, None].expand(input_ids.shape),
            past_key_values=cache,
            use_cache=True,
        ).logits
        token_N = branches.extend(logits.expand(num_rows, num_samples, -1).reshape(num_rows * num_samples, -1), step)
        if token_N is None:
            break
        input_ids = token_N.reshape(num_rows, num_samples)
        own_mask = torch.cat([own_mask, own], dim=2)
        mask = torch.cat([sees_prompt[:, None, :].expand(num_rows, num_samples, longest), own_mask], dim=2)[:, None]
    drawn = branches.drawn()
    return [drawn[i : i + num_samples] for i in range(0, len(drawn), num_samples)]
