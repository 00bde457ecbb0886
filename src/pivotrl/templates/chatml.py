"""Our ChatML with Hermes tool blocks, for tokenizers that have its control tokens and no better template."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from pivotrl.parsing import action_text
from pivotrl.records import Action, Message, Tool
from pivotrl.templates.call_results import in_call_order
from pivotrl.text.tool_call_syntax import THOUGHT, function_tool

TOOL_PROMPT = (
    "You may call tools. They are listed as JSON between <tools> and </tools>:\n<tools>\n{tools}\n</tools>\n"
    "To call one, write its name and arguments as JSON between tool_call tags:\n"
    '<tool_call>\n{{"name": "...", "arguments": {{...}}}}\n</tool_call>'
)


class ChatML:
    """Writes conversations for a tokenizer that has ``<|im_start|>`` and ``<|im_end|>``.

    Args:
        keep_reasoning: write thoughts; otherwise leave them out.
    """

    def __init__(self, tokenizer: Any, keep_reasoning: bool) -> None:
        self._tokenizer, self._keep_reasoning = tokenizer, keep_reasoning
        vocabulary = tokenizer.get_vocab()
        self.start_id: int = vocabulary["<|im_start|>"]
        self.end_id: int = vocabulary["<|im_end|>"]
        self.stop_ids = frozenset(i for i in (self.end_id, tokenizer.eos_token_id) if i is not None)
        # Neighbouring turns share most of their messages.
        self._encoded = functools.lru_cache(maxsize=1024)(lambda text: tuple(self.encode_text(text)))

    @property
    def identity(self) -> dict[str, str]:
        return {"style": "chatml", "template_sha256": hashlib.sha256(TOOL_PROMPT.encode()).hexdigest()}

    def prompt(self, context: Sequence[Message], tools: Sequence[Tool]) -> list[int]:
        """Token ids of everything before the answer, the generation prompt included.

        Raises:
            NotRenderable: see :func:`pivotrl.templates.call_results.in_call_order`; this form shows no ids.
        """
        texts: list[tuple[str, str]] = []
        if tools:
            listed = "\n".join(json.dumps(function_tool(tool), ensure_ascii=False) for tool in tools)
            texts.append(("system", TOOL_PROMPT.format(tools=listed)))
        for message in in_call_order(context):
            if message.role == "system" and texts and texts[-1][0] == "system":
                texts[-1] = ("system", f"{message.content or ''}\n\n{texts[-1][1]}")
            elif message.role == "tool":
                texts.append(("user", f"<tool_response>\n{message.content or ''}\n</tool_response>"))
            else:
                texts.append((message.role, self._thought(message.reasoning) + action_text(message)))
        ids: list[int] = []
        for role, text in texts:
            ids += [self.start_id, *self._encoded(f"{role}\n{text}"), self.end_id, *self._encoded("\n")]
        return [*ids, self.start_id, *self._encoded("assistant\n")]

    def answer(self, action: Action, thought: str | None = None) -> list[int]:
        """Token ids of an action, the end token included; with what the agent thought where thoughts are kept."""
        return [*self.encode_text(self._thought(thought) + action_text(action)), self.end_id]

    def encode_text(self, text: str) -> list[int]:
        """Token ids of data: control strings inside it are spelled out, never taken as control tokens."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        return ids

    def _thought(self, thought: str | None) -> str:
        return f"{THOUGHT[0]}\n{thought}\n{THOUGHT[1]}\n\n" if self._keep_reasoning and thought else ""
