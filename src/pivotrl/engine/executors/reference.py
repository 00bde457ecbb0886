"""The naive way: one right-padded row per completion through the model's own forward. Always there; the oracle."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pivotrl.engine.executors.chunked import ChunkedExecutor
from pivotrl.engine.executors.contract import Collector, ExecutorName, Loss, Scored, scored_spans
from pivotrl.engine.items import Item


class ReferenceExecutor(ChunkedExecutor):
    """Rows of one prompt at a time, at most ``max_tokens`` tokens of them together."""

    name: ExecutorName = "reference"
    takes = 0.25  # attention written out keeps its weights, which grow with the square of a row

    def _score(self, items: Sequence[Item], temperature: float, loss: Loss | None) -> Scored:
        collector = Collector(items, self._model.device)
        spans = iter(scored_spans(items))
        for item in items:
            rows = [(completion, next(spans)[2]) for completion in item.completions]
            longest = len(item.prompt) + max(map(len, item.completions))
            size = max(1, self.max_tokens // longest)
            for low in range(0, len(rows), size):
                scored = self._rows(item.prompt, rows[low : low + size], temperature)
                if loss is not None:
                    loss(scored).backward()
                collector.add(scored)
        return collector.all()

    def _rows(self, prompt: Sequence[int], rows: Sequence[tuple[Sequence[int], int]], temperature: float) -> Scored:
        device = self._model.device
        lengths = [len(completion) for completion, _ in rows]
        # The last token of a completion predicts nothing that is scored.
        width = len(prompt) + max(lengths) - 1
        input_ids = torch.zeros((len(rows), width), dtype=torch.long, device=device)
        mask = torch.zeros_like(input_ids)
        for row, (completion, _) in enumerate(rows):
            tokens = torch.tensor([*prompt, *completion[:-1]], device=device)
            input_ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        logits = self._model(
            input_ids=input_ids,
            attention_mask=mask,
            use_cache=False,
            logits_to_keep=torch.arange(len(prompt) - 1, width, device=device),
        ).logits
        self.num_computed += input_ids.numel()
        wide = torch.promote_types(logits.dtype, torch.float32)
        logprobs, entropies, places = [], [], []
        for row, (completion, start) in enumerate(rows):
            logprobs_SV = torch.log_softmax(logits[row, : len(completion)].to(wide) / temperature, dim=-1)
            targets = torch.tensor(list(completion), device=device)
            logprobs.append(logprobs_SV.gather(-1, targets[:, None])[:, 0])
            entropies.append(-(logprobs_SV.detach().exp() * logprobs_SV.detach()).sum(dim=-1))
            places.append(torch.arange(start, start + len(completion), device=device))
        return Scored(torch.cat(places), torch.cat(logprobs), torch.cat(entropies))
