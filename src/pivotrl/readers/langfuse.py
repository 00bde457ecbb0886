"""Traces as Langfuse exports them: ``{trace, observations}``, traces with their observations, or observations alone.

Observations of type ``GENERATION`` are model calls. Those of one trace of which each goes on from the one before are
one trajectory; scores of the trace tell the outcome.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.fields import as_object, each, identifier, optional
from pivotrl.reading.formats.called_trajectories import called_trajectories
from pivotrl.reading.formats.model_calls import ModelCall
from pivotrl.reading.formats.request_calls import model_call, request_of, response_of
from pivotrl.reading.sources import entries, refusal
from pivotrl.records import Refusal, Trajectory
from pivotrl.records.strict_json import parse_json


def recognises(head: Sequence[Any]) -> bool:
    """Observations, alone or in a trace."""
    return any(_is_generation(row) for value in head for row in _observations(value))


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """The conversations that the calls belong to.

    Raises:
        InputError: the file cannot be read.
    """
    groups: dict[str, list[tuple[str, ModelCall]]] = {}
    facts: dict[str, dict[str, Any]] = {}
    for entry in entries(path):
        try:
            value = as_object(entry.load())
            about = value.get("trace") if isinstance(value.get("trace"), dict) else value
            for row in _observations(value):
                if _is_generation(row):
                    trace = identifier(row, "traceId", "trace_id") or identifier(as_object(about), "id") or path.stem
                    facts.setdefault(trace, _facts(as_object(about), value))
                    groups.setdefault(trace, []).append((identifier(row, "startTime", "start_time") or "", _call(row)))
        except ValueError as error:
            yield refusal(entry.place, error)
    for trace, calls in groups.items():
        in_order = [call for _, call in sorted(calls, key=lambda item: item[0])]
        yield from called_trajectories(in_order, trace, facts[trace], is_named=True)


def _call(row: dict[str, Any]) -> ModelCall:
    asked = row.get("input")
    if isinstance(asked, str) and asked.lstrip()[:1] in ("[", "{"):
        asked = parse_json(asked)
    request, response = request_of(asked), response_of(row.get("output"))
    if request is None or response is None:
        raise ValueError(f"the generation {identifier(row, 'id')} lacks its input or its output")
    if "tools" not in request and isinstance(row.get("modelParameters"), dict):
        request = {**request, "tools": row["modelParameters"].get("tools")}
    return model_call(request, response, {})


def _facts(about: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """What the trace says of itself, and its scores by their names."""
    scores = optional(about, "scores", list) or optional(value, "scores", list) or []
    named = [score for score in each("scores", scores, lambda score: score) if isinstance(score, dict)]
    graded = {str(score.get("name")): score.get("value", score.get("stringValue")) for score in named}
    metadata = about.get("metadata")
    return {"scores": graded, "metadata": metadata if isinstance(metadata, dict) else {}}


def _observations(value: Any) -> Iterator[dict[str, Any]]:
    rows = value.get("observations") if isinstance(value, dict) else None
    found = rows if isinstance(rows, list) else [value]
    return (row for row in found if isinstance(row, dict))


def _is_generation(row: dict[str, Any]) -> bool:
    return row.get("type") == "GENERATION" and "input" in row and "output" in row
