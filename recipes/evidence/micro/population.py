"""The text that the micro model is made from: a population of players of Errands, and unrelated questions.

A player has a skill (the share of its moves that are drawn at random), a style of words, and habits: some never ask but
guess, some pick up whatever lies about.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from typing import NamedTuple

import unrelated

from pivotrl.environments.errands import begin, task_name
from pivotrl.environments.errands.planner import best_moves
from pivotrl.environments.errands.words import WORDINGS, Move
from pivotrl.environments.errands.world import UNKNOWN, View, parse_view
from pivotrl.readers.errands import far_style, lying_about

LONGEST = 14
"""Longer questions than the battery asks: from long texts the model learns to copy much sooner."""
SHARE_OF_PLAIN = 0.3
"""Of the unrelated questions."""


class Text(NamedTuple):
    prompt: str
    answer: str
    plain: bool = False
    """Without the marks of a chat, as `Policy.score_text` reads texts."""


@dataclasses.dataclass(frozen=True)
class Player:
    carelessness: float
    """Share of moves drawn at random."""
    style: str
    """canonical, synonyms, polite, marked or far"""
    wording: int
    """Which of the wordings it uses, in the style `synonyms`."""
    asks: bool
    picks_up: bool
    is_lost: bool
    """Of the ways out it takes the first on the map, not the one that leads where it should go."""


def draw_player(generator: random.Random) -> Player:
    return Player(
        carelessness=generator.choice((0.1, 0.2, 0.4, 0.6, 0.8)),
        style=generator.choices(("canonical", "synonyms", "polite", "marked", "far"), (52, 30, 12, 5, 1))[0],
        wording=generator.randrange(1, 5),
        asks=generator.random() < 0.3,
        picks_up=generator.random() < 0.5,
        is_lost=generator.random() < 0.55,
    )


def decide(player: Player, view: View, generator: random.Random) -> Move:
    if generator.random() < player.carelessness:
        return _careless(view, generator)
    useless = lying_about(view)
    if player.picks_up and useless:
        return Move("take", useless[0])
    move = generator.choice(best_moves(view))
    if move.verb == "ask" and not player.asks:
        return Move("go", generator.choice(_neighbours(view)))
    if move.verb == "go" and player.is_lost:
        return Move("go", _neighbours(view)[0])
    return move


def _neighbours(view: View) -> list[str]:
    return [b if a == view.room else a for a, b in view.edges if view.room in (a, b)]


def _careless(view: View, generator: random.Random) -> Move:
    moves = [Move("go", room) for room in _neighbours(view) for _ in range(2)]
    moves += [Move("take", thing) for thing in view.here]
    moves += [Move("put", thing) for thing in view.held]
    moves += [Move("ask", goal.thing) for goal in view.goals if goal.place == UNKNOWN or generator.random() < 0.3]
    moves += [Move("look"), Move("go", generator.choice(view.edges)[0])]
    return generator.choice(moves)


def say(player: Player, view: View, move: Move, generator: random.Random) -> str:
    wordings = WORDINGS[move.verb]
    if player.style == "synonyms":
        return wordings[player.wording % len(wordings)].format(move.what)
    if player.style == "polite":
        wording = generator.choice(wordings)
        return f"please {wording.format('the ' + move.what)}" if move.what else f"please {wording}"
    if player.style == "marked":
        return f"do: {move.text}"
    if player.style == "far" and move.verb != "look":
        return far_style(view, move)
    return move.text


def texts(seed: int) -> Iterator[dict[str, Text]]:
    """A turn of a game (`errands`), the same turn by a best player (`best`), a question to repeat (`copying`), and a
    question of any kind (`question`), without end."""
    generator = random.Random(f"population/{seed}")  # noqa: S311
    for turn in _played(seed, generator):
        best = Text(turn.prompt, best_moves(parse_view(turn.prompt))[0].text)
        yield {"errands": turn, "best": best, "copying": _asked(generator, "copying"), "question": _asked(generator)}


def _asked(generator: random.Random, kind: str | None = None) -> Text:
    question = unrelated.draw(generator, kind, LONGEST)
    plain = generator.random() < SHARE_OF_PLAIN
    return Text(question.text + "\n" * plain, question.answer, plain)


def _played(seed: int, generator: random.Random) -> Iterator[Text]:
    """Turns of many games, mixed, so that neighbours are not of one game."""
    number, pool = seed * 1_000_000, list[Text]()
    while True:
        while len(pool) < 2000:
            limit = generator.choice(("tight", "loose"))
            world, player = begin(task_name("population", number, limit, (1, 2))), draw_player(generator)
            number += 1
            while not world.is_done and world.left > 0:
                view = world.view()
                move = decide(player, view, generator)
                pool.append(Text(view.text, say(player, view, move, generator)))
                world.do(move)
        generator.shuffle(pool)
        for _ in range(1000):
            yield pool.pop()
