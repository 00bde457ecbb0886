"""Token ids of plain texts."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Any

from pivotrl.protocols import InputError


def first_ids(tokenizer: Any) -> list[int]:
    """The tokens that the tokenizer puts before every text, such as ``<s>``; empty if there are none.

    An end token after the text is left out, since an answer follows our texts.
    """
    read = tokenizer("a", return_special_tokens_mask=True)
    added = takewhile(lambda pair: pair[1], zip(read.input_ids, read.special_tokens_mask, strict=True))
    return [token_id for token_id, _ in added]


def scored_ids(
    tokenizer: Any, encode: Callable[[str], list[int]], prompt: str, answer: str, max_context: int
) -> tuple[list[int], list[int]]:
    """Token ids of (the prompt, the scored answer).

    The text begins as the tokenizer begins texts (``<s>``). A first token with nothing before it is not scored.

    Raises:
        InputError: no token of the answer can be scored, or the text is longer than the model's context.
    """
    prompt_ids, answer_ids = [*first_ids(tokenizer), *encode(prompt)], encode(answer)
    if not prompt_ids:
        prompt_ids, answer_ids = answer_ids[:1], answer_ids[1:]
    if not answer_ids:
        raise InputError(f"the answer {answer!r} has no token to score after the prompt {prompt!r}; give a longer one")
    if (num_tokens := len(prompt_ids) + len(answer_ids)) > max_context:
        raise InputError(f"{num_tokens} tokens exceed the model's context of {max_context}; shorten it")
    return prompt_ids, answer_ids
