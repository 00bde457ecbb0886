"""Events of OpenHands V0 (``action`` and ``observation``) as the messages that the model was shown."""

from __future__ import annotations

from typing import Any

from pivotrl.reading.chat_messages import chat_message
from pivotrl.reading.fields import as_object, each, member, optional
from pivotrl.reading.formats.openhands_texts import terminal_text
from pivotrl.records import Loss, Message

_MAX_CHARACTERS = 30_000
"""Longest observation that is shown whole, by default."""
_AS_LOGGED = {"mcp", "think", "task_tracking", "condense", "download", "read", "edit", "run_ipython", "browse", "write"}
_RECALLED = ("repo_instructions", "additional_agent_instructions", "conversation_instructions", "date")


def response_of(event: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """(id, first choice) of the model's response that the event comes from; None when the log does not say."""
    call = optional(event, "tool_call_metadata", dict)
    response = optional(call or {}, "model_response", dict)
    if response is None:
        return None
    return member(response, "id", str), as_object(next(iter(member(response, "choices", list)), None))


def action_message(event: dict[str, Any], lost: list[Loss]) -> Message | None:
    """What an action shows the model; None when it shows nothing.

    Raises:
        ValueError: it is malformed, or the agent's without the model's response that it was made from.
    """
    kind, source = member(event, "action", str), event.get("source")
    arguments = optional(event, "args", dict) or {}
    if kind == "system":
        return Message(role="system", content=member(arguments, "content", str))
    if source == "agent" and (response := response_of(event)) is not None:
        return chat_message(member(response[1], "message", dict), lost)
    if kind == "message":
        if optional(arguments, "image_urls", list):
            lost.append(Loss(code="image"))
        return Message(
            role="user" if source == "user" else "assistant", content=optional(arguments, "content", str) or ""
        )
    if source == "user":
        command = optional(arguments, "command", str)
        return None if command is None else Message(role="user", content=f"User executed the command:\n{command}")
    if kind in ("recall", "reject", "push", "send_pr"):
        return None
    raise ValueError(f"the action {kind} is the agent's, but the model's response that it was made from is not logged")


def observation_message(event: dict[str, Any], lost: list[Loss]) -> Message | None:
    """What an observation shows the model; None when it shows nothing.

    Raises:
        ValueError: it is malformed or of an unknown kind.
    """
    kind = member(event, "observation", str)
    call = optional(event, "tool_call_metadata", dict)
    text = _recalled(event, lost) if kind == "recall" else _text(kind, event, call is not None, lost)
    if text is None:
        return None
    if len(text) > _MAX_CHARACTERS:
        lost.append(Loss(code="context_not_logged", detail="shortened for the model"))
    if call is None:
        return Message(role="user", content=text)
    return Message(role="tool", content=text, tool_call_id=member(call, "tool_call_id", str))


def _text(kind: str, event: dict[str, Any], is_called: bool, lost: list[Loss]) -> str | None:
    content, extras = optional(event, "content", str) or "", optional(event, "extras", dict) or {}
    if optional(extras, "image_urls", list) or extras.get("screenshot"):
        lost.append(Loss(code="image"))
    if kind == "run":
        text = terminal_text(content, optional(extras, "metadata", dict) or {})
        return text if is_called else f"\nObserved result of command executed by user:\n{text}"
    if kind == "error":
        return f"{content}\n[Error occurred in processing last action]"
    if kind == "user_rejected":
        return f"OBSERVATION:\n{content}\n[Last action has been rejected by the user]"
    if kind == "delegate":
        return optional(optional(extras, "outputs", dict) or {}, "content", str) or content
    if kind == "edit" and extras.get("impl_source") == "llm_based_edit":
        lost.append(Loss(code="context_not_logged", detail="the view of an edit"))
    if kind not in _AS_LOGGED:
        raise ValueError(f"unknown observation {kind}")
    return content


def _recalled(event: dict[str, Any], lost: list[Loss]) -> str | None:
    """The texts of a recall, of which the log does not hold the wording around them."""
    extras = optional(event, "extras", dict) or {}
    texts = [optional(extras, key, str) for key in _RECALLED]
    knowledge = each("microagent_knowledge", optional(extras, "microagent_knowledge", list) or (), as_object)
    texts += [optional(item, "content", str) for item in knowledge]
    text = "\n\n".join(filter(None, texts))
    if text:
        lost.append(Loss(code="context_not_logged", detail="what was recalled, in the harness's own words"))
    return text or None
