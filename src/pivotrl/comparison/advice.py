"""What a comparison recommends, in words."""

from __future__ import annotations

from dataclasses import dataclass

from pivotrl.comparison.choosing import Contest, equal_score, harm_at, is_bounded, score_within
from pivotrl.comparison.points import BASE
from pivotrl.comparison.table import Table


@dataclass(frozen=True)
class Advice:
    """A recommendation between two arms and what it rests on."""

    choice: str
    """``first``, ``second``, ``trade-off``, ``neither`` or ``undecided``."""
    sentence: str
    score: Contest | None
    """The score of each at its best."""
    harm: Contest | None
    """The forgetting of each at equal score; None if nothing outside the task was measured."""


def advise(table: Table, first: str, second: str, titles: dict[str, str], score: str, harm: str | None) -> Advice:
    """Which of two arms this data speaks for.

    An arm is chosen if its score is clearly higher, or if the scores do not differ clearly and it forgets clearly less
    at equal score. Higher score and more forgetting at equal score is a trade-off, which the reader decides. Where the
    weaker arm shows no gain, equal score is no score worth having, and forgetting there decides nothing.
    """
    one, other = titles[first], titles[second]
    at_best = score_within(table, first, second, score, harm)
    if at_best is None:
        return Advice("undecided", "No seed has all checkpoints of both methods yet.", None, None)
    if {at_best.first.config.arm, at_best.second.config.arm} == {BASE}:
        return Advice("neither", "Neither method improves the policy on the validation tasks.", at_best, None)
    level = equal_score(table, first, second, score)
    at_score = harm_at(table, first, second, score, harm, level) if harm else None
    better, gentler = _sign(at_best), -_sign(at_score)
    name = {1: one, -1: other}
    chosen = {1: "first", -1: "second"}
    weaker = at_best.second if better > 0 else at_best.first
    if better and weaker.score.low <= 0:
        sentence = f"{_imperative(name[better])}: it scores higher, and {name[-better]} shows no gain."
        return Advice(chosen[better], sentence, at_best, at_score)
    if better and gentler == -better:
        sentence = f"A trade-off: {name[better]} scores higher, and {name[gentler]} forgets less at equal score."
        return Advice("trade-off", sentence, at_best, at_score)
    if better:
        less = " It also forgets less at equal score." if gentler else ""
        return Advice(chosen[better], f"{_imperative(name[better])}: it scores higher.{less}", at_best, at_score)
    if gentler:
        sentence = (
            f"{_imperative(name[gentler])}: the scores do not differ clearly, and it forgets less at equal score."
        )
        return Advice(chosen[gentler], sentence, at_best, at_score)
    half = (at_best.difference.high - at_best.difference.low) / 2
    smallest = f"{100 * half:.1f} points" if is_bounded(score) else f"{half:.3f}"
    sentence = f"No difference that this data can show; it could show one of about {smallest}."
    return Advice("undecided", sentence, at_best, at_score)


def _imperative(title: str) -> str:
    return "Imitate" if title.startswith("imitation") else f"Use {title}"


def _sign(found: Contest | None) -> int:
    """1 if the first arm is clearly above the second, -1 if clearly below, else 0."""
    if found is None:
        return 0
    return (found.difference.low > 0) - (found.difference.high < 0)
