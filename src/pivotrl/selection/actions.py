"""Which tools an action calls, and how much the sampled actions of a turn differ."""

from __future__ import annotations

import functools
import json
import math
from collections import Counter
from collections.abc import Hashable, Sequence

from pivotrl.records import Action, Completion

MESSAGE = "(message)"


def tools_called(action: Action) -> str:
    """``search``, or ``search + open``; ``(message)`` for an action that calls no tool."""
    return " + ".join(dict.fromkeys(call.name for call in action.tool_calls)) or MESSAGE


def action_entropy(completions: Sequence[Completion]) -> float | None:
    """Entropy of the distribution of actions that these were drawn from, in nats; None for fewer than two samples.

    Actions are equal if their texts without outer blanks, their tools and the values of their arguments are equal.
    Malformed ones are equal if their errors are.
    """
    by_text: dict[str, Hashable] = {}  # equal texts are equal actions; samples of some servers come without a text
    counts: Counter[Hashable] = Counter()
    for completion in completions:
        if completion.fault is None:
            meaning = by_text.get(completion.text) if completion.text else None
            if meaning is None:
                error = completion.parse_error
                meaning = by_text[completion.text] = error if error is not None else meaning_of(completion.action)
            counts[meaning] += 1
    return entropy(list(counts.values())) if counts.total() >= 2 else None


def meaning_of(action: Action) -> Hashable:
    """The same for equal actions: equal texts without outer blanks, equal tools and equal values of arguments."""
    calls = tuple((call.name, _sorted(call.arguments)) for call in action.tool_calls)
    return (action.content or "").strip(), calls


@functools.lru_cache(1 << 16)
def _sorted(arguments: str) -> str:
    try:
        return _ENCODER.encode(json.loads(arguments))
    except (ValueError, RecursionError):
        return arguments


_ENCODER = json.JSONEncoder(sort_keys=True)


def entropy(counts: Sequence[int]) -> float:
    """Entropy, nats, from how often each kind was drawn among n samples: the sum of (k / n) (H_(n-1) - H_(k-1)) over
    the kinds, where H is the harmonic number (Zhang 2012; psi(n) - psi(k) of Grassberger 1988).

    The plain estimate, -(k / n) ln(k / n), is too small by about (kinds - 1) / 2n. The bias of this one falls
    exponentially: its mean is exactly the sum of p (1 - p)^j / j for j = 1 to n - 1, the series of -p ln p as far as n
    samples can see it. :mod:`pivotrl.evaluation.distance` estimates -ln P in the same way.
    """
    total = sum(counts)
    harmonic = _harmonic(total)
    return math.fsum(count / total * (harmonic[total - 1] - harmonic[count - 1]) for count in counts)


@functools.lru_cache(256)
def _harmonic(last: int) -> list[float]:
    """H_0 to H_last."""
    found = [0.0]
    for j in range(1, last + 1):
        found.append(found[-1] + 1.0 / j)
    return found
