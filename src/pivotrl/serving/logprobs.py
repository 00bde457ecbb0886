"""Log-probabilities in the two shapes of the API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pivotrl.protocols.live import LiveToken
from pivotrl.serving.fields import Wanted
from pivotrl.serving.served import Served


def chat_logprobs(tokens: Sequence[LiveToken], wanted: Wanted, served: Served) -> dict[str, Any] | None:
    """As chat completions have them; None if they were not asked for."""
    if wanted.num_top is None:
        return None
    rows = [
        {
            **_entry(token.token_id, token.logprob, wanted, served),
            "top_logprobs": [_entry(other, logprob, wanted, served) for other, logprob in token.top],
        }
        for token in tokens
    ]
    return {"content": rows}


def _entry(token_id: int, logprob: float | None, wanted: Wanted, served: Served) -> dict[str, Any]:
    return {
        "token": _name(token_id, wanted, served),
        "logprob": logprob,
        "bytes": list(served.word(token_id).encode("utf-8", "replace")),
    }


def completion_logprobs(
    tokens: Sequence[LiveToken], wanted: Wanted, served: Served, offset: int = 0
) -> dict[str, Any] | None:
    """As text completions have them; None if they were not asked for.

    Args:
        offset: characters before the first token.
    """
    if wanted.num_top is None:
        return None
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(served.word(token.token_id))
    return {
        "tokens": [_name(token.token_id, wanted, served) for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [_tops(token, wanted, served) for token in tokens] if wanted.num_top else None,
        "text_offset": offsets,
    }


def _tops(token: LiveToken, wanted: Wanted, served: Served) -> dict[str, float | None]:
    """The most likely tokens, and the sampled one."""
    found: dict[str, float | None] = {_name(other, wanted, served): logprob for other, logprob in token.top}
    return found | {_name(token.token_id, wanted, served): token.logprob}


def _name(token_id: int, wanted: Wanted, served: Served) -> str:
    return f"token_id:{token_id}" if wanted.marks_ids else served.word(token_id)
