"""Token ids of plain texts."""

from __future__ import annotations

from itertools import takewhile
from typing import Any


def first_ids(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before every text, such as ``<s>``; empty where it puts nothing.

    An end token that it puts behind a text is not among them: our texts go on with an answer.
    """
    read = tokenizer("a", return_special_tokens_mask=True)
    added = takewhile(lambda pair: pair[1], zip(read.input_ids, read.special_tokens_mask, strict=True))
    return [token_id for token_id, _ in added]
