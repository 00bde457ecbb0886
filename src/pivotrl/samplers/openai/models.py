"""What a server says of the models that it serves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.protocols.endpoint import Endpoint, NoAnswer

_VERSIONS = ("version", "revision", "digest", "sha", "hash")
"""Fields in which a server may say which weights it serves. ``created`` is none: it is the time of the answer."""
_SHOWN = 5


@dataclass(frozen=True)
class ServedModel:
    """``facts``: what identifies it; ``max_context``: tokens, None if the server does not say."""

    facts: dict[str, Any]
    max_context: int | None = None


NOT_REPORTED = ServedModel({"models": "not reported"})


def served_model(endpoint: Endpoint, model: str) -> ServedModel:
    """
    Raises:
        InputError: the server serves other models, fails to list them, refuses the key, or cannot be reached.
    """
    text = endpoint.get("models")
    if isinstance(text, NoAnswer) and text.reason == "unavailable":
        raise InputError(
            f"the server at {endpoint.base_url} fails to list its models ({text}); try again, or give "
            "lists_models=False if it never does"
        )
    rows = model_rows(text)
    if rows is None:
        return NOT_REPORTED
    row = rows.get(model)
    if row is None:
        listed = ", ".join(list(rows)[:_SHOWN]) or "none"
        raise InputError(f"the server at {endpoint.base_url} does not serve {model!r}; it serves {listed}")
    facts = {"id": model, **{name: row[name] for name in _VERSIONS if isinstance(row.get(name), str)}}
    length = next((row[name] for name in ("max_model_len", "context_length") if type(row.get(name)) is int), None)
    return ServedModel(facts, length)


def model_rows(text: str | NoAnswer) -> dict[str, Mapping[str, Any]] | None:
    """What is known of each model, by its name; None if the server does not list them."""
    if isinstance(text, NoAnswer):
        return None
    try:
        rows = json.loads(text)["data"]
        return {row["id"]: row for row in rows if isinstance(row["id"], str)}
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
