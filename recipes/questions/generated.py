"""Tasks that the package ``reasoning-gym`` generates, each in its easiest form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import reasoning_gym

EASY: dict[str, dict[str, Any]] = {
    "calendar_arithmetic": {},
    "chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    "decimal_arithmetic": {"min_terms": 2, "max_terms": 2, "min_num_decimal_places": 1, "max_num_decimal_places": 1},
    "family_relationships": {},
    "gcd": {"min_value": 2, "max_value": 20},
    "lcm": {"min_value": 2, "max_value": 9},
    "leg_counting": {"min_animals": 1, "max_animals": 2, "min_instances": 1, "max_instances": 3},
    "letter_counting": {"min_words": 2, "max_words": 3},
    "needle_haystack": {"min_num_statements": 3, "max_num_statements": 4},
    "number_sequence": {},
    "products": {"min_digits": 1, "max_digits": 1},
    "simple_equations": {"min_terms": 2, "max_terms": 2, "min_value": 1, "max_value": 9},
    "spell_backward": {"min_word_len": 3, "max_word_len": 3},
    "syllogism": {},
    "word_sequence_reversal": {"min_words": 2, "max_words": 2},
    "word_sorting": {"min_words": 2, "max_words": 2, "min_word_length": 3, "max_word_length": 5},
}
"""Data set -> its options."""
PER_DATASET = 30
MAX_TOKENS = 16


def questions(seed: int) -> Iterator[dict[str, Any]]:
    """:data:`PER_DATASET` different questions of each data set."""
    for name, options in EASY.items():
        dataset = reasoning_gym.create_dataset(name, seed=seed, size=3 * PER_DATASET, **options)
        seen = Counter[str]()
        for index in range(3 * PER_DATASET):
            entry = dataset[index]
            seen[entry["question"]] += 1
            if seen[entry["question"]] > 1 or len(seen) > PER_DATASET:
                continue
            yield {
                "id": f"reasoning_gym/{name}/{index}",
                "source": f"reasoning_gym/{name}",
                "prompt": f"{entry['question'].strip()}\nGive only the answer.",
                "reasoning_gym": {"dataset": name, "seed": seed, "index": index, "options": options},
                "max_tokens": MAX_TOKENS,
                "expected": str(entry["answer"]),
            }
