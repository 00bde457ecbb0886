"""Tasks that the package ``reasoning-gym`` generates, each in its easiest form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import reasoning_gym

EASY: dict[str, dict[str, Any]] = {
    "chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    "family_relationships": {},
    "gcd": {"min_value": 2, "max_value": 20},
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
PER_DATASET, NUM_EXAMPLES = 30, 3
MAX_TOKENS = 16


def questions(seed: int) -> Iterator[dict[str, Any]]:
    """:data:`PER_DATASET` different questions of each data set, each after the same three solved ones."""
    for name, options in EASY.items():
        dataset = reasoning_gym.create_dataset(name, seed=seed, size=4 * PER_DATASET, **options)
        different = {dataset[index]["question"]: index for index in reversed(range(4 * PER_DATASET))}
        indices = sorted(different.values())[: PER_DATASET + NUM_EXAMPLES]
        shown, asked = indices[:NUM_EXAMPLES], indices[NUM_EXAMPLES:]
        examples = [{"prompt": _prompt(dataset[index]), "answer": str(dataset[index]["answer"])} for index in shown]
        for index in asked:
            yield {
                "id": f"generated/{name}/{index}",
                "source": f"reasoning_gym/{name}",
                "examples": examples,
                "prompt": _prompt(dataset[index]),
                "reasoning_gym": {"dataset": name, "seed": seed, "index": index, "options": options},
                "max_tokens": MAX_TOKENS,
                "expected": str(dataset[index]["answer"]),
            }


def _prompt(entry: dict[str, Any]) -> str:
    return f"{entry['question'].strip()}\nGive only the answer."
