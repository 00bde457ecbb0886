"""Contents and scores of inspect-ai's logs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pivotrl.reading.fields import as_object, each, optional
from pivotrl.records import Loss

_GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
"""What the package itself makes of these: correct, partial, incorrect, no answer."""
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
