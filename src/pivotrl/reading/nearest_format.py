"""The format nearest to an unrecognised file, so that the refusal can say what it lacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

WOULD_BE_READ = (
    'one object a line, such as {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": '
    '"..."}], "tools": [...], "task_id": "...", "reward": 1.0}'
)
"""The simplest possible log."""

_SIGNS = {
    "chat": {"messages", "role", "content", "prompt", "completion", "tools", "reward", "trajectory", "history", "chat"},
    "sharegpt": {"conversations", "from", "value", "system"},
    "responses": {"input", "output", "instructions", "response"},
    "nemo_gym": {"responses_create_params", "expected_action", "expected_answer", "agent_ref"},
    "anthropic_messages": {"stop_reason", "tool_use", "tool_result", "max_tokens"},
    "model_calls": {"request", "response", "choices", "kwargs", "request_body", "response_body", "model"},
    "claude_code": {"uuid", "parentUuid", "sessionId", "isSidechain"},
    "claude_ai": {"chat_messages", "sender", "attachments", "parent_message_uuid"},
    "codex": {"payload", "timestamp", "session_meta"},
    "pi": {"parentId", "session", "cwd"},
    "copilot_cli": {"session.start", "data", "parentId"},
    "gemini": {"contents", "parts", "sessionId", "projectHash", "functionCall"},
    "langchain": {"human", "ai", "additional_kwargs", "response_metadata", "lc"},
    "otel_genai": {"trace_id", "span_id", "attributes", "traceId", "spanId", "resourceSpans", "gen_ai"},
    "langsmith": {"run_type", "inputs", "outputs", "trace_id", "dotted_order", "child_runs", "parent_run_id"},
    "langfuse": {"observations", "trace", "traceId", "GENERATION"},
    "cohere_v1": {"message", "chat_history", "preamble", "tool_results", "CHATBOT"},
    "xlam": {"query", "answers"},
    "atif": {"schema_version", "steps", "agent"},
    "swe_agent": {"history", "info", "environment", "trajectory"},
    "mini_swe_agent": {"trajectory_format", "info", "messages"},
    "tau_bench": {"traj", "task_id", "trial", "info"},
    "tau2_bench": {"simulations", "termination_reason", "environment_info"},
    "openhands_events": {"observation", "action", "args", "source", "cause", "history"},
    "inspect_ai": {"eval", "samples", "scores", "plan"},
}
"""Keys and marks by which a person would recognise a format."""
_FEWEST = 2


def nearest(values: Sequence[Any]) -> str | None:
    """The reader whose marks the first values share most; None if they share too few."""
    seen = {mark for value in values[:3] for mark in _marks(value, 2)}
    scores = {name: len(signs & seen) for name, signs in _SIGNS.items()}
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] >= _FEWEST or {"messages"} & seen else None


def _marks(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, list):
        for item in value[:3]:
            yield from _marks(item, depth)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            if key in ("type", "role", "from") and isinstance(inner, str):
                yield inner
            elif depth:
                yield from _marks(inner, depth - 1)
