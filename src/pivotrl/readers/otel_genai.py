"""Traces of OpenTelemetry whose spans are model calls: from Phoenix, OpenLLMetry, MLflow, and everything else that
follows the conventions.

A line is a span, an export with ``resourceSpans``, or a trace of MLflow. Calls of one conversation
(``gen_ai.conversation.id``, else the trace) of which each goes on from the one before are one trajectory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.fields import as_object, identifier, optional
from pivotrl.reading.formats.called_trajectories import called_trajectories
from pivotrl.reading.formats.genai_attributes import is_call, request_and_response
from pivotrl.reading.formats.model_calls import ModelCall
from pivotrl.reading.formats.request_calls import model_call
from pivotrl.reading.sources import entries, refusal
from pivotrl.records import Refusal, Trajectory
from pivotrl.records.strict_json import parse_json

_CONVERSATIONS = ("gen_ai.conversation.id", "session.id", "traceloop.association.properties.session_id")
_BEGINS = ("start_time", "startTimeUnixNano", "start_time_unix_nano", "startTime")


def recognises(head: Sequence[Any]) -> bool:
    """Spans, some of which are model calls with their messages."""
    return any(is_call(_attributes(span)) for value in head for span in _spans(value))


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """The conversations that the calls belong to. Spans of other kinds are skipped.

    Raises:
        InputError: the file cannot be read.
    """
    groups: dict[str | None, list[tuple[str, ModelCall]]] = {}
    for entry in entries(path):
        try:
            for span in _spans(as_object(entry.load())):
                attributes = _attributes(span)
                if not is_call(attributes):
                    continue
                request, response = request_and_response(attributes)
                group = identifier(attributes, *_CONVERSATIONS) or identifier(span, "trace_id", "traceId")
                call = model_call(request, response, dict(attributes))
                groups.setdefault(group, []).append((_begin(span), call))
        except ValueError as error:
            yield refusal(entry.place, error)
    for group, calls in groups.items():
        in_order = [call for _, call in sorted(calls, key=lambda item: item[0])]
        yield from called_trajectories(in_order, group or path.stem, is_named=group is not None)


def _begin(span: dict[str, Any]) -> str:
    """For comparison within a trace: times are written alike there."""
    return (identifier(span, *_BEGINS) or "").zfill(24)


def _spans(value: Any) -> Iterator[dict[str, Any]]:
    """The span that a value is, or those of an export."""
    if not isinstance(value, dict):
        return
    if "attributes" in value:
        yield value
    if isinstance(value.get("data"), dict) and "info" in value:
        yield from _spans(value["data"])
    for key in ("resourceSpans", "resource_spans", "scopeSpans", "scope_spans", "spans"):
        inner = value.get(key)
        for item in inner if isinstance(inner, list) else ():
            yield from _spans(item)


def _attributes(span: dict[str, Any]) -> dict[str, Any]:
    """By name; OTLP writes them as a list of ``{key, value: {stringValue}}``, some tools as JSON text."""
    value = span.get("attributes")
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = parse_json(value)
        except ValueError:
            return {}
    if isinstance(value, list):
        rows = [row for row in value if isinstance(row, dict) and isinstance(row.get("key"), str)]
        return {row["key"]: _value(row.get("value")) for row in rows}
    return _flattened(value) if isinstance(value, dict) else {}


def _flattened(value: dict[str, Any], prefix: str = "", depth: int = 8) -> dict[str, Any]:
    """Objects inside objects by their dotted names; lists of messages stay as they are."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, dict) and depth:
            found |= _flattened(inner, f"{prefix}{key}.", depth - 1)
        else:
            found[f"{prefix}{key}"] = inner
    return found


def _value(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    array = value.get("arrayValue")
    if isinstance(array, dict):
        return [_value(item) for item in optional(array, "values", list) or ()]
    return next((value[key] for key in ("stringValue", "intValue", "doubleValue", "boolValue") if key in value), None)
