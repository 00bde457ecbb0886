"""Logged model calls, a request with its response each: of proxies, LiteLLM, tracing tools and wrappers of one's own.

A row holds both, under ``request`` and ``response``, ``request_body`` and ``response_body``, ``input`` and
``output``, or ``messages`` and ``response``, in the shape of OpenAI's, Anthropic's or Google's API. Calls of which each
goes on from the one before are one trajectory; ``previous_response_id`` is followed within a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.reading.fields import as_object, identifier
from pivotrl.reading.formats.called_trajectories import called_trajectories
from pivotrl.reading.formats.model_calls import ModelCall
from pivotrl.reading.formats.request_calls import Earlier, model_call, request_of, response_of, with_earlier
from pivotrl.reading.sources import entries, refusal
from pivotrl.records import Refusal, Trajectory

_PAIRS = (
    ("request", "response"),
    ("request_body", "response_body"),
    ("requestBody", "responseBody"),
    ("req", "res"),
    ("inputs", "outputs"),
    ("inputs", "output"),
    ("input", "output"),
    ("kwargs", "response"),
    ("kwargs", "completion"),
    ("prompt", "response"),
    ("messages", "response"),
    ("messages", "output"),
    ("messages", "choices"),
)
_GROUPS = ("trace_id", "traceId", "session_id", "sessionId", "conversation_id", "thread_id", "episode_id", "run_id")
_NOT_HERE = {
    "responses_create_params",
    "fncall_messages",
    "schema_version",
    "observations",
    "events",
    "simulations",
    "run_type",
}


def recognises(head: Sequence[Any]) -> bool:
    """Rows of a request with its response, or the output of a batch, which lacks the requests."""
    return 2 * sum(_is_call(_unwrapped(value)) for value in head) > len(head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """The conversations that the calls belong to; calls of one trace belong together (``trace_id``, ``session_id``).

    Where the context was condensed, or another agent asks, a new trajectory begins. Answers that no later request goes
    on from are a loss of code ``branch``.

    Raises:
        InputError: the file cannot be read.
    """
    groups: dict[str | None, list[ModelCall]] = {}
    earlier: Earlier = {}
    for entry in entries(path):
        try:
            row = _unwrapped(as_object(entry.load()))
            groups.setdefault(identifier(row, *_GROUPS), []).append(_call(row, earlier))
        except ValueError as error:
            yield refusal(entry.place, error)
    for group, calls in groups.items():
        yield from called_trajectories(calls, group or path.stem, is_named=group is not None)


def _call(row: dict[str, Any], earlier: Earlier) -> ModelCall:
    if _is_batch_output(row):
        raise ValueError(
            "a batch's output holds only the answers; write each with its request from the batch's input file, which "
            'has the same custom_id, as {"request": ..., "response": ...}'
        )
    for asked, answer in _PAIRS:
        if row.get(asked) is None or (answer not in row and answer != "choices"):
            continue
        request = request_of(row if asked == "messages" else row[asked])
        if request is None:
            continue
        response = response_of(row if answer == "choices" else row.get(answer))
        if response is None:
            raise ValueError(f"there is no {answer} to the {asked}, such as after an error")
        return model_call(with_earlier(request, response, earlier), response, row)
    raise ValueError("there is no request with its response")


def _unwrapped(row: Any) -> Any:
    """The call in an event that holds it as its data, with what the event says besides."""
    if not isinstance(row, dict):
        return row
    inner: dict[str, Any] = next(
        (row[key] for key in ("data", "payload", "event", "attributes") if isinstance(row.get(key), dict)), {}
    )
    is_call = any(asked in inner and answer in inner for asked, answer in _PAIRS)
    return {**{k: v for k, v in row.items() if not isinstance(v, dict)}, **inner} if is_call else row


def _is_batch_output(row: Any) -> bool:
    return isinstance(row, dict) and "custom_id" in row and "response" in row and "request" not in row


def _is_call(row: Any) -> bool:
    if (
        not isinstance(row, dict)
        or row.get("type") == "GENERATION"
        or _NOT_HERE & row.keys()
        or {"kwargs", "timestamp", "cost"} <= row.keys()
    ):
        return False
    if _is_batch_output(row):
        return True
    for asked, answer in _PAIRS:
        if asked not in row or answer not in row or (row[asked] == {} and not row[answer]):
            continue
        try:
            request = request_of(row if asked == "messages" else row[asked])
        except ValueError:
            return False
        if request is not None and (asked != "input" or isinstance(row["input"], dict) or _is_llm_span(row)):
            given = row if answer == "choices" else row[answer]
            return given is None or isinstance(given, dict | str) or _is_answer_list(given)
    return False


def _is_llm_span(row: dict[str, Any]) -> bool:
    """A span of Braintrust, whose input is the list of messages alone."""
    about = row.get("span_attributes")
    return isinstance(about, dict) and about.get("type") == "llm"


def _is_answer_list(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict)
