"""Runs as LangSmith exports them: one a line, an array, ``{runs: [...]}``, with their children inside or beside them.

Runs of type ``llm`` are model calls, logged by LangChain or by LangSmith's wrappers of other clients. Those of one
thread (``thread_id`` in the metadata), else of one trace, of which each goes on from the one before are one trajectory.
A trace without such runs is read from the messages that its root puts out, as LangGraph does. Feedback on the root
tells the outcome, and the example of a data set (``reference_example_id``) the task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import chat_message, declared_tools
from pivotrl.reading.conversation import conversation
from pivotrl.reading.fields import as_object, each, identifier
from pivotrl.reading.formats.called_trajectories import called_trajectories
from pivotrl.reading.formats.langchain_messages import as_chat, fault_of, message_list, plain_message
from pivotrl.reading.formats.langsmith_runs import decoded, run_call, tools_of_run
from pivotrl.reading.formats.model_calls import ModelCall
from pivotrl.reading.sources import entries, refusal
from pivotrl.records import Refusal, Trajectory

_ENVELOPES = ("runs", "data", "items")
_TRACED = {"trace_id", "dotted_order", "session_id", "parent_run_id", "start_time", "child_runs"}
_THREADS = ("thread_id", "session_id", "conversation_id")
_MAX_DEPTH = 3


@dataclass
class _Trace:
    """The model calls of one trace or thread, by their time, and the runs that nothing calls."""

    calls: list[tuple[str, ModelCall]] = field(default_factory=list)
    roots: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


def recognises(head: Sequence[Any]) -> bool:
    """Runs, alone or in an envelope."""
    return 2 * sum(any(map(_is_run, _listed(value))) for value in head) > len(head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """The conversations that the calls belong to. Calls that failed are refused, other runs are left out.

    Raises:
        InputError: the file cannot be read.
    """
    traces: dict[str, _Trace] = {}
    seen: set[str] = set()
    for entry in entries(path):
        try:
            value = as_object(entry.load())
        except ValueError as error:
            yield refusal(entry.place, error)
            continue
        for run in _all_runs(value):
            try:
                _take(run, traces, seen, path.stem)
            except ValueError as error:
                yield refusal(f"{entry.place}, run {run.get('id')!s:.60}", error)
    for name, trace in traces.items():
        facts = _facts([run for _, run in trace.roots])
        if trace.calls:
            in_order = [call for _, call in sorted(trace.calls, key=lambda item: item[0])]
            yield from called_trajectories(in_order, name, facts, is_named=True)
        else:
            yield from _of_roots(trace, name, facts)


def _take(run: dict[str, Any], traces: dict[str, _Trace], seen: set[str], default: str) -> None:
    """Put a run that was not seen before where it belongs."""
    name = identifier(run, "id", "run_id")
    if name in seen:
        return
    if name is not None:
        seen.add(name)
    trace = traces.setdefault(_group(run) or default, _Trace())
    when = identifier(run, "start_time", "dotted_order") or ""
    if not run.get("parent_run_id"):
        trace.roots.append((when, run))
    if run.get("run_type") == "llm":
        trace.calls.append((when, run_call(run)))


def _of_roots(trace: _Trace, name: str, facts: dict[str, Any]) -> Iterator[Trajectory | Refusal]:
    """The messages that the last root put out."""
    for _, run in sorted(trace.roots, key=lambda item: item[0], reverse=True):
        try:
            items = message_list(decoded(run.get("outputs")), _MAX_DEPTH)
            if items is None:
                continue
            plain = each("messages", items, plain_message)
            yield conversation(
                {"id": name, **facts},
                name,
                plain,
                lambda item, lost: [chat_message(as_chat(item), lost)],
                barred={index: reason for index, item in enumerate(plain) if (reason := fault_of(item))},
                foreign={},
                tools=declared_tools(tools_of_run(run)),
            )
        except ValueError as error:
            yield refusal(f"trace {name}", error)
        return
    why = "there is no run of type llm, and no messages are put out by the root; export the trace with all its runs"
    yield refusal(f"trace {name}", ValueError(why))


def _facts(roots: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the roots say about the whole: their feedback by its names, and the example they were run on."""
    graded: dict[str, Any] = {}
    for run in roots:
        stats = run.get("feedback_stats")
        for name, told in stats.items() if isinstance(stats, dict) else ():
            graded[name] = told.get("avg") if isinstance(told, dict) else told
    examples = (run.get("reference_example_id") for run in roots)
    example = next((found for found in examples if found and isinstance(found, str)), None)
    return {"scores": graded, **({"task_id": example} if example else {})}


def _group(run: dict[str, Any]) -> str | None:
    extra = decoded(run.get("extra"))
    metadata = extra.get("metadata") if isinstance(extra, dict) else None
    thread = identifier(metadata, *_THREADS) if isinstance(metadata, dict) else None
    return thread or identifier(run, "trace_id")


def _all_runs(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The runs of a value, and those inside them."""
    pending = [run for run in _listed(value) if _is_run(run)][::-1]
    while pending:
        run = pending.pop()
        yield run
        children = run.get("child_runs")
        pending += [child for child in reversed(children if isinstance(children, list) else []) if _is_run(child)]


def _listed(value: Any) -> list[Any]:
    if isinstance(value, dict) and "run_type" not in value:
        return next((value[key] for key in _ENVELOPES if isinstance(value.get(key), list)), [])
    return [value]


def _is_run(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("run_type"), str):
        return False
    return "inputs" in value and not _TRACED.isdisjoint(value)
