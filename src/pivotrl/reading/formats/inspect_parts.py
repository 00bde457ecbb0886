"""Contents, model calls and scores of inspect-ai's logs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pivotrl.reading.fields import as_object, each, optional
from pivotrl.records import Loss

_GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
"""What the package itself makes of these: correct, partial, incorrect, no answer."""
_SCORERS = ("scorer", "scorers")
_MEDIA = {"image": "image", "audio": "audio", "video": "document", "document": "document", "data": "document"}


def content_parts(content: Sequence[Any]) -> tuple[list[Any], list[str], list[Loss]]:
    """(texts, thoughts, losses) of a message in parts."""
    texts: list[Any] = []
    thoughts: list[str] = []
    losses: list[Loss] = []
    for part in each("content", content, as_object):
        kind = part.get("type")
        if kind == "text":
            texts.append(part.get("text"))
        elif kind == "reasoning":
            hidden = bool(part.get("redacted"))
            thought = optional(part, "summary" if hidden else "reasoning", str) or optional(part, "summary", str)
            thoughts += [thought] if thought else []
            losses += [Loss(code="reasoning_encrypted")] if hidden else []
        elif isinstance(kind, str) and kind in _MEDIA:
            losses.append(Loss(code=_MEDIA[kind]))
        else:
            losses.append(Loss(code="unknown_item", detail=str(kind)))
    return texts, thoughts, losses


def grade(value: Any) -> float | None:
    """A score as a number, None when it is not one."""
    if isinstance(value, str):
        known = _GRADES.get(value, _GRADES.get(value.lower()) if len(value) > 1 else None)
        if known is not None:
            return known
        try:
            value = float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, bool | int | float) and math.isfinite(value) else None


def reward_of(sample: Mapping[str, Any], scorer: str | None) -> float | None:
    """The score of a sample as a number; None where it failed, was left unscored, or its score is no number.

    Args:
        scorer: name of the score, or ``name.key`` for a member of one that is an object, which may be left out where it
            has only one; None: the first score.

    Raises:
        ValueError: there is no such score.
    """
    scores = optional(dict(sample), "scores", dict) or {}
    if sample.get("error") or sample.get("invalidation") or not scores:
        return None
    name, key = next(iter(scores)) if scorer is None else scorer, None
    if name not in scores and "." in name:
        name, key = name.rsplit(".", 1)
    if name not in scores:
        raise ValueError(f"there is no score {scorer!r}; there are {', '.join(scores)}")
    value = as_object(scores[name]).get("value")
    if isinstance(value, dict):
        value = value.get(key) if key is not None else next(iter(value.values())) if len(value) == 1 else None
    return grade(value)


def model_calls(events: Sequence[Mapping[str, Any]]) -> Iterator[tuple[dict[str, Any], bool]]:
    """(event, whether it belongs to a scorer) of each call of a model that gave an answer.

    Spans mark what belongs to scorers; steps do in older logs.
    """
    grading: set[str] = set()
    steps: list[Any] = []
    for event in events:
        kind = event.get("event")
        if kind == "span_begin":
            if event.get("type") in _SCORERS or str(event.get("parent_id")) in grading:
                grading.add(str(event.get("id")))
        elif kind == "step":
            if event.get("action") == "begin":
                steps.append(event.get("type"))
            elif steps:
                steps.pop()
        elif kind == "model" and not event.get("error"):
            yield dict(event), str(event.get("span_id")) in grading or any(step in _SCORERS for step in steps)
