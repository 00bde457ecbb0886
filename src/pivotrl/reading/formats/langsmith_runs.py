"""A run of LangSmith as a model call: what a chat model of LangChain logs, and what wrappers of other clients do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pivotrl.reading.fields import as_object
from pivotrl.reading.formats.langchain_messages import as_chat, fault_of, plain_message
from pivotrl.reading.formats.model_calls import ModelCall
from pivotrl.reading.formats.request_calls import model_call, request_of, response_of
from pivotrl.records.strict_json import parse_json

_ENDINGS = ("finish_reason", "stop_reason")
_TOOLS = ("tools", "functions")


def run_call(run: dict[str, Any]) -> ModelCall:
    """The call that a run of type ``llm`` is.

    Raises:
        ValueError: it failed, or lacks its input or its output, or they are malformed.
    """
    if run.get("error"):
        raise ValueError("the call ended in an error")
    asked, said = decoded(run.get("inputs")), decoded(run.get("outputs"))
    request = _request(asked)
    if request is None:
        raise ValueError("the run lacks its messages; export it with its inputs")
    message, ending = _answer(said)
    if message is None:
        response = response_of(said)
        if response is None:
            raise ValueError("the run lacks its answer; export it with its outputs")
        return model_call({**request, "tools": tools_of_run(run)}, response, {})
    choice = {"message": _chat(message), "finish_reason": ending}
    call = model_call({**request, "tools": tools_of_run(run)}, {"choices": [choice]}, {})
    return replace(call, barred=call.barred or fault_of(plain_message(message)))


def tools_of_run(run: dict[str, Any]) -> Any:
    """The tools that a model was given; None if the run does not say."""
    asked, extra = decoded(run.get("inputs")), decoded(run.get("extra"))
    holders = [asked, extra.get("invocation_params") if isinstance(extra, dict) else None]
    found = (holder.get(key) for holder in holders if isinstance(holder, dict) for key in _TOOLS)
    return next((tools for tools in found if tools), None)


def decoded(value: Any) -> Any:
    """The value of a JSON text, which tables hold."""
    return parse_json(value) if isinstance(value, str) and value.lstrip()[:1] == "{" else value


def _request(asked: Any) -> dict[str, Any] | None:
    if not isinstance(asked, dict):
        return request_of(asked)
    messages = asked.get("messages")
    if isinstance(messages, list) and messages and isinstance(messages[0], list):
        messages = _only(messages)
    prompts = asked.get("prompts")
    if messages is None and isinstance(prompts, list) and prompts:
        messages = [{"role": "user", "content": _only(prompts)}]
    if isinstance(messages, list) and messages:
        return {"messages": [_chat(item) for item in messages], "system": asked.get("system")}
    return request_of(asked)


def _answer(said: Any) -> tuple[dict[str, Any] | None, Any]:
    """(the message, why the model stopped); None if the output is none of LangChain's."""
    if not isinstance(said, dict):
        return None, None
    made = said.get("generations")
    while isinstance(made, list) and made:
        made = _only(made)
    if isinstance(made, dict):
        about = made.get("generation_info")
        ending = next((about[key] for key in _ENDINGS if about.get(key)), None) if isinstance(about, dict) else None
        message = made.get("message", {"role": "assistant", "content": made.get("text")})
        return as_object(message), ending
    for key in ("output", "message"):
        if isinstance(said.get(key), dict):
            return said[key], None
    messages = said.get("messages")
    return (as_object(messages[-1]), None) if isinstance(messages, list) and messages else (None, None)


def _only(values: list[Any]) -> Any:
    if len(values) > 1:
        raise ValueError(f"the run is a batch of {len(values)}; only single calls can be read")
    return values[0]


def _chat(item: Any) -> dict[str, Any]:
    """A message of LangChain, in any of its dumps, or of a wrapped client."""
    row = as_object(item)
    is_foreign = isinstance(row.get("role"), str) and row.get("type") in (None, "message") and "data" not in row
    return row if is_foreign else as_chat(plain_message(row))
