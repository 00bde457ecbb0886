"""Requests with an instruction that a program can check, in the manner of IFEval: every topic with every instruction.

The requests are ours; the checkers are those of the package ``if-verifiable``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pivotrl.evaluation import text_turns
from pivotrl.records import Action
from pivotrl.verifiers.instructions import verify

REQUESTS = (
    "Describe a rainy day in two sentences.",
    "Tell me in two sentences why people keep dogs.",
    "Write a short message that thanks a neighbour for watering the plants.",
    "Explain in two sentences what a library is for.",
    "Describe the taste of an apple in two sentences.",
    "Write a short note that invites a friend to a picnic.",
    "Explain in two sentences how to make tea.",
    "Describe a busy train station in two sentences.",
    "Give a short reason to learn a second language.",
    "Write a short reply to a guest who asks for a quiet room.",
    "Describe what a doctor does in two sentences.",
    "Explain in two sentences why sleep is important.",
    "Write a short description of a red bicycle for sale.",
    "Describe a mountain in winter in two sentences.",
    "Tell me in two sentences what bees do.",
    "Write a short apology for being late to a meeting.",
    "Explain in two sentences what the internet is.",
    "Describe your favourite season in two sentences.",
    "Write a short review of a small bakery.",
    "Explain in two sentences why we recycle paper.",
    "Describe a walk on the beach in two sentences.",
    "Tell me in two sentences how a bicycle works.",
    "Write a short birthday wish for a colleague.",
    "Explain in two sentences what a budget is.",
    "Describe an old bridge in two sentences.",
    "Write a short message that asks for a day off.",
    "Tell me in two sentences what the moon is.",
    "Explain in two sentences how plants grow.",
    "Describe a school kitchen in two sentences.",
    "Write a short welcome for new members of a chess club.",
    "Tell me in two sentences why the sea is salty.",
    "Describe a good breakfast in two sentences.",
)
INSTRUCTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "no_comma": ("Do not use any commas.", {"id": "punctuation:no_comma"}),
    "lowercase": (
        "Write everything in lowercase letters; capital letters are not allowed.",
        {"id": "change_case:english_lowercase"},
    ),
    "capitals": ("Write everything in capital letters.", {"id": "change_case:english_capital"}),
    "few_words": (
        "Use fewer than 25 words.",
        {"id": "length_constraints:number_words", "num_words": 25, "relation": "less than"},
    ),
    "bullets": (
        "Answer with exactly 3 bullet points, each on a line that begins with an asterisk: * This is a point.",
        {"id": "detectable_format:number_bullet_lists", "num_bullets": 3},
    ),
    "title": (
        "Begin with a title in double angular brackets, such as <<A title>>.",
        {"id": "detectable_format:title"},
    ),
    "quotation": ("Put your whole answer in double quotation marks.", {"id": "startend:quotation"}),
    "ending": (
        "End with exactly this sentence: That is all I know.",
        {"id": "startend:end_checker", "end_phrase": "That is all I know."},
    ),
    "keywords": (
        "Use the words morning and friend.",
        {"id": "keywords:existence", "keywords": ["morning", "friend"]},
    ),
    "forbidden": ("Do not use the word and.", {"id": "keywords:forbidden_words", "forbidden_words": ["and"]}),
    "json": ("Give your whole answer as JSON.", {"id": "detectable_format:json_format"}),
}
MAX_TOKENS = 80


def questions() -> Iterator[dict[str, Any]]:
    """Every request with every instruction, then every request alone. What the model says there tells how often an
    instruction is followed by chance."""
    for name, (words, instruction) in INSTRUCTIONS.items():
        for number, request in enumerate(REQUESTS):
            yield _row(name, number, f"{request} {words}", instruction)
    for number, request in enumerate(REQUESTS):
        yield _row("alone", number, request, INSTRUCTIONS["no_comma"][1])


def _row(name: str, number: int, prompt: str, instruction: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"following/{name}/{number}",
        "source": f"instructions/{name}",
        "prompt": prompt,
        "instructions": [instruction],
        "max_tokens": MAX_TOKENS,
    }


def follows_by_chance(name: str, text: str) -> bool:
    """Whether an answer to a request alone follows an instruction that was not given."""
    turn = text_turns([_row(name, 0, "", INSTRUCTIONS[name][1])])[0]
    return verify(turn, Action(content=text)).outcome == "pass"
