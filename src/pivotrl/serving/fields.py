"""The fields of a request: each is used, known to be without effect, or refused by its name."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pivotrl.records.strict_json import kind_of
from pivotrl.serving.refusals import Refused, not_supported

MAX_SAMPLES, MAX_TOP, MAX_STOPS = 128, 20, 16

WITHOUT_EFFECT = frozenset(
    {
        *("user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key"),
        *("prompt_cache_retention", "spaces_between_special_tokens", "request_id", "priority", "cache_salt"),
    }
)
"""Fields that no answer depends on here; they are accepted and not used."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "length_penalty": (1,),
    "min_p": (0,),
    "min_tokens": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "use_beam_search": (False,),
    "include_stop_str_in_output": (False,),
    "echo": (False,),
    "suffix": ("",),
    "modalities": (["text"],),
    "functions": ([],),
    "function_call": ("none",),
    "chat_template_kwargs": ({},),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "documents": ([],),
    **dict.fromkeys(("reasoning_effort", "verbosity", "prediction", "audio", "web_search_options"), ()),
    **dict.fromkeys(("chat_template", "structured_outputs", "bad_words", "truncate_prompt_tokens"), ()),
}
"""Fields that this server cannot follow, and the values of each that ask for nothing."""

_COMMON = frozenset(
    {
        *("model", "n", "seed", "stop", "max_tokens", "temperature", "top_p", "top_k", "logprobs", "stream"),
        *("stream_options", "stop_token_ids", "ignore_eos", "return_token_ids", "return_tokens_as_token_ids"),
        "skip_special_tokens",
    }
)
CHAT = _COMMON | {
    *("messages", "tools", "tool_choice", "parallel_tool_calls", "top_logprobs", "max_completion_tokens"),
}
COMPLETION = _COMMON | {"prompt", "best_of"}


@dataclass(frozen=True)
class Wanted:
    """What both kinds of requests have in common."""

    model: str
    num_samples: int
    temperature: float
    top_p: float
    top_k: int | None
    seed: int
    max_tokens: int | None
    """None: not given."""
    stop: tuple[str, ...]
    stop_token_ids: frozenset[int]
    ignore_eos: bool
    num_top: int | None
    """As in :class:`pivotrl.protocols.live.Ask`."""
    stream: bool
    tells_usage: bool
    """At the end of a stream."""
    tells_ids: bool
    """Token ids of prompts and samples beside the text."""
    marks_ids: bool
    """Tokens of log-probabilities are written as ``token_id:17``."""
    keeps_special: bool
    """The text of a completion shows control tokens."""


class Fields:
    """The fields of one request; null counts as not given.

    Raises:
        Refused: the body is not an object, or holds a field that is not known or cannot be followed.
    """

    def __init__(self, body: Any, known: frozenset[str]) -> None:
        if not isinstance(body, dict):
            raise Refused(f"the body must be a JSON object, not {kind_of(body)}")
        self._given = {name: value for name, value in body.items() if value is not None}
        for name, value in self._given.items():
            if name in known or name in WITHOUT_EFFECT:
                continue
            if name not in NEUTRAL:
                raise Refused(f"unknown field {name!r}; leave it out", param=name, code="unknown_parameter")
            if not any(_equal(value, neutral) for neutral in NEUTRAL[name]):
                allowed = " or ".join(map(json.dumps, NEUTRAL[name]))
                raise not_supported(name, f"give {allowed} or leave it out" if allowed else "leave it out")

    def raw(self, name: str) -> Any:
        return self._given.get(name)

    def text(self, name: str) -> str:
        value = self._given.get(name)
        if value is None:
            raise Refused(f"{name} is missing", param=name)
        if not isinstance(value, str) or not value:
            raise Refused(f"{name} must be a text, not {shown(value)}", param=name)
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        value = self._given.get(name, default)
        if not isinstance(value, bool):
            raise Refused(f"{name} must be true or false, not {shown(value)}", param=name)
        return value

    def whole(self, name: str, low: int, high: int | None = None) -> int | None:
        """An integer in a range, both ends included."""
        value = self._given.get(name)
        if value is None:
            return None
        if type(value) is not int or value < low or (high is not None and value > high):
            bounds = f"from {low} to {high}" if high is not None else f"of at least {low}"
            raise Refused(f"{name} must be an integer {bounds}, not {shown(value)}", param=name)
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        value = self._given.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise Refused(f"{name} must be a number from {low:g} to {high:g}, not {shown(value)}", param=name)
        return float(value)

    def integers(self, name: str) -> list[int]:
        value = self._given.get(name, [])
        if not isinstance(value, list) or not all(type(item) is int and 0 <= item < 2**31 for item in value):
            raise Refused(f"{name} must be a list of token ids", param=name)
        return value

    def wanted(self, num_top: int | None, max_tokens: int | None) -> Wanted:
        """The fields that both kinds share."""
        top_p = self.number("top_p", 1.0, 0.0, 1.0)
        if top_p == 0.0:
            raise Refused("top_p must be above 0; for the best token alone give temperature 0", param="top_p")
        top_k = self.whole("top_k", -1)
        seed = self.whole("seed", -(2**63), 2**63 - 1)
        options = self.raw("stream_options")
        stream = self.flag("stream")
        return Wanted(
            model=self.text("model"),
            num_samples=self.whole("n", 1, MAX_SAMPLES) or 1,
            temperature=self.number("temperature", 1.0, 0.0, 100.0),
            top_p=top_p,
            top_k=top_k if top_k is not None and top_k > 0 else None,
            seed=secrets.randbits(63) if seed is None else seed,
            max_tokens=max_tokens,
            stop=self._stops(),
            stop_token_ids=frozenset(self.integers("stop_token_ids")),
            ignore_eos=self.flag("ignore_eos"),
            num_top=num_top,
            stream=stream,
            tells_usage=_tells_usage(options, stream),
            tells_ids=self.flag("return_token_ids"),
            marks_ids=self.flag("return_tokens_as_token_ids"),
            keeps_special=not self.flag("skip_special_tokens", True),
        )

    def _stops(self) -> tuple[str, ...]:
        value = self._given.get("stop", [])
        stops = [value] if isinstance(value, str) else value
        if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
            raise Refused("stop must be a text or a list of texts, none of them empty", param="stop")
        if len(stops) > MAX_STOPS:
            raise Refused(f"stop holds {len(stops)} texts; at most {MAX_STOPS} can be watched for", param="stop")
        return tuple(stops)


def _tells_usage(options: Any, stream: bool) -> bool:
    if options is None:
        return False
    if not stream:
        raise Refused("stream_options needs stream=true", param="stream_options")
    if not isinstance(options, Mapping) or not isinstance(options.get("include_usage", False), bool):
        raise Refused('stream_options must be {"include_usage": true} or false', param="stream_options")
    others = options.keys() - {"include_usage", "include_obfuscation", "continuous_usage_stats"}
    if others or options.get("continuous_usage_stats"):
        name = next(iter(others), "continuous_usage_stats")
        raise not_supported(f"stream_options.{name}", "leave it out")
    return bool(options.get("include_usage", False))


def _equal(value: Any, neutral: Any) -> bool:
    """Whether they are the same JSON; 0 and 0.0 are, 0 and false are not."""
    return isinstance(value, bool) == isinstance(neutral, bool) and bool(value == neutral)


def shown(value: Any) -> str:
    """A value for a message: at most 60 characters."""
    if isinstance(value, float) and not math.isfinite(value):
        return "that"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
