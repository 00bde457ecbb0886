"""Draw G completions per prompt; all prompts of a call are prefilled as one forest, each shared token once.

Randomness is inverse-CDF sampling on uniforms fixed by (seed, turn, sample index), so order, batch size and number of
workers do not choose a sample.

Suffixes: _N branches that still grow, _G samples of a prompt, _T tokens, _V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pivotrl.engine.cuda_graphs import Capture, RecordedStep, Step, cuda_graph
from pivotrl.engine.decoding import DecodePass
from pivotrl.engine.executors.contract import backbone
from pivotrl.engine.executors.split import forward
from pivotrl.engine.forest import Forest, SortedSequences, build_forest, micro_batches
from pivotrl.engine.head import Head
from pivotrl.engine.split_attention import ForestPass, TrunkState
from pivotrl.engine.static_decoding import StaticPass
from pivotrl.protocols import InputError
from pivotrl.protocols.tokens import Drawn
from pivotrl.records import Sampling
from pivotrl.seeding import uniforms

_LOGITS_AT_ONCE = 1 << 25
"""Numbers in one block of logits that tokens are chosen from: 128 MiB in fp32."""

_BLOCK = 256
"""Entries of a distribution that are summed together when one is looked for."""


def choose(logits_NV: Tensor, uniform_N: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """(token ids [N], log-probabilities [N] under the distribution drawn from).

    Temperature 0 takes the best token, with its log-probability at temperature 1. With top-k and top-p, the k most
    probable tokens are kept first, and of those the fewest that reach p.
    """
    rows = max(1, _LOGITS_AT_ONCE // logits_NV.shape[1])
    if len(logits_NV) > rows:  # each of the copies below is as large as the logits
        blocks = zip(logits_NV.split(rows), uniform_N.split(rows), strict=True)
        token_blocks, logprob_blocks = zip(*(choose(*block, sampling) for block in blocks), strict=True)
        return torch.cat(token_blocks), torch.cat(logprob_blocks)
    logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    if sampling.temperature == 0.0:
        logprobs = torch.log_softmax(logits_NV, dim=-1)
        token_N = logprobs.argmax(dim=-1)
        return token_N, logprobs.gather(-1, token_N[:, None])[:, 0]
    logprobs = torch.log_softmax(logits_NV / sampling.temperature, dim=-1)
    if sampling.top_k is not None and sampling.top_k < logprobs.shape[-1]:
        kept = logprobs.topk(sampling.top_k, dim=-1)
        logprobs = torch.log_softmax(
            torch.full_like(logprobs, -torch.inf).scatter_(-1, kept.indices, kept.values), dim=-1
        )
    if sampling.top_p < 1.0:
        ordered, order = logprobs.sort(dim=-1, descending=True)
        cumulative = ordered.exp().cumsum(dim=-1)
        outside = cumulative - ordered.exp() >= sampling.top_p  # the token that crosses top_p stays in
        ordered = ordered.masked_fill(outside, -torch.inf)
        logprobs = torch.log_softmax(torch.empty_like(ordered).scatter_(-1, order, ordered), dim=-1)
    token_N = inverse_cdf(logprobs.exp(), uniform_N)
    return token_N, logprobs.gather(-1, token_N[:, None])[:, 0]


def inverse_cdf(weights_NV: Tensor, uniform_N: Tensor) -> Tensor:
    """The first entry [N] at which the running sum exceeds that share of the whole, never one of weight 0.

    Sums are in fp64. Blocks are summed first, and only the one that is hit entry by entry: a fifth of the time of a
    running sum over a whole vocabulary.

    Args:
        weights_NV: not negative, one at least positive in each row. Of a row with NaN any entry is returned.
        uniform_N: in [0, 1).
    """
    num_entries = weights_NV.shape[1]
    if missing := -num_entries % _BLOCK:
        weights_NV = torch.nn.functional.pad(weights_NV, (0, missing))
    padded = weights_NV.unflatten(1, (-1, _BLOCK))
    sums = torch.nn.functional.pad(padded.sum(dim=-1, dtype=torch.float64).cumsum(dim=-1), (1, 0))
    target = uniform_N.to(sums)[:, None] * sums[:, -1:]
    block = torch.searchsorted(sums[:, 1:].contiguous(), target, right=True).clamp(max=padded.shape[1] - 1)
    within = padded.gather(1, block[..., None].expand(-1, -1, _BLOCK))[:, 0].double().cumsum(dim=-1)
    within += sums.gather(1, block)
    # The block was summed in another order: what lies in it must not fall behind its end.
    target = torch.minimum(target, torch.nextafter(within[:, -1:], torch.zeros_like(target)))
    place = torch.searchsorted(within, target, right=True).clamp(max=_BLOCK - 1)  # of NaN it is behind the end
    return (block * _BLOCK + place)[:, 0].clamp(max=num_entries - 1)


@torch.no_grad()
def draw(
    model: Any,
    prompts: Sequence[Sequence[int]],
    turn_ids: Sequence[str],
    num_samples: int,
    sampling: Sampling,
    stop_ids: frozenset[int],
    executor: str = "split",
    max_rows: int = 64,
    max_tokens: int = 8192,
    capture: Capture | None = None,
    first: int = 0,
) -> list[list[Drawn]]:
    """``num_samples`` completions for each prompt.

    When memory runs out, fewer branches decode together; the samples stay the same.

    Args:
        model: a causal LM of transformers.
        prompts: token ids, at least one each.
        executor: ``split`` grows all branches from one trunk; ``cache`` prefills each prompt once in the model's own
            cache; ``reference`` prefills each sample's row; ``anew`` computes the whole row for each token, for models
            without a cache.
        max_rows: branches that decode together.
        max_tokens: prompt tokens prefilled together, see :func:`pivotrl.engine.forest.micro_batches`.
        capture: how ``split`` records a step; None is a CUDA graph on a GPU, and no record elsewhere.
        first: number of the first sample of each prompt; a sample's number fixes its random numbers.

    Raises:
        InputError: the model gives no finite probabilities.
        torch.OutOfMemoryError: the prompts or a single branch do not fit.
    """
    numbers = range(first, first + num_samples)
    if capture is None and model.device.type == "cuda":
        capture = cuda_graph
    if executor != "split":
        return [
            _draw_rows(model, prompt, turn, numbers, sampling, stop_ids, executor)
            for prompt, turn in zip(prompts, turn_ids, strict=True)
        ]
    groups: list[list[Drawn]] = [[] for _ in prompts]
    for batch in micro_batches(SortedSequences(prompts), max_tokens):
        forest = build_forest(batch, share_above=0, cut_at_ends=True)
        trunk = TrunkState()
        base = backbone(model)
        hidden_TD = forward(base, ForestPass(forest, model.device, keep=trunk))
        wanted = [(number, sample) for number in range(len(batch)) for sample in numbers]
        low, rows = 0, max_rows
        while low < len(wanted):
            some = wanted[low : low + rows]
            keys = [(turn_ids[batch.order[number]], sample) for number, sample in some]
            leaves = [forest.leaf_of[number] for number, _ in some]
            try:
                branches = _Branches(model, keys, sampling, stop_ids)
                _grow(base, branches, forest, trunk, leaves, hidden_TD, capture)
            except torch.OutOfMemoryError:
                if rows == 1:
                    raise
                rows = max(1, min(rows, len(some)) // 2)
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            for (number, _), drawn in zip(some, branches.drawn(), strict=True):
                groups[batch.order[number]].append(drawn)
            low += len(some)
    return groups


def num_prefilled(
    prompts: Sequence[Sequence[int]], executor: str, num_samples: int, max_tokens: int = 8192
) -> list[int]:
    """Prompt tokens that :func:`draw` computes for each prompt, those it shares with an earlier one left out."""
    if executor != "split":
        return [len(prompt) * (1 if executor == "cache" else num_samples) for prompt in prompts]
    counts = [0] * len(prompts)
    for batch in micro_batches(SortedSequences(prompts), max_tokens):
        for original, ids, shared in zip(batch.order, batch.ids, batch.shared, strict=True):
            counts[original] = len(ids) - shared
    return counts


class _Branches:
    """Completions that grow side by side, each until its first stop token."""

    def __init__(
        self, model: Any, keys: Sequence[tuple[str, int]], sampling: Sampling, stop_ids: frozenset[int]
    ) -> None:
        draws = [uniforms(sampling.seed, turn, sample, sampling.max_tokens) for turn, sample in keys]
        self._turn_ids = [turn for turn, _ in keys]
        self._uniform_NT = torch.from_numpy(np.stack(draws)).to(model.device)
        self._sampling, self.max_tokens = sampling, sampling.max_tokens
        self._is_stop = torch.zeros(
            model.get_output_embeddings().weight.shape[0], dtype=torch.bool, device=model.device
        )
        self._is_stop[list(stop_ids)] = True
        self._tokens: list[list[int]] = [[] for _ in draws]
        self._logprobs: list[list[float]] = [[] for _ in draws]
        self._alive = [True] * len(draws)
        self.rows = list(range(len(draws)))
        """The branch that each row of logits belongs to."""

    def extend(self, logits_NV: Tensor, step: int) -> Tensor:
        """Choose the next token [N] of each row's branch; finished branches take none.

        Raises:
            InputError: a token has no finite log-probability.
        """
        token_N, logprob_N = choose(logits_NV, self._uniform_NT[self.rows, step], self._sampling)
        values = zip(self.rows, token_N.tolist(), logprob_N.tolist(), self._is_stop[token_N].tolist(), strict=True)
        for branch, token, logprob, stops in values:
            if self._alive[branch]:
                if not math.isfinite(logprob):
                    raise InputError(
                        f"{self._turn_ids[branch]}: the model's probabilities are no finite numbers. Its weights are "
                        "damaged, need a dtype of more range, or were blown up by training: then lower --learning-rate"
                    )
                self._tokens[branch].append(token)
                self._logprobs[branch].append(logprob)
                self._alive[branch] = not stops
        return token_N

    @property
    def growing(self) -> list[int]:
        """Rows whose branch has not stopped."""
        return [row for row, branch in enumerate(self.rows) if self._alive[branch]]

    def keep(self, chosen: Sequence[int]) -> None:
        self.rows = [self.rows[row] for row in chosen]

    def drawn(self) -> list[Drawn]:
        return [
            Drawn(tokens, logprobs, not alive)
            for tokens, logprobs, alive in zip(self._tokens, self._logprobs, self._alive, strict=True)
        ]


def _grow(
    base: Any,
    branches: _Branches,
    forest: Forest,
    trunk: TrunkState,
    leaves: Sequence[int],
    hidden_TD: Tensor,
    capture: Capture | None,
) -> None:
    """``leaves``: the segment that each branch continues; ``hidden_TD``: of the trunk's rows."""
    head = Head.of(base)
    state = (DecodePass if capture is None else StaticPass)(forest, trunk, leaves, base.device)
    # The last prompt token predicts the first token of every sample.
    ends = [forest.segments[leaf].end - 1 for leaf in leaves]

    def call() -> Tensor:
        return head.logits(forward(base, state))

    step: Step = call
    if capture is not None and isinstance(state, StaticPass):
        step = RecordedStep(call, state, capture, base)
    # Logits of a row that several samples start from are computed once.
    unique, inverse = np.unique(ends, return_inverse=True)
    logits_NV = head.logits(hidden_TD[torch.from_numpy(unique).to(hidden_TD.device)])[
        torch.from_numpy(inverse).to(hidden_TD.device)
    ]
    for position in range(branches.max_tokens):
        token_N = branches.extend(logits_NV, position)
        growing = branches.growing
        if not growing or position + 1 == branches.max_tokens:
            return
        if state.is_sparse(len(growing)):
            chosen = torch.tensor(growing, device=token_N.device)
            branches.keep(growing)
            state.keep(chosen)
            token_N = token_N[chosen]
        state.advance(token_N)
        logits_NV = step()[: len(branches.rows)]


def _draw_rows(
    model: Any,
    prompt: Sequence[int],
    turn_id: str,
    numbers: Sequence[int],
    sampling: Sampling,
    stop_ids: frozenset[int],
    executor: str,
) -> list[Drawn]:
    branches = _Branches(model, [(turn_id, sample) for sample in numbers], sampling, stop_ids)
    num_samples = len(numbers)
    input_ids = torch.tensor([list(prompt)] * (1 if executor == "cache" else num_samples), device=model.device)
    cache: Any = None
    for step in range(sampling.max_tokens):
        if executor == "anew":
            logits_NV = model(input_ids=input_ids, use_cache=False).logits[:, -1]
        else:
            output = model(input_ids=input_ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = output.past_key_values
            logits_NV = output.logits[:, -1]
        if len(logits_NV) < num_samples:
            cache.reorder_cache(torch.zeros(num_samples, dtype=torch.long, device=model.device))
            logits_NV = logits_NV.expand(num_samples, -1)
        token_N = branches.extend(logits_NV, step)
        if not branches.growing:
            break
        input_ids = torch.cat([input_ids, token_N[:, None]], dim=1) if executor == "anew" else token_N[:, None]
    return branches.drawn()
