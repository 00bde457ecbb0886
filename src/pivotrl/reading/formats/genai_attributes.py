"""Attributes of OpenTelemetry spans that hold a model call, in four conventions, as a request and a response.

OpenTelemetry's own for generative AI (``gen_ai.input.messages``, messages in parts); that of OpenInference, which
Phoenix writes (``llm.input_messages.0.message.role``); that of OpenLLMetry (``gen_ai.prompt.0.role``); and MLflow's
(``mlflow.spanInputs``, the whole request as JSON text).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pivotrl.reading.chat_messages import arguments_text
from pivotrl.reading.fields import as_object, each, json_text, member

_FLAT = (("llm.input_messages", "llm.output_messages"), ("gen_ai.prompt", "gen_ai.completion"))
_GRAVE = "gen_ai.input.messages"


def is_call(attributes: Mapping[str, Any]) -> bool:
    """Whether a span with these attributes is a model call that holds what was said."""
    if _GRAVE in attributes and "gen_ai.output.messages" in attributes:
        return True
    if "CHAT_MODEL" in str(attributes.get("mlflow.spanType")):
        return "mlflow.spanInputs" in attributes and "mlflow.spanOutputs" in attributes
    return any(any(key.startswith(f"{asked}.0.") for key in attributes) for asked, _ in _FLAT)


def request_and_response(attributes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(request, response) in the shape of OpenAI's chat completions.

    Raises:
        ValueError: an attribute is malformed.
    """
    if _GRAVE in attributes:
        return _of_parts(attributes)
    if "mlflow.spanInputs" in attributes:
        return _decoded(attributes, "mlflow.spanInputs"), _decoded(attributes, "mlflow.spanOutputs")
    asked, answer = next(pair for pair in _FLAT if any(key.startswith(f"{pair[0]}.0.") for key in attributes))
    answers = [_flat_message(item) for item in _unflattened(attributes, answer)]
    if not answers:
        raise ValueError("the span holds no answer")
    messages = [_flat_message(item) for item in _unflattened(attributes, asked)]
    request: dict[str, Any] = {"messages": messages, "tools": _flat_tools(attributes)}
    return request, {"choices": [{"message": answers[0], "finish_reason": answers[0].pop("finish_reason", None)}]}


def _decoded(attributes: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = attributes[name]
    return as_object(json_text(name, value) if isinstance(value, str) else value)


# --- OpenTelemetry's own ------------------------------------------------------------------------------------------


def _of_parts(attributes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    messages = [row for item in _list(attributes, _GRAVE) for row in _messages(as_object(item))]
    system = "\n".join(
        str(part.get("content", part.get("text", "")))
        for part in each("instructions", _list(attributes, "gen_ai.system_instructions"), as_object)
    )
    if system and not any(row["role"] == "system" for row in messages):
        messages = [{"role": "system", "content": system}, *messages]
    answers = [
        (as_object(item), row) for item in _list(attributes, "gen_ai.output.messages") for row in _messages(item)
    ]
    if not answers:
        raise ValueError("the span holds no answer")
    item, answer = answers[0]
    request = {"messages": messages, "tools": _list(attributes, "gen_ai.tool.definitions")}
    return request, {"choices": [{"message": answer, "finish_reason": item.get("finish_reason")}]}


def _messages(item: Any) -> list[dict[str, Any]]:
    """A message in parts: the results that it holds first, then the rest as one message."""
    row = as_object(item)
    role = member(row, "role", str)
    texts: list[Any] = []
    calls: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    thoughts: list[str] = []
    for part in each("parts", member(row, "parts", list), as_object):
        kind, content = part.get("type"), part.get("content", part.get("text"))
        if kind == "tool_call":
            calls.append({"id": part.get("id"), "name": part.get("name"), "arguments": part.get("arguments")})
        elif kind == "tool_call_response":
            answer = part.get("response", part.get("result", content))
            text = answer if isinstance(answer, str) else arguments_text(answer)
            results.append({"role": "tool", "tool_call_id": part.get("id"), "content": text})
        elif kind in ("reasoning", "thinking"):
            thoughts.append(str(content or ""))
        elif kind == "text":
            texts.append({"type": "text", "text": content})
        else:
            texts.append({"type": str(kind)})  # an image is a loss, anything else is refused
    if role == "tool" or (results and not texts and not calls):
        return results
    content = "\n".join(str(part["text"]) for part in texts) if all("text" in part for part in texts) else texts
    said = {"role": role, "content": content, "tool_calls": calls or None, "reasoning": "\n".join(thoughts) or None}
    return [*results, said]


def _list(attributes: Mapping[str, Any], name: str) -> list[Any]:
    value = attributes.get(name)
    if isinstance(value, str):
        value = json_text(name, value) if value.lstrip()[:1] in ("[", "{") else [{"type": "text", "content": value}]
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


# --- flat ones ----------------------------------------------------------------------------------------------------


def _unflattened(attributes: Mapping[str, Any], prefix: str) -> list[Any]:
    """``prefix.0.role`` and so on as a list of objects, at every depth."""
    tree: dict[str, Any] = {}
    for key, value in attributes.items():
        if not key.startswith(f"{prefix}."):
            continue
        *way, last = key[len(prefix) + 1 :].split(".")
        place = tree
        for step in way:
            inner = place.setdefault(step, {})
            if not isinstance(inner, dict):
                raise ValueError(f"{key} is inside another attribute")
            place = inner
        place[last] = value
    found = _with_lists(tree)
    return found if isinstance(found, list) else []


def _with_lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value and all(key.isdecimal() for key in value):
        return [_with_lists(value[key]) for key in sorted(value, key=int)]
    return {key: _with_lists(inner) for key, inner in value.items()}


def _flat_message(item: Any) -> dict[str, Any]:
    row = as_object(item)
    row = row["message"] if isinstance(row.get("message"), dict) else row
    made = {key: value for key, value in row.items() if key not in ("tool_calls", "contents")}
    calls = [as_object(call) for call in row.get("tool_calls") or () if isinstance(row.get("tool_calls"), list)]
    if calls:
        made["tool_calls"] = [call["tool_call"] if isinstance(call.get("tool_call"), dict) else call for call in calls]
    contents = row.get("contents")
    if made.get("content") is None and isinstance(contents, list):
        parts = (part.get("message_content", part) for part in map(as_object, contents))
        made["content"] = [
            {"type": part.get("type", "text"), "text": part.get("text")} for part in map(as_object, parts)
        ]
    return made


def _flat_tools(attributes: Mapping[str, Any]) -> list[Any]:
    found: list[Any] = []
    for item in _unflattened(attributes, "llm.tools"):
        row = as_object(item)
        schema = row.get("tool", row).get("json_schema") if isinstance(row.get("tool", row), dict) else None
        schema = row.get("tool.json_schema", schema)
        found.append(json_text("tool", schema) if isinstance(schema, str) else schema)
    for item in _unflattened(attributes, "llm.request.functions"):
        row = as_object(item)
        parameters = row.get("parameters")
        found.append({**row, "parameters": json.loads(parameters) if isinstance(parameters, str) else parameters})
    return found
