"""Formats that are known but do not hold what training needs: what is missing, and where it can be found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Incomplete:
    what: str
    keys: frozenset[str]
    """Keys by which an entry is recognised."""
    why: str
    """What is missing, and what to do."""


def _format(what: str, keys: str, why: str) -> Incomplete:
    return Incomplete(what, frozenset(keys.split()), why)


_FORMATS = (
    _format(
        "a task log of CrewAI (output_log_file)",
        "timestamp task_name task agent status",
        "it holds tasks and their outputs, but neither the model's messages nor its tool calls; log the events "
        "llm_call_completed with their messages and response, or trace the crew with OpenTelemetry",
    ),
    _format(
        "a spend log of LiteLLM without texts",
        "request_id call_type spend",
        "the proxy stored neither messages nor responses; set store_prompts_in_spend_logs: true in general_settings",
    ),
    _format(
        "the result of a batch of Anthropic's API",
        "custom_id result",
        "it holds the answers alone; write each with its request, which has the same custom_id in the batch's input, "
        'as {"request": ..., "response": ...}',
    ),
    _format(
        "the history of the screen of Cline or Roo (ui_messages.json)",
        "ts type text",
        "it holds what the user saw, not what the model saw; read api_conversation_history.json beside it",
    ),
    _format(
        "the event stream of codex exec",
        "type thread_id",
        "it lacks the user's words and the calls as the model wrote them; read the session's rollout file instead",
    ),
    _format(
        "a file of samples of lm-evaluation-harness",
        "doc_id doc resps filtered_resps",
        "it holds completions of a benchmark, not an agent's conversation",
    ),
    _format(
        "a set of prompts for training with verl",
        "data_source prompt reward_model",
        "it holds no answer of an agent, so there is no turn to learn from",
    ),
)


def incomplete(values: Sequence[Any]) -> Incomplete | None:
    """The format of the first entry; None if it is not one of these."""
    first = values[0] if values else None
    first = first[0] if isinstance(first, list) and first else first
    if not isinstance(first, dict):
        return None
    return next((known for known in _FORMATS if known.keys <= first.keys()), None)
