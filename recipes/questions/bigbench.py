"""Multiple-choice questions of BIG-bench: short tasks whose items have one right option.

The tasks lie in the source distribution of the package ``bigbench`` (358 MB): ``pip download --no-deps --no-binary
:all: bigbench==1.0.0``.
"""

from __future__ import annotations

import json
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TASKS = (
    "analytic_entailment",
    "anachronisms",
    "arithmetic/1_digit_addition",
    "arithmetic/1_digit_multiplication",
    "arithmetic/1_digit_subtraction",
    "arithmetic/2_digit_addition",
    "code_line_description",
    "emoji_movie",
    "entailed_polarity",
    "general_knowledge",
    "hindu_knowledge",
    "implicatures",
    "irony_identification",
    "misconceptions",
    "navigate",
    "odd_one_out",
    "phrase_relatedness",
    "physical_intuition",
    "ruin_names",
    "sentence_ambiguity",
    "similarities_abstraction",
    "sports_understanding",
    "unit_conversion/si_conversion",
    "unit_conversion/unit_identification",
)
"""Written for BIG-bench; tasks made from other data sets, which have licences of their own, are left out."""
PER_TASK = 40
LONGEST_PROMPT, MOST_OPTIONS, LONGEST_OPTIONS = 250, 8, 250
"""Characters; options; characters of all options."""


def questions(archive: Path, seed: int) -> Iterator[dict[str, Any]]:
    """At most :data:`PER_TASK` questions of each task, drawn by the seed."""
    names = {f"bigbench-1.0.0/bigbench/benchmark_tasks/{task}/task.json": task for task in TASKS}
    found: dict[str, dict[str, Any]] = {}
    with tarfile.open(archive) as packed:
        for member in packed:
            file = packed.extractfile(member) if member.name in names else None
            if file is not None:
                found[names[member.name]] = json.load(file)
    for task in TASKS:
        possible = [row for row in _of_task(task, found[task]) if row is not None]
        yield from random.Random(f"{seed} {task}").sample(possible, min(PER_TASK, len(possible)))  # noqa: S311


def _of_task(task: str, content: dict[str, Any]) -> Iterator[dict[str, Any] | None]:
    begin, end = content.get("example_input_prefix") or "", content.get("example_output_prefix") or ""
    for number, example in enumerate(content["examples"]):
        scores = example.get("target_scores", {})
        right = [option for option, score in scores.items() if score == 1]
        prompt = (
            f"{content.get('task_prefix', '').strip()}\n\n{begin.strip()} {example['input'].strip()}\n{end.strip()}"
        )
        fits = len(prompt) <= LONGEST_PROMPT and sum(map(len, scores)) <= LONGEST_OPTIONS
        if fits and len(right) == 1 and 2 <= len(scores) <= MOST_OPTIONS and all(map(str.strip, scores)):
            yield {
                "id": f"{task}/{number}",
                "source": f"bigbench/{task}",
                "prompt": prompt.strip(),
                "answer": right[0],
                "options": list(scores),
                "expected": right[0],
                "canary": content["canary"],
            }
