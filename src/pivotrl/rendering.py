"""Messages <-> token ids, and a completion's text -> an action.

Each turn is rendered alone. Two ways, chosen once per tokenizer: ``chatml`` writes ChatML with Hermes tool blocks
itself; ``template`` uses the tokenizer's own chat template. Either way text inside a log never becomes a control token.
Training uses the token ids that were sampled; text is for people and verifiers.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from pivotrl.chatml import ChatML
from pivotrl.parsing import action_text, parse_completion, style_names, write_action
from pivotrl.protocols import InputError, Turn
from pivotrl.records import Action, Message, Tool
from pivotrl.templates.control_tokens import NotRenderable

if TYPE_CHECKING:
    from pivotrl.templates.encoding import Templated

__all__ = ["NotRenderable", "Rendered", "Renderer", "action_text", "parse_completion", "prompt_hash"]

DATE = datetime.date(2024, 7, 26)
"""What a template that asks for today's date is told, unless another one is given."""


def prompt_hash(token_ids: Sequence[int]) -> str:
    return hashlib.sha256(np.asarray(token_ids, dtype="<i8").tobytes()).hexdigest()[:32]


class Rendered(NamedTuple):
    """A turn with an action. ``mask_T`` is true at the action's tokens, its end token included."""

    token_ids_T: tuple[int, ...]
    mask_T: tuple[bool, ...]


class Renderer:
    """Renders turns for one tokenizer of transformers.

    Args:
        tokenizer: a fast tokenizer.
        style: ``chatml``, ``template``, or ``auto``: ChatML when the tokenizer has its control tokens and no template
            that knows tools, else the template.
        reasoning: what becomes of thoughts in earlier turns. ``template``: what the template does (our ChatML leaves
            them out); ``keep``: they are written, or the turn is refused; ``strip``: they are left out.
        actions: how the agent writes its actions, a style of :mod:`pivotrl.parsing`; ``auto``: as ChatML or the
            template writes tool calls. Any other is text to the model.
        date: what a template is told that asks for today's; a prompt must not depend on the day.
        variables: further variables for the template, such as ``{"enable_thinking": False}``.
        stop_ids: tokens that end a sample beside the template's own and the tokenizer's, such as those of the model's
            generation_config.json.

    Raises:
        InputError: the tokenizer has neither a chat template nor ChatML control tokens, or its template cannot be used.
    """

    def __init__(
        self,
        tokenizer: Any,
        style: Literal["auto", "chatml", "template"] = "auto",
        *,
        reasoning: Literal["template", "keep", "strip"] = "template",
        actions: str = "auto",
        date: datetime.date = DATE,
        variables: Mapping[str, Any] | None = None,
        stop_ids: Collection[int] = (),
    ) -> None:
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
        if actions != "auto" and actions not in style_names():
            raise InputError(f"no style of actions called {actions!r}; there are auto, {', '.join(style_names())}")
        self.style, self.actions = style, actions
        if style == "chatml":
            self._chatml = ChatML(tokenizer, reasoning == "keep")
            self.start_id, self.end_id = self._chatml.start_id, self._chatml.end_id
            self.stop_ids, self.identity = self._chatml.stop_ids, self._chatml.identity
        else:
            from pivotrl.templates.encoding import Templated  # needs jinja2, which ChatML does not

            # There may be one template with tools and one without.
            sources: list[str] = [tokenizer.get_chat_template(None, tools=tools) for tools in ([{"": ""}], None)]
            found = {s: Templated(tokenizer, s, reasoning, date, variables or {}) for s in dict.fromkeys(sources)}
            self._with_tools, self._without_tools = found[sources[0]], found[sources[1]]
            self.end_id, self.identity = self._with_tools.end_id, self._with_tools.identity
            self.stop_ids = self._with_tools.stop_ids | self._without_tools.stop_ids
        self.stop_ids |= frozenset(stop_ids)
        self.identity |= {"reasoning": reasoning} if reasoning != "template" else {}
        self.identity |= {"actions": actions} if actions != "auto" else {}
        self._prompt = functools.lru_cache(maxsize=4096)(self._render)

    def encode_text(self, text: str) -> list[int]:
        """Token ids of data: control strings inside it are spelled out, never taken as control tokens."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        return ids

    def prompt(self, turn: Turn) -> tuple[int, ...]:
        """Token ids of everything the policy sees before it acts, the generation prompt included.

        Raises:
            NotRenderable: the chat template cannot write the turn as it is.
        """
        tools = json.dumps([tool.model_dump() for tool in turn.trajectory.tools])
        return self._prompt(turn.context, tools)

    def _render(self, context: tuple[Message, ...], tools: str) -> tuple[int, ...]:
        """``tools``: their JSON text, so that it can be part of the cache key."""
        declared = [Tool(**tool) for tool in json.loads(tools)]
        if self.style == "chatml":
            return tuple(self._chatml.prompt(context, declared))
        return tuple(self._templated(declared).prompt(context, declared, own_calls=self.actions == "auto"))

    def _templated(self, tools: Sequence[Tool]) -> Templated:
        return self._with_tools if tools else self._without_tools

    def left_out(self, turn: Turn) -> tuple[str, ...]:
        """What the chat template leaves out of a turn's context by its own rules, such as earlier thoughts.

        Raises:
            NotRenderable: as :meth:`prompt`.
        """
        if self.style == "chatml":
            return ()
        return self._templated(turn.trajectory.tools).left_out(turn.context, turn.trajectory.tools)

    def encode_action(self, action: Action, turn: Turn | None = None) -> list[int]:
        """The action's token ids as a policy would emit them, end token included.

        Args:
            turn: where it acts. A chat template may write the same action differently at another turn.

        Raises:
            NotRenderable: the chat template cannot write the action, or would write it as something else.
        """
        context = turn.context if turn else (Message(role="user", content="Hello"),)
        tools = turn.trajectory.tools if turn else ()
        if self.actions != "auto":
            try:
                action = Action(content=write_action(action, self.actions, tools=tools))
            except ValueError as error:
                raise NotRenderable(str(error)) from None
        if self.style == "chatml":
            return self._chatml.answer(action)
        return self._templated(tools).answer(context, tools, action, own_calls=self.actions == "auto")

    def parse(self, text: str, turn: Turn) -> tuple[Action, str | None]:
        """(the action that a completion's text means at this turn, what is wrong with the text or None)"""
        tools = turn.trajectory.tools
        if self.style == "chatml":
            return parse_completion(text, "hermes" if self.actions == "auto" else self.actions, tools=tools)
        return self._templated(tools).answers.read(text, tools, None if self.actions == "auto" else self.actions)

    def rendered(self, turn: Turn, action: Action) -> Rendered:
        """The turn's prompt with an action, and which tokens are the action.

        Raises:
            NotRenderable: as :meth:`prompt` and :meth:`encode_action`.
        """
        prompt, answer = self.prompt(turn), self.encode_action(action, turn)
        return Rendered((*prompt, *answer), (False,) * len(prompt) + (True,) * len(answer))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of a completion, without its stop token."""
        kept = list(token_ids[:-1]) if token_ids and token_ids[-1] in self.stop_ids else list(token_ids)
        text: str = self.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text
