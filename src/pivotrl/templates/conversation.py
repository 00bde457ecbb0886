"""Conversations rendered by a model's chat template, as marked text in which data stays data.

Every text is checked. The same conversation is rendered with stand-ins for its data: a stand-in that is missing is
something the template leaves out, and the control tokens around the stand-ins are the only ones there may be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pivotrl.protocols import NotRenderable
from pivotrl.records import Action, Message, Tool, ToolCall
from pivotrl.templates.bounded_jinja import ChatProgram
from pivotrl.templates.call_results import Place, answered_calls, in_call_order
from pivotrl.templates.control_tokens import ControlTokens
from pivotrl.templates.stand_ins import Seals, StandIns, replaced
from pivotrl.text.tool_call_syntax import THOUGHT, canonical_arguments

Reasoning = Literal["template", "keep", "strip"]


@dataclass(frozen=True)
class Form:
    """The message format that a template expects."""

    parts: bool = False
    """Contents are lists of parts instead of texts."""
    text_arguments: bool = False
    """Arguments are JSON text instead of an object."""
    short_ids: bool = False
    """Ids of calls have nine letters or digits."""
    shows_ids: bool = False
    """Ids of calls stand at the calls and at their results; else results stand in the order of their calls."""


@dataclass(frozen=True)
class Written:
    """A rendered conversation."""

    marked: str
    """See :mod:`pivotrl.templates.control_tokens`."""
    left_out: tuple[str, ...] = ()
    """Parts that the template left out by its own rules, such as ``messages[3]: text beside a tool call``."""


@dataclass(frozen=True)
class ChatTemplate:
    """One chat template with one tokenizer's control tokens.

    Args:
        variables: what the template may refer to besides messages and tools: ``bos_token``, ``enable_thinking`` ...
        reasoning: how to treat thoughts in earlier turns. ``template``: the template decides; ``keep``: they are
            written, or the turn is refused; ``strip``: they are left out.
    """

    program: ChatProgram
    controls: ControlTokens
    variables: Mapping[str, Any]
    form: Form = Form()
    reasoning: Reasoning = "template"

    def prompt(self, context: Sequence[Message], tools: Sequence[Tool]) -> Written:
        """Everything before the answer, the generation prompt included.

        Raises:
            NotRenderable: the template refuses the conversation, or leaves out or rewrites part of it.
        """
        return self._write(context, tools, True)

    def answered(
        self, context: Sequence[Message], tools: Sequence[Tool], action: Action, thought: str | None = None
    ) -> str:
        """Marked text of the conversation with an action at its end.

        Args:
            thought: what the agent thought before it acted.

        Raises:
            NotRenderable: as :meth:`prompt`; also when the action or the thought is not written whole.
        """
        last = Message(role="assistant", content=action.content, tool_calls=action.tool_calls, reasoning=thought)
        written = self._write([*context, last], tools, False)
        if lost := [loss for loss in written.left_out if loss.startswith(f"messages[{len(context)}]")]:
            what = "thought" if lost[0].endswith("reasoning") else "text beside the tool calls"
            raise NotRenderable(f"the chat template leaves out the {what} of the action")
        return written.marked

    def render(self, context: Sequence[Message], tools: Sequence[Tool]) -> str:
        """The text up to the answer as the template writes it, whatever becomes of the data.

        Raises:
            NotRenderable: the template refuses the conversation.
        """
        return self._render(context, tools, True, False)

    def _write(self, context: Sequence[Message], tools: Sequence[Tool], generation: bool) -> Written:
        if not self.form.shows_ids:
            context = in_call_order(context)
        if self.reasoning == "strip":
            context = [message.model_copy(update={"reasoning": None}) for message in context]
        for thoughts_in_text in (False, True):
            text = self._render(context, tools, generation, thoughts_in_text)
            seals = Seals(self.controls, text)
            messages, declared = replaced(context, tools, seals)
            expected, missing = self._expectation(messages, declared, generation, thoughts_in_text)
            lost = [loss for loss in missing if loss.endswith("reasoning")]
            if self.reasoning != "keep" or not lost:
                break
        else:
            raise NotRenderable(f"the chat template leaves out {lost[0]}")
        sealed = self._render(messages, declared, generation, thoughts_in_text) if seals.used else text
        if seals.opened(sealed) != text:
            raise NotRenderable(
                f"the chat template treats {', '.join(map(repr, seals.used))} inside data in its own way"
            )
        if self.controls.found_in(sealed) != expected:
            raise NotRenderable(
                "the chat template writes other control tokens around this data than around harmless data"
            )
        for index, message in enumerate(context):
            spelled = (message.content or "").strip()
            skipped = f"messages[{index}]: text beside a tool call" in missing
            if not skipped and spelled not in text and json.dumps(spelled, ensure_ascii=False)[1:-1] not in text:
                raise NotRenderable(f"the chat template rewrites the text of messages[{index}] ({message.role})")
        return Written(seals.opened(self.controls.marked(sealed)), missing)

    def _expectation(
        self, context: Sequence[Message], tools: Sequence[Tool], generation: bool, thoughts_in_text: bool
    ) -> tuple[list[str], tuple[str, ...]]:
        """(the control strings around harmless data, what is left out by the template's own rules)"""
        stand_ins = StandIns()
        messages, declared = replaced(context, tools, stand_ins)
        text = self._render(messages, declared, generation, thoughts_in_text)
        missing = []
        for index, message in enumerate(messages):
            place = f"messages[{index}]"
            if stand_ins.missing(message.content, text):
                if not message.tool_calls:
                    raise NotRenderable(f"the chat template leaves out {place} ({message.role})")
                missing.append(f"{place}: text beside a tool call")
            if stand_ins.missing(message.reasoning, text):
                missing.append(f"{place}: reasoning")
            for call in message.tool_calls:
                if stand_ins.missing(call.name, text) or stand_ins.missing(call.arguments, text):
                    raise NotRenderable(f"the chat template leaves out the tool calls of {place}")
        for tool in declared:
            if stand_ins.missing(tool.name, text) or stand_ins.missing(tool.description, text):
                raise NotRenderable("the chat template leaves out the tools")
        return self.controls.found_in(text), tuple(missing)

    def _render(
        self, context: Sequence[Message], tools: Sequence[Tool], generation: bool, thoughts_in_text: bool
    ) -> str:
        variables = {
            **self.variables,
            "messages": self._entries(context, thoughts_in_text),
            "tools": [tool_json(tool) for tool in tools] or None,
            "documents": None,
            "add_generation_prompt": generation,
        }
        try:
            return self.program.render(variables)
        except ValueError as error:
            raise NotRenderable(str(error)) from None

    def _entries(self, context: Sequence[Message], thoughts_in_text: bool) -> list[dict[str, Any]]:
        entries, answered = [], answered_calls(context)
        ids = self._call_ids(context)
        latest = {call.id: (i, n) for i, message in enumerate(context) for n, call in enumerate(message.tool_calls)}
        for index, message in enumerate(context):
            content = message.content or ""
            entry: dict[str, Any] = {"role": message.role}
            if message.reasoning and thoughts_in_text:
                content = f"{THOUGHT[0]}\n{message.reasoning}\n{THOUGHT[1]}\n\n{content}"
            elif message.reasoning:
                entry |= dict.fromkeys(("thinking", "reasoning_content", "reasoning"), message.reasoning)
            entry["content"] = [{"type": "text", "text": content}] if self.form.parts else content
            if message.tool_calls:
                entry["tool_calls"] = [
                    self._call_entry(call, ids[index, number]) for number, call in enumerate(message.tool_calls)
                ]
            if message.role == "tool":
                place = answered.get(index) or latest.get(message.tool_call_id or "")
                number = (ids[place] if place else None) if self.form.short_ids else message.tool_call_id
                entry |= {"tool_call_id": number} if number is not None else {}
                entry |= {"name": context[place[0]].tool_calls[place[1]].name} if place else {}
            entries.append(entry)
        return entries

    def _call_ids(self, context: Sequence[Message]) -> dict[Place, str | None]:
        """The ids of calls as the template wants them: as they are, or numbered in nine letters and digits."""
        calls = [(i, n) for i, message in enumerate(context) for n in range(len(message.tool_calls))]
        if self.form.short_ids:
            return {place: f"call{number:05d}" for number, place in enumerate(calls, start=1)}
        return {(i, n): context[i].tool_calls[n].id for i, n in calls}

    def _call_entry(self, call: ToolCall, number: str | None) -> dict[str, Any]:
        try:
            text = canonical_arguments(call)
        except ValueError as error:
            raise NotRenderable(str(error)) from None
        arguments = text if self.form.text_arguments else json.loads(text)
        entry = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
        return entry if number is None else {**entry, "id": number}


def tool_json(tool: Tool) -> dict[str, Any]:
    """A tool as templates know it."""
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }
