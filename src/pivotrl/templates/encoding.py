"""Token ids of conversations and answers under a tokenizer's own chat template."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pivotrl.parsing import canonical
from pivotrl.protocols import InputError, NotRenderable
from pivotrl.records import Action, Message, Tool
from pivotrl.templates.bounded_jinja import ChatProgram
from pivotrl.templates.capabilities import probe
from pivotrl.templates.control_tokens import ControlTokens
from pivotrl.templates.conversation import ChatTemplate, Reasoning
from pivotrl.templates.prompt import Prompt
from pivotrl.text.thoughts import Marks, begins_with_thought, known_thoughts, opened_thought


class Templated:
    """Writes conversations with a chat template, and answers as it would have written them.

    Args:
        tokenizer: a fast tokenizer of transformers.
        source: the template's text.
        reasoning: see :class:`pivotrl.templates.conversation.ChatTemplate`.
        date: what ``strftime_now`` says.
        variables: further variables for the template.

    Raises:
        InputError: the template is not safe to run, or writes answers in a form that cannot be read.
    """

    def __init__(
        self, tokenizer: Any, source: str, reasoning: Reasoning, date: datetime.date, variables: Mapping[str, Any]
    ) -> None:
        self._tokenizer, self._eos = tokenizer, tokenizer.eos_token
        try:
            program = ChatProgram(source, date)
        except ValueError as error:
            raise InputError(str(error)) from None
        controls = ControlTokens(tokenizer, source)
        template = ChatTemplate(program, controls, {**tokenizer.special_tokens_map, **variables}, reasoning=reasoning)
        self.answers = probe(template, self._eos, known_thoughts(source, tokenizer.get_added_vocab()))
        if not self.answers.ends:
            raise InputError("the chat template does not end an answer, and the tokenizer has no end token")
        if not self.answers.reads_text:
            raise InputError("the chat template writes answers in a form that cannot be read back")
        self._identity = {
            "style": "template",
            "template_sha256": hashlib.sha256(source.encode()).hexdigest(),
            "actions": self.answers.style or "text",
            "reasoning": reasoning,
            "date": date.isoformat(),
            "variables": json.dumps(dict(variables), sort_keys=True),
        }

    @property
    def identity(self) -> dict[str, str]:
        return dict(self._identity)

    @property
    def stop_ids(self) -> frozenset[int]:
        return frozenset(self.answers.template.controls.ids[text] for text in self.answers.ends)

    @property
    def end_id(self) -> int:
        """The token that ends a message."""
        number: int = self.answers.template.controls.ids[self.answers.ends[0]]
        return number

    def prompt(self, context: Sequence[Message], tools: Sequence[Tool], own_calls: bool = True) -> Prompt:
        """Everything before the answer, the generation prompt included.

        Args:
            own_calls: the agent writes tool calls as the template does, so these must be readable.

        Raises:
            NotRenderable: see :meth:`ChatTemplate.prompt`.
        """
        self._check_calls(context, bool(tools) and own_calls)
        controls, marked = self.answers.template.controls, self.answers.template.prompt(context, tools).marked
        return Prompt(tuple(controls.encode(marked)), self._opened(marked))

    def left_out(self, context: Sequence[Message], tools: Sequence[Tool]) -> tuple[str, ...]:
        """What the template leaves out of a conversation by its own rules."""
        return self.answers.template.prompt(context, tools).left_out

    def read(
        self, text: str, tools: Sequence[Tool], style: str | None, prompt: Prompt | None
    ) -> tuple[Action, str | None]:
        """What an answer means; see :meth:`Answers.read`.

        Args:
            prompt: what it answers; None when that cannot be written.
        """
        return self.answers.read(text, tools, style, prompt.opened if prompt else self.answers.opened)

    def answer(
        self,
        context: Sequence[Message],
        tools: Sequence[Tool],
        action: Action,
        own_calls: bool = True,
        thought: str | None = None,
    ) -> list[int]:
        """Token ids that the template would have written for an action after this context, the end token included.

        Args:
            own_calls: see :meth:`prompt`; otherwise the action is a message and nothing in it is a call.
            thought: what the agent thought before it acted; empty when that is not known, None when it thought nothing.
                It is written where the template writes thoughts, and an empty one is never written in its place.

        Raises:
            NotRenderable: it would have written something that is not the action, or not as a continuation of its
                own generation prompt, or an empty thought for one that is known or was had.
        """
        self._check_calls(context, bool(action.tool_calls))
        template = self.answers.template
        prompt = template.prompt(context, tools).marked
        if thought and template.reasoning != "strip":
            try:
                whole = template.answered(context, tools, action, thought)
                if thought not in template.controls.plain(whole):
                    raise NotRenderable("the chat template rewrites the thought before the action")
                return self._encoded(prompt, whole, tools, action, own_calls)
            except NotRenderable:
                if template.reasoning == "keep":
                    raise
        whole = template.answered(context, tools, action)
        if thought is not None and self._thinks_nothing(prompt, whole):
            raise NotRenderable(
                "the thought before the action is not written, and the chat template writes an empty one instead; "
                "with many templates variables={'enable_thinking': False} puts that into the prompt"
            )
        return self._encoded(prompt, whole, tools, action, own_calls)

    def _encoded(self, prompt: str, whole: str, tools: Sequence[Tool], action: Action, own_calls: bool) -> list[int]:
        """Token ids of what follows the prompt in a marked text, up to the end token, if that is the action."""
        controls, opened = self.answers.template.controls, self._opened(prompt)
        if not whole.startswith(prompt):
            raise NotRenderable("the chat template does not continue its own generation prompt with this action")
        text, end = self.answers.until_end(whole[len(prompt) :])
        found, error = self.answers.read(controls.plain(text), tools, None if own_calls else "text", opened)
        if error or found != canonical(action):
            raise NotRenderable(f"the chat template would write this action as {error or 'another one'}")
        text += controls.marked(end or self._eos or self.answers.ends[0])
        before, ids = controls.encode(prompt), controls.encode(prompt + text)
        if ids[: len(before)] == before:
            return ids[len(before) :]
        ids = controls.encode(text)  # its beginning merges with the end of the prompt, which the model has already seen
        if self._decode(before + ids) != controls.plain(prompt + text):
            raise NotRenderable("the action cannot be tokenized apart from its prompt")
        return ids

    def _thinks_nothing(self, prompt: str, whole: str) -> bool:
        """Whether an answer begins with a thought, or closes one at once, though none was given to it."""
        if not whole.startswith(prompt):
            return False
        text = self.answers.template.controls.plain(whole[len(prompt) :])
        return bool(self._opened(prompt) or begins_with_thought(text, self.answers.thoughts))

    def _opened(self, marked: str) -> Marks | None:
        return opened_thought(self.answers.template.controls.plain(marked), self.answers.thoughts)

    def _check_calls(self, context: Sequence[Message], more: bool) -> None:
        """Refuses tool calls, in the context or ``more``, when the template has no way of writing them."""
        if self.answers.style is None and (more or any(message.tool_calls for message in context)):
            raise NotRenderable(self.answers.fault)

    def _decode(self, token_ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text
