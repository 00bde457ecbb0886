"""Draw G completions per prompt; all prompts of a call are prefilled as one forest, each shared token once.

Randomness is inverse-CDF sampling on uniforms fixed by (seed, turn, sample index), so order, batch size and number of
workers do not choose a sample.

Suffixes: _N branches that still grow, _G samples of a prompt, _T tokens, _V vocabulary.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pivotrl.engine.cuda_graphs import Capture, RecordedStep, Step, cuda_graph
from pivotrl.engine.decoder import backbone, forward
from pivotrl.engine.decoding import DecodePass
from pivotrl.engine.episode_trunks import EpisodeTrunks, known_beginnings
from pivotrl.engine.forest import SortedSequences, micro_batches
from pivotrl.engine.head import Head
from pivotrl.engine.prefilling import Prefilled, prefill
from pivotrl.engine.split_attention import TrunkState
from pivotrl.engine.static_decoding import StaticPass
from pivotrl.engine.token_choice import choose
from pivotrl.protocols import InputError
from pivotrl.protocols.tokens import Drawn
from pivotrl.records import Sampling
from pivotrl.seeding import uniforms


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
    trunks: EpisodeTrunks | None = None,
) -> list[list[Drawn]]:
    """``num_samples`` completions for each prompt.

    When memory runs out, the store of episodes is dropped, then fewer branches decode together; the samples stay the
    same.

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
        trunks: keys and values of running episodes, which ``split`` uses and renews while they are kept; of several
            samples at a prompt the first is taken to go on.

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
    way = functools.partial(
        _draw_forests, model, prompts, turn_ids, numbers, sampling, stop_ids, max_rows, max_tokens, capture
    )
    if trunks is not None:
        trunks.num_prefilled = None
        if trunks.in_use:
            with contextlib.suppress(torch.OutOfMemoryError):
                return way(trunks)
            trunks.shrink()
            _empty_cache()
    return way(None)


def _draw_forests(
    model: Any,
    prompts: Sequence[Sequence[int]],
    turn_ids: Sequence[str],
    numbers: Sequence[int],
    sampling: Sampling,
    stop_ids: frozenset[int],
    max_rows: int,
    max_tokens: int,
    capture: Capture | None,
    trunks: EpisodeTrunks | None,
) -> list[list[Drawn]]:
    """By ``split``, with or without a store of episodes."""
    groups: list[list[Drawn]] = [[] for _ in prompts]
    num_computed = [0] * len(prompts)
    base, sequences = backbone(model), SortedSequences(prompts)
    if trunks is not None:
        trunks.begin(model, turn_ids)
    lengths = [known.num_tokens for known in known_beginnings(trunks, sequences, turn_ids)]
    for batch in micro_batches(sequences, max_tokens, known=lengths):
        start = prefill(base, batch, known_beginnings(trunks, batch, turn_ids))
        for original, number in zip(batch.order, start.num_computed_N, strict=True):
            num_computed[original] = number
        wanted = [(number, sample) for number in range(len(batch)) for sample in numbers]
        low, rows = 0, max_rows
        while low < len(wanted):
            some = wanted[low : low + rows]
            keys = [(turn_ids[batch.order[number]], sample) for number, sample in some]
            leaves = [start.leaves_N[number] for number, _ in some]
            try:
                branches = _Branches(model, keys, sampling, stop_ids)
                for branch, own in _grow(base, branches, start, leaves, capture):
                    number, sample = some[branch]
                    if trunks is not None and sample == wanted[0][1]:
                        token_ids = [*batch.ids[number], *branches.tokens(branch)[:-1]]  # the last one was not computed
                        trunks.put(keys[branch][0], token_ids, start, leaves[branch], own)
            except torch.OutOfMemoryError:
                if rows == 1 or trunks is not None:
                    raise
                rows = max(1, min(rows, len(some)) // 2)
                _empty_cache()
                continue
            for (number, _), drawn in zip(some, branches.drawn(), strict=True):
                groups[batch.order[number]].append(drawn)
            low += len(some)
    if trunks is not None:
        trunks.num_prefilled = num_computed
    return groups


def _empty_cache() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


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

    def tokens(self, branch: int) -> list[int]:
        """Chosen so far."""
        return self._tokens[branch]

    def drawn(self) -> list[Drawn]:
        return [
            Drawn(tokens, logprobs, not alive)
            for tokens, logprobs, alive in zip(self._tokens, self._logprobs, self._alive, strict=True)
        ]


def _grow(
    base: Any, branches: _Branches, start: Prefilled, leaves: Sequence[int], capture: Capture | None
) -> Iterator[tuple[int, TrunkState]]:
    """Each branch when it leaves, with views of the keys and values of its tokens but the last.

    ``leaves``: the segment that each branch continues.
    """
    head, forest = Head.of(base), start.forest
    state = (DecodePass if capture is None else StaticPass)(forest, start.trunk, leaves, base.device)
    # The last prompt token predicts the first token of every sample.
    ends = np.searchsorted(start.forest_rows_T, [forest.segments[leaf].end - 1 for leaf in leaves])

    def call() -> Tensor:
        return head.logits(forward(base, state))

    def leave(rows: Iterable[int]) -> Iterator[tuple[int, TrunkState]]:
        for row in rows:
            branch = branches.rows[row]
            yield branch, state.own(row, len(branches.tokens(branch)) - 1)

    step: Step = call
    if capture is not None and isinstance(state, StaticPass):
        step = RecordedStep(call, state, capture, base)
    # Logits of a row that several samples start from are computed once.
    unique, inverse = np.unique(ends, return_inverse=True)
    logits_NV = head.logits(start.hidden_TD[torch.from_numpy(unique).to(start.hidden_TD.device)])[
        torch.from_numpy(inverse).to(start.hidden_TD.device)
    ]
    for position in range(branches.max_tokens):
        token_N = branches.extend(logits_NV, position)
        growing = branches.growing
        if not growing or position + 1 == branches.max_tokens:
            break
        if state.is_sparse(len(growing)):
            chosen = torch.tensor(growing, device=token_N.device)
            yield from leave(sorted(set(range(len(branches.rows))) - set(growing)))
            branches.keep(growing)
            state.keep(chosen)
            token_N = token_N[chosen]
        state.advance(token_N)
        logits_NV = step()[: len(branches.rows)]
    yield from leave(range(len(branches.rows)))


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
