"""What an OpenAI-compatible server answers, read from every shape that is known. What it does not say stays unknown."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pivotrl.protocols.endpoint import NoAnswer
from pivotrl.records import ToolCall
from pivotrl.samplers.openai.money import Usage, read_usage

_MARK = "token_id:"
_ROUNDING = 1e-3
"""A log-probability may exceed 0 by this much, through rounding alone."""
_ENDS = ("stop", "length", "tool_calls", "function_call", "eos", "stop_sequence")


class Faulty(Exception):
    """There is no usable sample. The message is the reason, a stable code.

    Args:
        usage: what the answer says that it used nevertheless.
    """

    def __init__(self, reason: str, usage: Usage = Usage()) -> None:
        super().__init__(reason)
        self.usage = usage


@dataclass(frozen=True)
class Choice:
    """One sample as the server tells it."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    finish_reason: str = ""
    token_ids_T: tuple[int, ...] | None = None
    logprobs_T: tuple[float, ...] | None = None
    """NaN where the server gives none, or one that is no log-probability; None if it gives none at all."""
    prompt_ids: tuple[int, ...] | None = None
    num_tokens: int | None = None
    """Tokens of the completion; None if unknown."""


@dataclass(frozen=True)
class Answer:
    """The samples of one request. ``samples`` has an entry for each that was asked for; None where it is missing."""

    samples: tuple[Choice | None, ...]
    model: str | None
    usage: Usage


def read_answer(text: str | NoAnswer, num_asked: int) -> Answer:
    """
    Raises:
        Faulty: there is no answer, or it is no JSON of a known shape.
    """
    if isinstance(text, NoAnswer):
        raise Faulty(f"server_{'answer_too_large' if text.reason == 'too_large' else text.reason}")
    usage = Usage()
    try:
        body = json.loads(text)
        usage = read_usage(body.get("usage"))
        choices = [(item.get("index"), _choice(item, body)) for item in body["choices"]]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise Faulty("server_answer_malformed", usage) from None
    if len(choices) == 1 and usage.completion is not None:
        only = usage.completion
        choices = [(index, replace(choice, num_tokens=choice.num_tokens or only)) for index, choice in choices]
    samples = _by_index(choices, num_asked)
    if samples is None:
        raise Faulty("server_choices_not_numbered", usage)
    model = body.get("model")
    return Answer(samples, model if isinstance(model, str) else None, usage)


def _by_index(choices: Sequence[tuple[Any, Choice]], num_asked: int) -> tuple[Choice | None, ...] | None:
    """The samples by their index. A choice that was sent twice counts once; two different choices of one index count
    as none. A server that does not number its choices is believed only if their number is right.

    Returns:
        None if all choices have one number, and some are equal: two samples, or one that was sent twice?
    """
    indices = [index for index, _ in choices]
    if len(choices) == num_asked and len(set(map(repr, indices))) == 1:
        samples = tuple(choice for _, choice in choices)
        if indices[0] is not None and any(choice in samples[:place] for place, choice in enumerate(samples)):
            return None
        return samples
    found: dict[int, list[Choice]] = {}
    for index, choice in choices:
        if type(index) is int and choice not in found.setdefault(index, []):
            found[index].append(choice)
    only = {index: same[0] for index, same in found.items() if len(same) == 1}
    return tuple(only.get(number) for number in range(num_asked))


def _choice(item: Mapping[str, Any], body: Mapping[str, Any]) -> Choice:
    message = item.get("message")
    message = message if isinstance(message, Mapping) else {}
    text = item.get("text", message.get("content"))
    if text is not None and not isinstance(text, str):
        raise ValueError("the text is no text")
    told = item.get("logprobs")
    prompt_ids = item.get("prompt_token_ids") or body.get("prompt_token_ids")
    ids = _ids(item, told)
    return Choice(
        text=text or "",
        calls=tuple(map(_call, message.get("tool_calls") or ())),
        finish_reason=str(item.get("finish_reason") or ""),
        token_ids_T=ids,
        logprobs_T=_logprobs(told),
        prompt_ids=None if prompt_ids is None else _integers(prompt_ids),
        num_tokens=None if ids is None else len(ids),
    )


def _ids(item: Mapping[str, Any], told: Any) -> tuple[int, ...] | None:
    if (ids := item.get("token_ids")) is not None:
        return _integers(ids)
    if not isinstance(told, Mapping):
        return None
    entries = told.get("content") if isinstance(told.get("content"), list) else told.get("tokens")
    tokens = [entry.get("token") if isinstance(entry, Mapping) else entry for entry in entries or ()]
    marked = [token for token in tokens if isinstance(token, str) and token.startswith(_MARK)]
    if tokens and len(marked) == len(tokens):
        return tuple(int(token.removeprefix(_MARK)) for token in marked)
    return None


def _integers(values: Any) -> tuple[int, ...]:
    if not all(type(value) is int and 0 <= value < 2**31 for value in values):
        raise ValueError("a token id is no number")
    return tuple(values)


def _logprobs(told: Any) -> tuple[float, ...] | None:
    """Of every token. A positive one shows that these are no log-probabilities at all."""
    values = told
    if isinstance(told, Mapping):
        values = told.get("token_logprobs", told.get("content"))
    if not isinstance(values, list):
        return None
    numbers = [value.get("logprob") if isinstance(value, Mapping) else value for value in values]
    found = [
        float(number) if isinstance(number, int | float) and math.isfinite(number) else math.nan for number in numbers
    ]
    if any(number > _ROUNDING for number in found):
        return (math.nan,) * len(found)
    return tuple(min(number, 0.0) for number in found)


def _call(call: Any) -> ToolCall:
    """Arguments that the server has put into quotes twice (vLLM #21544) or not at all (Ollama) are what they mean."""
    function = call["function"]
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments if arguments is not None else {}, ensure_ascii=False)
    try:
        inner = json.loads(arguments)
        if isinstance(inner, str) and isinstance(json.loads(inner), dict):
            arguments = inner
    except (ValueError, RecursionError):
        pass  # whether it is JSON is for the verifier to say
    if not isinstance(function["name"], str):
        raise ValueError("a call has no name")
    return ToolCall(name=function["name"], arguments=arguments or "{}", id=call.get("id") or None)


def has_ended(choice: Choice) -> bool:
    """Whether the server says why the sample ended, and it was the model's end or the token limit."""
    return choice.finish_reason in _ENDS
