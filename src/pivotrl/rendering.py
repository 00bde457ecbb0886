"""Messages <-> token ids, and a completion's text -> an action.

Each turn is rendered alone. Two ways, chosen once per tokenizer: ``chatml`` writes ChatML with Hermes tool blocks
itself, so that text inside a log can never become a control token; ``template`` uses the tokenizer's own chat
template. Training uses the token ids that were sampled; text is for people and verifiers.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from pivotrl.protocols import InputError, Turn
from pivotrl.records import Action, Message, Tool, ToolCall

_TOOL_PROMPT = (
    "You may call tools. They are listed as JSON between <tools> and </tools>:\n<tools>\n{tools}\n</tools>\n"
    "To call one, write its name and arguments as JSON between tool_call tags:\n"
    '<tool_call>\n{{"name": "...", "arguments": {{...}}}}\n</tool_call>'
)
_TOOL_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>\s*", re.DOTALL)


def parse_completion(text: str) -> tuple[Action, str | None]:
    """(action, what is wrong with the text or None).

    A thought in front is not part of the action. A tool call that is cut off or is not JSON is an error, never a
    message: the caller gets an empty action with the reason.
    """
    body = _THOUGHT.sub("", text, count=1)
    if "<think>" in body and "</think>" not in body:
        return Action(), "thought_not_closed"
    calls = []
    for block in _TOOL_CALL.findall(body):
        try:
            value = json.loads(block)
        except (ValueError, RecursionError):
            return Action(), "tool_call_is_not_json"
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            return Action(), "tool_call_has_no_name"
        arguments = value.get("arguments", {})
        calls.append(
            ToolCall(name=value["name"], arguments=arguments if isinstance(arguments, str) else json.dumps(arguments))
        )
    rest = _TOOL_CALL.sub("", body)
    if "<tool_call>" in rest or "</tool_call>" in rest:
        return Action(), "tool_call_not_closed"
    return Action(content=rest.strip() or None, tool_calls=tuple(calls)), None


def action_text(action: Action | Message) -> str:
    """An action as a policy writes it: text, then one Hermes block per tool call."""
    parts = [action.content] if action.content else []
    for call in action.tool_calls:
        try:
            arguments = json.loads(call.arguments)
        except (ValueError, RecursionError):
            arguments = call.arguments
        body = json.dumps({"name": call.name, "arguments": arguments}, ensure_ascii=False)
        parts.append(f"<tool_call>\n{body}\n</tool_call>")
    return "\n".join(parts)


def _tool_json(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
    }


def prompt_hash(token_ids: Sequence[int]) -> str:
    return hashlib.sha256(np.asarray(token_ids, dtype="<i8").tobytes()).hexdigest()[:32]


class Renderer:
    """Renders turns for one tokenizer of transformers.

    Args:
        tokenizer: a fast tokenizer.
        style: ``chatml``, ``template``, or ``auto``: ChatML when the tokenizer has its control tokens and no template
            that knows tools, else the template.

    Raises:
        InputError: the tokenizer has neither a chat template nor ChatML control tokens.
    """

    def __init__(self, tokenizer: Any, style: Literal["auto", "chatml", "template"] = "auto") -> None:
        self.tokenizer = tokenizer
        vocabulary = tokenizer.get_vocab()
        has_chatml = "<|im_start|>" in vocabulary and "<|im_end|>" in vocabulary
        template = tokenizer.chat_template
        if style == "auto":
            style = "chatml" if has_chatml and (template is None or "tools" not in str(template)) else "template"
        if style == "chatml" and not has_chatml:
            raise InputError("the tokenizer has no <|im_start|> and <|im_end|>; use --style template")
        if style == "template" and template is None:
            raise InputError("the tokenizer has no chat template; use an instruct model, or one with ChatML tokens")
        self.style = style
        if style == "chatml":
            self.start_id, self.end_id = vocabulary["<|im_start|>"], vocabulary["<|im_end|>"]
        else:
            self.end_id = tokenizer.eos_token_id
        self.stop_ids = frozenset(i for i in (self.end_id, tokenizer.eos_token_id) if i is not None)
        self._prompt = functools.lru_cache(maxsize=4096)(self._render)

    @property
    def identity(self) -> dict[str, str]:
        template = self.tokenizer.chat_template if self.style == "template" else _TOOL_PROMPT
        return {"style": self.style, "template_sha256": hashlib.sha256(str(template).encode()).hexdigest()}

    def encode_text(self, text: str) -> list[int]:
        """Token ids of data: control strings inside it are spelled out, never taken as control tokens."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        return ids

    def prompt(self, turn: Turn) -> tuple[int, ...]:
        """Token ids of everything the policy sees before it acts, the generation prompt included."""
        tools = "\n".join(json.dumps(_tool_json(tool), ensure_ascii=False) for tool in turn.trajectory.tools)
        return self._prompt(turn.context, tools)

    def _render(self, context: tuple[Message, ...], tools: str) -> tuple[int, ...]:
        """``tools``: one JSON object a line, as text so that it can be part of the cache key."""
        return tuple(self._chatml(context, tools) if self.style == "chatml" else self._template(context, tools))

    def _chatml(self, context: Sequence[Message], tools: str) -> list[int]:
        texts: list[tuple[str, str]] = []
        if tools:
            texts.append(("system", _TOOL_PROMPT.format(tools=tools)))
        for message in context:
            if message.role == "system" and texts and texts[-1][0] == "system":
                texts[-1] = ("system", f"{message.content or ''}\n\n{texts[-1][1]}")
            elif message.role == "tool":
                texts.append(("user", f"<tool_response>\n{message.content or ''}\n</tool_response>"))
            else:
                texts.append((message.role, action_text(message)))
        ids: list[int] = []
        for role, text in texts:
            ids += [self.start_id, *self.encode_text(f"{role}\n{text}"), self.end_id, *self.encode_text("\n")]
        return [*ids, self.start_id, *self.encode_text("assistant\n")]

    def _template(self, context: Sequence[Message], tools: str) -> list[int]:
        messages = []
        for message in context:
            entry: dict[str, Any] = {"role": message.role, "content": message.content or ""}
            if message.tool_calls:  # templates print arguments as they are: give the object, not its JSON text
                entry["tool_calls"] = [
                    {"type": "function", "function": {"name": c.name, "arguments": _object(c.arguments)}, "id": c.id}
                    for c in message.tool_calls
                ]
            if message.tool_call_id is not None:
                entry["tool_call_id"] = message.tool_call_id
            messages.append(entry)
        text: str = self.tokenizer.apply_chat_template(
            messages,
            tools=[json.loads(line) for line in tools.splitlines()] or None,
            add_generation_prompt=True,
            tokenize=False,
        )
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def encode_action(self, action: Action) -> list[int]:
        """The action's token ids as a policy would emit them, end token included."""
        return [*self.encode_text(action_text(action)), self.end_id]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of a completion, without its stop token."""
        kept = list(token_ids[:-1]) if token_ids and token_ids[-1] in self.stop_ids else list(token_ids)
        text: str = self.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text


def _object(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
