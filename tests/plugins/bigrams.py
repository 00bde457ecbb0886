"""A generator that acts: it continues a prompt with token pairs that the prompt has already shown.

A generator knows token ids alone; ``Actor`` puts a renderer before it and makes it a sampler. A client of a server
would be written in the same way.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from transformers import AutoTokenizer

from pivotrl.acting import Actor
from pivotrl.protocols.tokens import Drawn, Generated
from pivotrl.records import Sampling
from pivotrl.rendering import Renderer
from pivotrl.seeding import uniforms


class Bigrams:
    """Draws each token in proportion to how often it follows the token before it in the prompt."""

    def __init__(self, max_context: int) -> None:
        self.identity, self.max_context = {"generator": "bigrams"}, max_context

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[str],
        num_samples: int,
        sampling: Sampling,
        stop_ids: frozenset[int],
        first: int = 0,
    ) -> Iterator[Generated]:
        for prompt, key in zip(prompts, keys, strict=True):
            follows: dict[int, Counter[int]] = defaultdict(Counter)
            for token, after in itertools.pairwise(prompt):
                follows[token][after] += 1
            drawn = []
            for number in range(first, first + num_samples):
                ids, logprobs = [prompt[-1]], []
                for uniform in uniforms(sampling.seed, key, number, sampling.max_tokens):
                    counts = follows[ids[-1]] or Counter(prompt)
                    tokens = list(counts.elements())
                    ids.append(tokens[int(uniform * len(tokens))])
                    logprobs.append(math.log(counts[ids[-1]] / len(tokens)))
                    if ids[-1] in stop_ids:
                        break
                drawn.append(Drawn(ids[1:], logprobs, ids[-1] in stop_ids))
            yield Generated(drawn, len(prompt))


class Sampler(Actor):
    """
    Args:
        tokenizer: a folder, or a name on the Hugging Face Hub.
    """

    def __init__(self, *, tokenizer: str, max_context: int = 4096) -> None:
        super().__init__(Renderer(AutoTokenizer.from_pretrained(tokenizer)), Bigrams(max_context))
