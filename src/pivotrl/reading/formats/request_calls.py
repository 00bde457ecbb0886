"""A request to a model and its response, in the shapes of four APIs, as one model call.

OpenAI's chat completions, OpenAI's Responses, Anthropic's Messages, and Gemini's contents; bodies may be JSON text or
lie in an envelope (``body``, ``json``, ``data``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pivotrl.reading.chat_messages import chat_message, declared_tools
from pivotrl.reading.fields import as_object, member, optional
from pivotrl.reading.formats.anthropic_messages import anthropic_messages, assistant_message, has_block, system_text
from pivotrl.reading.formats.gemini_contents import gemini_messages, instruction_text, is_content
from pivotrl.reading.formats.model_calls import ModelCall
from pivotrl.reading.formats.response_items import answered, request_conversation, response_tools
from pivotrl.records import Loss, Message, Tool
from pivotrl.records.strict_json import parse_json

_ENVELOPES = (
    "body",
    "json",
    "data",
    "payload",
    "kwargs",
    "params",
    "json_data",
    "content",
    "postData",
    "text",
    "inputBodyJson",
    "outputBodyJson",
)
_ASKS = ("messages", "input", "contents", "prompt")
_ANSWERS = ("choices", "output", "candidates", "content", "message", "role")
_CUT = ("length", "max_tokens", "MAX_TOKENS", "max_output_tokens", "content_filter")


@dataclass(frozen=True)
class Called:
    """What the log knows of a call besides its messages."""

    tools: tuple[Tool, ...] = ()
    row: dict[str, Any] | None = None


def opened(value: Any, keys: tuple[str, ...]) -> dict[str, Any] | None:
    """The object with one of these keys: the value itself, its JSON text, or what lies in its envelope."""
    for _ in range(5):
        if isinstance(value, str) and value.lstrip().startswith("{"):
            value = parse_json(value)
        if not isinstance(value, dict):
            return None
        if any(value.get(key) is not None for key in keys if key not in ("content", "role")) or (
            "content" in keys and (isinstance(value.get("content"), list) or isinstance(value.get("role"), str))
        ):
            return value
        value = next((value[key] for key in _ENVELOPES if isinstance(value.get(key), dict | str)), None)
    return None


def request_of(value: Any) -> dict[str, Any] | None:
    """The request that a value holds, None when it holds none."""
    if isinstance(value, list) and value and all(isinstance(item, dict) and "role" in item for item in value):
        return {"messages": value}
    return opened(value, _ASKS)


def response_of(value: Any) -> dict[str, Any] | None:
    """The response that a value holds, None when it holds none."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        return {"message": {"role": "assistant", "content": value}} if value else None
    return opened(value, _ANSWERS)


def model_call(request: dict[str, Any], response: dict[str, Any], row: dict[str, Any]) -> ModelCall:
    """The call.

    Raises:
        ValueError: request or response is malformed, or of another API.
    """
    losses: list[Loss] = []
    if request.get("contents") is not None:
        return _gemini(request, response, row)
    if request.get("messages") is None and request.get("input") is not None:
        return _responses(request, response, row)
    asked = request.get("messages")
    if asked is None and isinstance(request.get("prompt"), str | list):
        asked = request["prompt"]
    items = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    if not isinstance(items, list):
        raise ValueError("the request holds no messages")
    system = system_text(request.get("system"))
    messages = [Message(role="system", content=system)] if system else []
    for item in items:
        messages += _messages(item, losses, len(messages))
    if not messages:
        raise ValueError("the request holds no messages")
    answer, barred = _answer(response, losses, len(messages))
    tools = _tools(request, row)
    return ModelCall(tuple(messages), answer, barred, tuple(losses), Called(tools, row))


def _tools(request: dict[str, Any], row: dict[str, Any]) -> tuple[Tool, ...]:
    """Those of the request: its own, among its parameters (LiteLLM), or in ``toolConfig`` (Bedrock)."""
    holders = [request, *(row[key] for key in _PARAMETERS if isinstance(row.get(key), dict))]
    for holder in holders:
        config = holder.get("toolConfig")
        value = (
            holder.get("tools")
            or holder.get("functions")
            or (config.get("tools") if isinstance(config, dict) else None)
        )
        if value:
            return declared_tools(value)
    return ()


_PARAMETERS = (
    *("model_parameters", "optional_params", "parameters", "params", "kwargs", "invocation_params"),
    *("proxy_server_request", "metadata"),
)


def _messages(item: Any, losses: list[Loss], place: int) -> list[Message]:
    found: list[Loss] = []
    made = anthropic_messages(item, found) if has_block(item) else [chat_message(item, found)]
    losses += [loss.model_copy(update={"message": place + (loss.message or 0)}) for loss in found]
    return made


def _answer(response: dict[str, Any], losses: list[Loss], place: int) -> tuple[Message, str | None]:
    """(the answer, why it must not become a candidate)."""
    choices = optional(response, "choices", list)
    choice = as_object(choices[0]) if choices else response
    message = choice.get("message", choice.get("delta")) if "role" not in choice else choice
    if message is None and isinstance(output := response.get("output"), dict):  # of Bedrock's Converse
        message = output.get("message")
    if message is None and isinstance(choice.get("text"), str):
        message = {"role": "assistant", "content": choice["text"]}
    if message is None:
        message = {"role": "assistant", "content": member(choice, "content", list)}
    row = {"role": "assistant", **as_object(message)}
    ending = choice.get("finish_reason") or response.get("stop_reason") or row.get("stop_reason")
    ending = ending or response.get("stopReason")
    if isinstance(row.get("content"), list) and (has_block(row) or response.get("type") == "message"):
        answer = assistant_message(row["content"], losses, place)
    else:
        found: list[Loss] = []
        answer = chat_message(row, found)
        losses += [loss.model_copy(update={"message": place}) for loss in found]
    if answer.role != "assistant":
        raise ValueError("the response is not the assistant's")
    return answer, "truncated" if ending in _CUT else None


Earlier = dict[str, list[Any]]
"""Ids of responses -> all items up to and with their output."""


def with_earlier(request: dict[str, Any], response: dict[str, Any], earlier: Earlier) -> dict[str, Any]:
    """A request of the Responses API with what ``previous_response_id`` stands for; the response is added to
    ``earlier``. Where that is not in the log the request stays as it is (:func:`goes_on_unseen`)."""
    given = request.get("input")
    if request.get("messages") is not None or not isinstance(response.get("output"), list):
        return request
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given if isinstance(given, list) else []
    before = earlier.get(str(request.get("previous_response_id") or response.get("previous_response_id")))
    items = [*(before or []), *items]
    if isinstance(response.get("id"), str):
        earlier[response["id"]] = [*items, *response["output"]]
    return {**request, "input": items, "previous_response_id": None} if before is not None else request


def goes_on_unseen(request: dict[str, Any]) -> bool:
    """Whether the provider kept what the model saw before: an earlier response, or a conversation."""
    return any(request.get(key) for key in ("previous_response_id", "conversation"))


def _responses(request: dict[str, Any], response: dict[str, Any], row: dict[str, Any]) -> ModelCall:
    asked = request_conversation(request)
    made = answered(asked, response)
    after = made.messages[len(asked.messages) :]
    if len(after) != 1:
        raise ValueError("the response holds calls that the provider answered itself")
    tools, lost = response_tools(request.get("tools"))
    barred = made.excluded.get(len(asked.messages))
    if goes_on_unseen(request):
        barred, lost = "context_incomplete", (*lost, Loss(code="input_not_logged"))
    return ModelCall(asked.messages, after[0], barred, (*made.losses, *lost), Called((*tools, *made.tools), row))


def _gemini(request: dict[str, Any], response: dict[str, Any], row: dict[str, Any]) -> ModelCall:
    losses: list[Loss] = []
    system = instruction_text(request.get("systemInstruction") or request.get("system_instruction"))
    messages = [Message(role="system", content=system)] if system else []
    for item in member(request, "contents", list):
        found: list[Loss] = []
        made = gemini_messages(item, found)
        losses += [loss.model_copy(update={"message": len(messages) + (loss.message or 0)}) for loss in found]
        messages += made
    candidates = member(response, "candidates", list)
    first = as_object(candidates[0] if candidates else None)
    content = member(first, "content", dict)
    if not is_content(content):
        raise ValueError("the response has no parts")
    answer = gemini_messages({"role": "model", **content}, losses)[0]
    barred = "truncated" if first.get("finishReason") in _CUT else None
    return ModelCall(tuple(messages), answer, barred, tuple(losses), Called(declared_tools(request.get("tools")), row))
