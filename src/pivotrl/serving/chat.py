"""Chat completions: messages and tools to a prompt, samples to messages."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pivotrl.protocols import NotRenderable, Turn
from pivotrl.protocols.live import LiveToken
from pivotrl.reading.chat_messages import chat_message, declared_tools
from pivotrl.records import Message, Tool, ToolCall, Trajectory
from pivotrl.serving.fields import CHAT, MAX_TOP, Fields, Wanted
from pivotrl.serving.logprobs import chat_logprobs
from pivotrl.serving.refusals import Refused, not_supported
from pivotrl.serving.served import Running, Served
from pivotrl.serving.speech import Reader, Speech
from pivotrl.serving.texts import SampleText


@dataclass(frozen=True)
class ChatRequest:
    """A request that was read, but not yet written for a model."""

    wanted: Wanted
    turn: Turn
    calls_allowed: int | None

    @classmethod
    def of(cls, body: Any) -> ChatRequest:
        """
        Raises:
            Refused: a field is wrong or cannot be followed.
        """
        fields = Fields(body, CHAT)
        num_top = None
        if fields.flag("logprobs"):
            num_top = fields.whole("top_logprobs", 0, MAX_TOP) or 0
        elif fields.raw("top_logprobs"):
            raise Refused("top_logprobs needs logprobs=true", param="top_logprobs")
        new, old = fields.whole("max_completion_tokens", 1), fields.whole("max_tokens", 1)
        if new is not None and old is not None and new != old:
            raise Refused("give max_completion_tokens or max_tokens, not both", param="max_tokens")
        wanted = fields.wanted(num_top, new if new is not None else old)
        tools = _tools(fields.raw("tools"))
        choice = fields.raw("tool_choice")
        if choice not in (None, "auto", "none"):
            raise not_supported("tool_choice", "sampling cannot be forced into a call; give 'auto' or 'none'")
        if choice is not None and not tools and choice != "none":
            raise Refused("tool_choice needs tools", param="tool_choice")
        if choice == "none":
            tools = ()
        allowed = 0 if not tools else None if fields.flag("parallel_tool_calls", True) else 1
        messages = _messages(fields.raw("messages"))
        trajectory = Trajectory(id="request", task_id="request", messages=messages, tools=tools)
        return cls(wanted, Turn(trajectory, len(messages)), allowed)

    def run(self, served: Served) -> Chat:
        """
        Raises:
            Refused: the model's template cannot write the messages, or they are too long for it.
        """
        try:
            prompt = served.renderer.prompt(self.turn)
        except NotRenderable as error:
            raise Refused(f"the model's template cannot write these messages: {error}", param="messages") from None
        ask = served.ask(prompt, self.wanted, None, "messages")
        running = Running(served, [ask], self.wanted, keeps_special=True)
        return Chat(served, running, Reader(served.renderer, self.turn, self.calls_allowed))


def _messages(items: Any) -> tuple[Message, ...]:
    if not isinstance(items, list) or not items:
        raise Refused("messages must be a list with at least one message", param="messages")
    messages = []
    for number, item in enumerate(items):
        try:
            messages.append(chat_message(item))
        except ValueError as error:
            raise Refused(f"messages[{number}]: {error}", param=f"messages[{number}]") from None
    return tuple(messages)


def _tools(value: Any) -> tuple[Tool, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise Refused("tools must be a list", param="tools")
    for number, item in enumerate(value):
        function = item.get("function") if isinstance(item, dict) else None
        if isinstance(function, dict) and function.get("strict"):
            raise not_supported(f"tools[{number}].function.strict", "sampling cannot be forced into a schema")
    try:
        return declared_tools(value)
    except ValueError as error:
        raise Refused(f"tools: {error}", param="tools") from None


@dataclass
class _Told:
    """What of a sample was sent."""

    content: str = ""
    reasoning: str = ""
    num_tokens: int = 0
    is_open: bool = False


@dataclass
class Chat:
    """One answer in the making."""

    served: Served
    running: Running
    reader: Reader
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    async def answer(self) -> dict[str, Any]:
        """The whole answer.

        Raises:
            Refused: the backend cannot go on.
        """
        await self.running.finished()
        choices = [self._choice(number, sample) for number, sample in enumerate(self.running.samples[0])]
        return {
            **self._head("chat.completion"),
            "choices": choices,
            "usage": self.running.usage,
            **({"prompt_token_ids": list(self.running.asks[0].prompt)} if self.running.wanted.tells_ids else {}),
        }

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.served.name,
            "system_fingerprint": self.served.sha256[:16],
        }

    def _choice(self, number: int, sample: SampleText) -> dict[str, Any]:
        speech = self.reader.whole(sample)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": speech.content or (None if speech.calls else ""),
            "refusal": None,
        }
        if speech.reasoning:
            message["reasoning_content"] = speech.reasoning
        if speech.calls:
            message["tool_calls"] = self._calls(number, speech.calls)
        return {
            "index": number,
            "message": message,
            "logprobs": chat_logprobs(sample.tokens, self.running.wanted, self.served),
            **self._end(sample, speech),
            **({"token_ids": sample.token_ids} if self.running.wanted.tells_ids else {}),
        }

    def _end(self, sample: SampleText, speech: Speech) -> dict[str, Any]:
        return {
            "finish_reason": "tool_calls" if speech.calls else sample.finish,
            "stop_reason": sample.stop_reason,
            **({"parse_error": speech.parse_error} if speech.parse_error else {}),
        }

    def _calls(self, number: int, calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
        """With ids that no other answer has."""
        return [
            {
                "id": f"call_{self.id.removeprefix('chatcmpl-')}_{number}_{place}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for place, call in enumerate(calls)
        ]

    async def stream(self) -> AsyncGenerator[dict[str, Any], None]:
        """The answer in parts. Text is sent once the parser cannot take it for a part of a call or a thought; calls
        are sent whole, at the end.

        Raises:
            Refused: the backend cannot go on.
        """
        told = [_Told() for _ in self.running.samples[0]]
        async for _, number in self.running.changes():
            sample = self.running.samples[0][number]
            speech = self.reader.so_far(sample) if sample.finish is None else self.reader.whole(sample)
            delta = _delta(speech, told[number])
            if delta:
                yield self._part(number, delta, sample, told[number])
            if sample.finish is not None:
                if speech.calls:
                    calls = [{"index": i, **call} for i, call in enumerate(self._calls(number, speech.calls))]
                    yield self._part(number, {"tool_calls": calls}, sample, told[number])
                yield self._part(number, {}, sample, told[number], self._end(sample, speech))
        if self.running.wanted.tells_usage:
            yield {**self._head("chat.completion.chunk"), "choices": [], "usage": self.running.usage}

    def _part(
        self, number: int, delta: dict[str, Any], sample: SampleText, told: _Told, end: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        wanted, tokens = self.running.wanted, list[LiveToken]()
        if not told.is_open:
            delta, told.is_open = {"role": "assistant", "content": "", **delta}, True
        if wanted.num_top is not None or wanted.tells_ids:
            tokens = sample.tokens[told.num_tokens :]
            told.num_tokens = len(sample.tokens)
        choice = {
            "index": number,
            "delta": delta,
            "logprobs": chat_logprobs(tokens, wanted, self.served) if tokens else None,
            "finish_reason": None,
            **(end or {}),
            **({"token_ids": [token.token_id for token in tokens]} if wanted.tells_ids else {}),
        }
        usage = {"usage": None} if wanted.tells_usage else {}
        return {**self._head("chat.completion.chunk"), "choices": [choice], **usage}


def _delta(speech: Speech, told: _Told) -> dict[str, Any]:
    """What is new in a text of which the beginning was sent. Nothing if it begins otherwise: a malformed call can show
    late that earlier text belonged to it, and sent text cannot be taken back."""
    delta = {}
    reasoning = speech.reasoning or ""
    if reasoning.startswith(told.reasoning) and (new := reasoning.removeprefix(told.reasoning)):
        delta["reasoning_content"] = new
        told.reasoning = reasoning
    if speech.content.startswith(told.content) and (new := speech.content.removeprefix(told.content)):
        delta["content"] = new
        told.content = speech.content
    return delta
