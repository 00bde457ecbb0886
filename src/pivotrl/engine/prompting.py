"""What is needed to write a model's prompts, without its weights: tokenizer, stop tokens, context."""

from __future__ import annotations

import json
from typing import Any

from pivotrl.engine.configuration import read_config
from pivotrl.engine.limits import max_context, named_stop_ids
from pivotrl.engine.loading import quiet_loading
from pivotrl.engine.locating import locate
from pivotrl.engine.tokenizers import tokenizer_in
from pivotrl.protocols import InputError


def load_prompting(name: str) -> tuple[Any, frozenset[int], int]:
    """(tokenizer, end tokens that the model's files name, tokens of context), as the loaded model would give them.

    Raises:
        InputError: as :func:`pivotrl.engine.loading.load_model`, as far as the small files show it.
    """
    folder = locate(name)
    config = read_config(folder, name)
    with quiet_loading():
        tokenizer = tokenizer_in(folder, name)
    path = folder / "generation_config.json"
    named: Any = None
    if path.is_file():
        try:
            named = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
        except (ValueError, AttributeError) as error:
            raise InputError(f"{path} is not a JSON object ({error}); copy it again") from error
    text = config.get_text_config()
    sources = [named, getattr(config, "eos_token_id", None), getattr(text, "eos_token_id", None)]
    ends = named_stop_ids(sources, tokenizer, int(text.vocab_size))
    return tokenizer, ends, max_context(config, tokenizer)
