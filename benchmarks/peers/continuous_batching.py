"""Continuous batching of transformers: all prompts queued at once, paged cache, blocks of equal prefixes shared.

The first call sizes the cache; later ones should be of the same load, with fresh prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from transformers import ContinuousBatchingConfig, GenerationConfig

from models import twin
from peers.generate import Draw, plain_sampling

_PAGE = 64
"""Tokens of a block. Only whole blocks are shared; the stock 256 would share little of a short trunk."""
_BATCH_TOKENS = 2048


def prepare(model: Any, tokenizer: Any) -> Draw:
    model = twin(model)
    model.generation_config = GenerationConfig()

    def draw(prompts: Sequence[Sequence[int]], num_samples: int, num_tokens: int) -> list[list[list[int]]]:
        outputs = model.generate_batch(
            [list(prompt) for prompt in prompts],
            generation_config=plain_sampling(num_tokens, num_return_sequences=num_samples, eos_token_id=-1),
            continuous_batching_config=_settings(prompts, num_samples, num_tokens, model.device.type == "cpu"),
            progress_bar=False,
            persistent_manager=True,  # else every call starts a thread and sets up its cache
        )
        tokens = [list(output.generated_tokens) for output in outputs.values()]  # in order of prompt and fork
        return [tokens[i : i + num_samples] for i in range(0, len(tokens), num_samples)]

    return draw


def _settings(
    prompts: Sequence[Sequence[int]], num_samples: int, num_tokens: int, on_cpu: bool
) -> ContinuousBatchingConfig:
    """On the CPU the sizes cannot be read from free GPU memory: room for every branch, as if nothing were shared."""
    options: dict[str, Any] = {"page_size": _PAGE, "allow_block_sharing": True}
    if on_cpu:
        blocks = sum(math.ceil((len(prompt) + num_tokens) / _PAGE) + 1 for prompt in prompts) * num_samples
        options |= {"num_blocks": blocks, "max_batch_tokens": _BATCH_TOKENS}
    return ContinuousBatchingConfig(**options)
