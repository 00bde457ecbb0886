"""Draw for requests that come and go: a request joins at the next token and leaves at its end.

Requests that are admitted together are prefilled as one forest and form a group. All groups go through the decoder as
one row of tokens per step; only their attention is apart, since each group reads a trunk of its own.

Suffixes: _N rows, one for each sample that grows, _V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pivotrl.engine.conversation_trunks import ConversationTrunks
from pivotrl.engine.decoder import backbone, forward
from pivotrl.engine.decoding import DecodePass
from pivotrl.engine.forest import SortedSequences, micro_batches
from pivotrl.engine.head import Head
from pivotrl.engine.memory import budget, cached_bytes_per_token, rows_that_fit
from pivotrl.engine.prefilling import Prefilled, prefill
from pivotrl.engine.token_choice import race
from pivotrl.protocols.live import Ask, Finish, LiveToken, News
from pivotrl.seeding import race_times

_PREFILLED_TOGETHER = 8192
"""Prompt tokens of one forest."""
_EXPECTED = 1024
"""Tokens of a sample for which room is reserved; a request often allows many more than its sample takes."""


@dataclass
class _Row:
    """A sample that grows."""

    key: str
    ask: Ask
    prompt_sha256: str
    sample: int
    leaf: int
    """The segment that it continues."""
    tokens: list[int] = field(default_factory=list)
    is_alive: bool = True

    def times(self, num_tokens: int) -> Any:
        """The random numbers of its next token. They depend on the prompt too: clients send one seed with all of them,
        and their samples must not go together."""
        return race_times(self.ask.sampling.seed, self.prompt_sha256, self.sample, len(self.tokens), num_tokens)

    @property
    def finish(self) -> Finish | None:
        if self.tokens[-1] in self.ask.stop_ids:
            return "stop"
        return "length" if len(self.tokens) == self.ask.sampling.max_tokens else None


@dataclass
class _Group:
    """Rows behind one trunk, and the logits [N, V] of their next tokens."""

    start: Prefilled
    rows: list[_Row]
    state: DecodePass
    logits_NV: Tensor

    def drop_finished(self) -> None:
        growing = [number for number, row in enumerate(self.rows) if row.is_alive]
        if growing and self.state.is_sparse(len(growing)):
            self.rows = [self.rows[number] for number in growing]
            self.state.keep(torch.tensor(growing, device=self.logits_NV.device))


class _SideBySide:
    """Several groups as one pass."""

    def __init__(self, states: Sequence[DecodePass]) -> None:
        self._states = states
        self.input_ids_T = torch.cat([state.input_ids_T for state in states])
        self.position_ids_T = torch.cat([state.position_ids_T for state in states])
        self.counts = [len(state.input_ids_T) for state in states]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> Tensor:
        """As :meth:`DecodePass.attend`, each group for its own rows."""
        queries, keys, values = (tensor.split(self.counts, dim=2) for tensor in (query, key, value))
        parts = zip(self._states, queries, keys, values, strict=True)
        return torch.cat([state.attend(layer, q, k, v, scale, window) for state, q, k, v in parts], dim=2)


class LiveBatch:
    """A :class:`pivotrl.protocols.live.LiveModel` over a model of transformers whose attention is ours.

    Args:
        trunks: keeps conversations for their next turn.
        max_rows: samples that grow together.
        max_bytes: of keys and values of all that grow.
    """

    def __init__(
        self, model: Any, trunks: ConversationTrunks, max_rows: int | None = None, max_bytes: int | None = None
    ) -> None:
        self._base = backbone(model)
        self._head = Head.of(self._base)
        self.trunks = trunks
        self._max_rows = max_rows or rows_that_fit(model, 1)
        self._max_bytes = max_bytes or budget(model)
        self._bytes_per_token = cached_bytes_per_token(model)
        self._groups: list[_Group] = []

    @property
    def is_busy(self) -> bool:
        return bool(self._groups)

    @property
    def num_rows(self) -> int:
        """Samples that grow."""
        return sum(row.is_alive for row in self._rows)

    @property
    def _rows(self) -> list[_Row]:
        return [row for group in self._groups for row in group.rows]

    def fits(self, asks: Sequence[Ask]) -> bool:
        growing = [row.ask for row in self._rows if row.is_alive]
        if not growing and len(asks) == 1:
            return True
        num_rows = len(growing) + sum(ask.num_samples for ask in asks)
        num_bytes = sum(map(self._bytes_of, asks)) + sum(self._bytes_of(ask) / ask.num_samples for ask in growing)
        return num_rows <= self._max_rows and num_bytes <= self._max_bytes

    def _bytes_of(self, ask: Ask) -> int:
        new = ask.num_samples * min(ask.sampling.max_tokens, _EXPECTED)
        return (len(ask.prompt) + new) * self._bytes_per_token

    @torch.no_grad()
    def admit(self, asks: Mapping[str, Ask]) -> Mapping[str, int]:
        keys = list(asks)
        sequences = SortedSequences([asks[key].prompt for key in keys])
        known = [self.trunks.known(ids) for ids in sequences.ids]
        cached = {keys[i]: found.num_tokens for i, found in zip(sequences.order, known, strict=True)}
        groups, low = list[_Group](), 0
        try:
            for batch in micro_batches(sequences, _PREFILLED_TOGETHER, known=[found.num_tokens for found in known]):
                start = prefill(self._base, batch, known[low : low + len(batch)])
                low += len(batch)
                rows = list[_Row]()
                for key, ids, leaf in zip(map(keys.__getitem__, batch.order), batch.ids, start.leaves_N, strict=True):
                    sha256, ask = hashlib.sha256(ids.tobytes()).hexdigest(), asks[key]
                    rows += [_Row(key, ask, sha256, sample, leaf) for sample in range(ask.num_samples)]
                groups.append(self._group(start, rows))
        except torch.OutOfMemoryError:
            self.trunks.shrink()
            raise MemoryError("the prompt does not fit into memory beside the others") from None
        self._groups += groups
        return cached

    def _group(self, start: Prefilled, rows: list[_Row]) -> _Group:
        """The last prompt token predicts the first token of every sample."""
        state = DecodePass(start.forest, start.trunk, [row.leaf for row in rows], self._base.device)
        place = {int(row): number for number, row in enumerate(start.forest_rows_T)}
        ends = [place[start.forest.segments[row.leaf].end - 1] for row in rows]
        hidden_ND = start.hidden_TD[torch.tensor(ends, device=start.hidden_TD.device)]
        return _Group(start, rows, state, self._head.logits(hidden_ND))

    def cancel(self, key: str) -> None:
        for row in self._rows:
            row.is_alive = row.is_alive and row.key != key
        self._groups = [group for group in self._groups if any(row.is_alive for row in group.rows)]

    @torch.no_grad()
    def step(self) -> Mapping[str, list[News]]:
        """One token for every row."""
        if not self._groups:
            return {}
        news: dict[str, list[News]] = defaultdict(list)
        chosen = self._choose()
        for group in self._groups:
            for number, row in enumerate(group.rows):
                token = next(chosen)
                if row.is_alive:
                    news[row.key].append(self._grow(group, number, row, token))
        self._groups = [group for group in self._groups if any(row.is_alive for row in group.rows)]
        try:
            if self._groups:
                self._compute()
        except torch.OutOfMemoryError:  # samples may grow beyond what was reserved; a later request may fit again
            self.trunks.shrink()
            for row in self._rows:
                if row.is_alive:
                    news[row.key].append(News(row.sample, fault="memory ran out while the samples grew; ask for less"))
            self._groups = []
        return news

    def _grow(self, group: _Group, number: int, row: _Row, token: LiveToken | None) -> News:
        if token is None:
            row.is_alive = False
            return News(row.sample, fault="the model's probabilities are not finite numbers; its weights are damaged")
        row.tokens.append(token.token_id)
        finish = row.finish
        if finish is not None:
            row.is_alive = False
            if row.sample == 0:
                own = group.state.own(number, len(row.tokens) - 1)  # the last token did not go through the model
                self.trunks.put([*row.ask.prompt, *row.tokens[:-1]], group.start, row.leaf, own)
        return News(row.sample, (token,), finish)

    def _compute(self) -> None:
        for group in self._groups:
            group.drop_finished()
            tokens = [row.tokens[-1] if row.tokens else 0 for row in group.rows]
            group.state.advance(torch.tensor(tokens, device=self._base.device))
        states = [group.state for group in self._groups]
        together: Any = states[0] if len(states) == 1 else _SideBySide(states)
        logits_NV = self._head.logits(forward(self._base, together))
        counts = [len(group.rows) for group in self._groups]
        for group, own in zip(self._groups, logits_NV.split(counts), strict=True):
            group.logits_NV = own

    def _choose(self) -> Any:
        """The next token of each row, in order; None where the probabilities are not finite."""
        rows, logits_NV = self._rows, torch.cat([group.logits_NV for group in self._groups])
        found: list[LiveToken | None] = [None] * len(rows)
        alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for number, row in enumerate(rows):
            sampling = row.ask.sampling
            if row.is_alive:
                alike[sampling.temperature, sampling.top_p, sampling.top_k, row.ask.num_top].append(number)
        for numbers in alike.values():
            first, own_NV = rows[numbers[0]].ask, logits_NV[numbers]
            is_greedy = first.sampling.temperature == 0.0
            times = [rows[number].times(0 if is_greedy else own_NV.shape[1]) for number in numbers]
            token_N = race(own_NV, torch.from_numpy(np.stack(times)).to(own_NV.device), first.sampling)
            told, finite = _told(own_NV, token_N, first.num_top), torch.isfinite(own_NV.float().logsumexp(-1)).tolist()
            for number, token, more, is_finite in zip(numbers, token_N.tolist(), told, finite, strict=True):
                found[number] = LiveToken(token, *more) if is_finite else None
        return iter(found)


def _told(logits_NV: Tensor, token_N: Tensor, num_top: int | None) -> list[Any]:
    """For each row the log-probability of its token and of the most likely ones, as far as they are asked for."""
    if num_top is None:
        return [()] * len(token_N)
    logprobs_NV = torch.log_softmax(logits_NV.float(), dim=-1)
    own = logprobs_NV.gather(-1, token_N[:, None])[:, 0].tolist()
    best = logprobs_NV.topk(min(num_top, logprobs_NV.shape[-1]), dim=-1)
    tops = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [(logprob, tuple(zip(ids, values, strict=True))) for logprob, (ids, values) in zip(own, tops, strict=True)]
