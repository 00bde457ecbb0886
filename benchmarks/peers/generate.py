"""``model.generate``, one prompt at a time: prefill once, copy the cache to every branch, decode them together.

``expanded=True`` leaves the copying to ``generate``, which then prefills the prompt once per branch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig

from models import twin

Draw = Callable[[Sequence[Sequence[int]], int, int], list[list[list[int]]]]
"""(prompts, samples of each, tokens of each sample) -> token ids by prompt and sample."""


def plain_sampling(num_tokens: int, **options: Any) -> GenerationConfig:
    """Temperature 1 over the whole vocabulary, no token ends a sample."""
    return GenerationConfig(
        max_new_tokens=num_tokens,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        pad_token_id=0,
        **options,
    )


def prepare(model: Any, tokenizer: Any, expanded: bool = False) -> Draw:
    model = twin(model)
    model.generation_config = GenerationConfig()  # the model's own stop tokens and filters stay out

    @torch.no_grad()
    def draw(prompts: Sequence[Sequence[int]], num_samples: int, num_tokens: int) -> list[list[list[int]]]:
        drawn = []
        for prompt in prompts:
            input_ids = torch.tensor([list(prompt)], device=model.device)
            options: dict[str, Any] = {}
            if expanded:
                settings = plain_sampling(num_tokens, num_return_sequences=num_samples)
            else:
                settings = plain_sampling(num_tokens)
                if len(prompt) > 1:
                    cache = DynamicCache(config=model.config)
                    model(input_ids=input_ids[:, :-1], past_key_values=cache, use_cache=True, logits_to_keep=1)
                    cache.batch_repeat_interleave(num_samples)
                    options["past_key_values"] = cache
                input_ids = input_ids.expand(num_samples, -1)
            mask = torch.ones_like(input_ids)
            output = model.generate(input_ids, attention_mask=mask, generation_config=settings, **options)
            drawn.append(output[:, len(prompt) :].tolist())
        return drawn

    return draw


def prepare_expanded(model: Any, tokenizer: Any) -> Draw:
    return prepare(model, tokenizer, expanded=True)
