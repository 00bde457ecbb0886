"""Limits of a model that configurations keep under different names."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from pivotrl.engine.loading import num_outputs

_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length", "n_ctx")
_logger = logging.getLogger(__name__)

UNBOUNDED = 1 << 30
"""Tokens; the context of a model whose states or position biases have no limit."""


def max_context(config: Any, tokenizer: Any) -> int:
    """Tokens that the model can see, from its configuration or else its tokenizer; otherwise :data:`UNBOUNDED`."""
    text = config.get_text_config()
    told = [getattr(text, name, None) for name in _LENGTHS] + [getattr(tokenizer, "model_max_length", None)]
    return next((int(value) for value in told if isinstance(value, int) and 0 < value < UNBOUNDED), UNBOUNDED)


def stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """End tokens named by generation_config.json and config.json.

    Only control tokens that the model can choose count; any other id is a default not meant for this tokenizer.
    """
    sources = (model.generation_config, model.config, model.config.get_text_config())
    return named_stop_ids([getattr(source, "eos_token_id", None) for source in sources], tokenizer, num_outputs(model))


def named_stop_ids(sources: Sequence[Any], tokenizer: Any, num_tokens: int) -> frozenset[int]:
    """As :func:`stop_ids`.

    Args:
        sources: what each file names as ``eos_token_id``: a number, a list of numbers, or None.
        num_tokens: number of tokens that the model can choose from.
    """
    named: set[int] = set()
    for ids in sources:
        named |= {each for each in (ids if isinstance(ids, (list, tuple)) else [ids]) if isinstance(each, int)}
    control = {*tokenizer.added_tokens_decoder, *tokenizer.all_special_ids}
    ends = {each for each in named & control if each < num_tokens}
    if ignored := sorted(named - ends):
        _logger.warning("ignored end tokens that are not control tokens of the tokenizer: %s", ignored)
    return frozenset(ends)
