"""Pages found by BM25 (``bm25s``, MIT): the same query gets the same results, in the same order."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from pivotrl.plugins.extras import load_package
from pivotrl.reading.formats.search_tasks import Page

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
"""A word; each sign of Chinese and Japanese alone, since no blanks separate their words."""
_COMMON = (
    "a an and are as at be been by did do does for from had has have how in is it its of on or that the their there "
    "they this to was were what when where which who whom whose why will with you"
)
_STOP = frozenset(_COMMON.split())
_MARK = re.compile(r"[\u0300-\u036f]")
"""Accents of Latin, Greek and Cyrillic letters. Marks of other scripts are parts of their words."""
_MAX_REMEMBERED = 16_384
"""Queries whose results are kept: every verdict replays the queries before its turn."""


def words(text: str) -> list[str]:
    """The words that count in a query or a page: without accents, letter case and stop words."""
    plain = _MARK.sub("", unicodedata.normalize("NFKD", text)).casefold()
    return [word for word in _WORD.findall(plain) if word not in _STOP]


class Index:
    """BM25 over titles and texts (Lucene's variant, k1 1.5, b 0.75).

    Raises:
        InputError: ``bm25s`` is not installed.
    """

    def __init__(self, pages: Sequence[Page]) -> None:
        bm25s = load_package("bm25s", "the environment search")
        self._pages = pages
        self._index: Any = bm25s.BM25(backend="numpy")
        # A page without any word still needs a place in the index.
        self._index.index([words(f"{page.title}\n{page.text}") or ["\0"] for page in pages], show_progress=False)
        self._known = frozenset(self._index.vocab_dict)
        self.find = functools.lru_cache(maxsize=_MAX_REMEMBERED)(self._find)

    def search(self, query: str, count: int) -> tuple[int, ...]:
        """Places of the best pages, best first, at most ``count``; of equally good ones the earlier first. Only pages
        that hold a word of the query. The order of the query's words does not matter."""
        return self.find(tuple(sorted(words(query))), count)

    def _find(self, asked: tuple[str, ...], count: int) -> tuple[int, ...]:
        tokens = [word for word in asked if word in self._known]
        if not tokens:
            return ()
        scores = self._index.get_scores(tokens)
        count = min(count, len(scores))
        least = np.partition(scores, -count)[-count]
        places = np.flatnonzero((scores >= least) & (scores > 0))
        return tuple(int(place) for place in places[np.argsort(-scores[places], kind="stable")][:count])

    def rare(self, some: Sequence[str]) -> list[str]:
        """The words, each once, those on the fewest pages first."""
        return sorted(dict.fromkeys(some), key=lambda word: self._spread.get(word, 0))

    @functools.cached_property
    def _spread(self) -> dict[str, int]:
        spread: dict[str, int] = {}
        for page in self._pages:
            for word in set(words(f"{page.title}\n{page.text}")):
                spread[word] = spread.get(word, 0) + 1
        return spread
