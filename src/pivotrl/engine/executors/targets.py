"""The tokens to score in a forest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pivotrl.engine.forest import Forest, Ids, SortedSequences
from pivotrl.engine.items import Item


class Targets:
    """Scored tokens by the row that predicts them, ascending; ``place_S`` is their place in the flat order."""

    def __init__(
        self, forest: Forest, batch: SortedSequences, spans: Sequence[tuple[int, int, int]], items: Sequence[Item]
    ) -> None:
        completions = [completion for item in items for completion in item.completions]
        rows: list[Ids] = []
        targets: list[Ids] = []
        places: list[Ids] = []
        for number, original in enumerate(batch.order):
            prompt, length, start = spans[original]
            rows.append(forest.rows(number, prompt - 1, prompt - 1 + length))
            targets.append(np.asarray(completions[original], dtype=np.int64))
            places.append(np.arange(start, start + length))
        row_S = np.concatenate(rows)
        order = np.argsort(row_S, kind="stable")
        self.row_S = row_S[order]
        self.target_S, self.place_S = np.concatenate(targets)[order], np.concatenate(places)[order]
