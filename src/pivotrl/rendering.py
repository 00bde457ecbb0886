"""Messages <-> token ids, and a completion's text -> an action.

Each turn is rendered alone, by the tokenizer's own chat template (``template``) or as ChatML with Hermes tool blocks
that we write ourselves (``chatml``). Either way text inside a log never becomes a control token. Training uses the
token ids that were sampled; text is for people and verifiers.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from pivotrl.parsing import action_text, parse_completion, style_names, write_action
from pivotrl.protocols import InputError, Notice, Turn
from pivotrl.protocols import NotRenderable as NotRenderable
from pivotrl.records import Action, Message, Tool
from pivotrl.templates.chatml import ChatML
from pivotrl.templates.prompt import Prompt

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
        style: ``template``, ``chatml``, or ``auto``: the template wherever there is one; but ours when the template
            knows nothing of tools, the turn needs them, and the tokenizer has ChatML's control tokens.
        reasoning: what becomes of thoughts, in earlier turns and before a demonstrated action. ``template``: what the
            template does (our ChatML leaves them out); ``keep``: they are written, or the turn is refused; ``strip``:
            they are left out.
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
        mixed = style == "auto" and has_chatml
        if style == "auto":
            style = "template" if tokenizer.chat_template or not has_chatml else "chatml"
        if style == "chatml" and not has_chatml:
            raise InputError("the tokenizer has no <|im_start|> and <|im_end|>; leave out style='chatml'")
        if style == "template" and not tokenizer.chat_template:
            raise InputError("the tokenizer has no chat template; use an instruct model, or one with ChatML tokens")
        if actions != "auto" and actions not in style_names():
            raise InputError(f"no style of actions called {actions!r}; there are auto, {', '.join(style_names())}")
        variables = _checked_variables({} if variables is None else variables)
        self.style, self.actions = style, actions
        self._chatml = ChatML(tokenizer, reasoning == "keep") if style == "chatml" or mixed else None
        self._own: tuple[Templated, Templated] | None = None
        if style == "template":
            try:
                self._own = _templates(tokenizer, reasoning, date, variables)
            except InputError as error:
                other = "; --policy \"hf(style='chatml')\" writes prompts without it" if has_chatml else ""
                raise InputError(f"{error}{other}") from None
            if self._own[0].answers.knows_tools:
                self._chatml = None
        writers = [writer for writer in (*(self._own or ()), self._chatml) if writer]
        self.end_id = writers[0].end_id
        self.stop_ids = frozenset(stop_ids).union(*(writer.stop_ids for writer in writers))
        self.identity = writers[0].identity
        if self.tools_in_chatml:
            self.identity["turns_with_tools"] = f"chatml {self._our_chatml.identity['template_sha256']}"
        self.identity |= {"reasoning": reasoning} if reasoning != "template" else {}
        self.identity |= {"actions": actions} if actions != "auto" else {}
        self._has_warned = False
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
        return self._prompt_at(turn).token_ids_T

    def _prompt_at(self, turn: Turn) -> Prompt:
        return self._prompt(turn.context, json.dumps([tool.model_dump() for tool in turn.trajectory.tools]))

    def _render(self, context: tuple[Message, ...], tools: str) -> Prompt:
        """``tools``: their JSON text, so that it can be part of the cache key."""
        declared = [Tool(**tool) for tool in json.loads(tools)]
        if own := self._template_for(context, declared):
            return own.prompt(context, declared, own_calls=self.actions == "auto")
        if self._own and not self._has_warned:
            told = "the model's own chat template knows no tools; turns with tools are our ChatML"
            warnings.warn(told, Notice, stacklevel=2)
            self._has_warned = True
        return Prompt(tuple(self._our_chatml.prompt(context, declared)))

    def _template_for(self, context: Sequence[Message], tools: Sequence[Tool]) -> Templated | None:
        """The chat template that writes a turn; None where our ChatML does."""
        if self._own is None:
            return None
        needs_tools = bool(tools) or any(message.tool_calls or message.role == "tool" for message in context)
        if needs_tools and self._chatml is not None:
            return None
        return self._own[0] if tools else self._own[1]

    @property
    def _our_chatml(self) -> ChatML:
        assert self._chatml is not None
        return self._chatml

    @property
    def tools_in_chatml(self) -> bool:
        """Whether the template writes turns without tools, and our ChatML those that need them."""
        return self._own is not None and self._chatml is not None

    def written_by(self, turn: Turn) -> str:
        """What writes a turn, in words."""
        if self._template_for(turn.context, turn.trajectory.tools):
            return "the model's own chat template"
        if self._own:
            return "our ChatML, as the model's own chat template knows no tools"
        return "our ChatML"

    def left_out(self, turn: Turn) -> tuple[str, ...]:
        """What the chat template leaves out of a turn's context by its own rules, such as earlier thoughts.

        Raises:
            NotRenderable: as :meth:`prompt`.
        """
        own = self._template_for(turn.context, turn.trajectory.tools)
        return own.left_out(turn.context, turn.trajectory.tools) if own else ()

    def encode_action(self, action: Action, turn: Turn | None = None) -> list[int]:
        """The action's token ids as a policy would emit them, end token included.

        The demonstrated action of a turn is written with the thought that the log holds before it, where the template
        writes thoughts; an empty thought is never written in its place. Where the log holds none, the action is
        written as the template writes one without a thought.

        Args:
            turn: where it acts. A chat template may write the same action differently at another turn.

        Raises:
            NotRenderable: the chat template cannot write the action, or would write it as something else, or would
                write an empty thought in place of the log's.
        """
        context = turn.context if turn else (Message(role="user", content="Hello"),)
        tools = turn.trajectory.tools if turn else ()
        thought = _thought_before(action, turn) if turn else None
        if self.actions != "auto":
            try:
                action = Action(content=write_action(action, self.actions, tools=tools))
            except ValueError as error:
                raise NotRenderable(str(error)) from None
        if own := self._template_for(context, tools):
            return own.answer(context, tools, action, self.actions == "auto", thought)
        return self._our_chatml.answer(action, thought)

    def parse(self, text: str, turn: Turn) -> tuple[Action, str | None]:
        """(the action that a completion's text means at this turn, what is wrong with the text or None)"""
        tools = turn.trajectory.tools
        own = self._template_for(turn.context, tools)
        if own is None:
            return parse_completion(text, "hermes" if self.actions == "auto" else self.actions, tools=tools)
        try:
            prompt = self._prompt_at(turn)
        except NotRenderable:
            prompt = None
        return own.read(text, tools, None if self.actions == "auto" else self.actions, prompt)

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


def _templates(
    tokenizer: Any, reasoning: Literal["template", "keep", "strip"], date: datetime.date, variables: Mapping[str, Any]
) -> tuple[Templated, Templated]:
    """The chat templates of a tokenizer for turns with tools and for turns without; often one and the same."""
    from pivotrl.templates.encoding import Templated  # needs jinja2, which ChatML does not

    try:
        sources: list[str] = [tokenizer.get_chat_template(None, tools=tools) for tools in ([{"": ""}], None)]
    except ValueError as error:  # several templates, and none of them is the default
        raise InputError(f"the tokenizer has no default chat template: {error}") from None
    if not all(isinstance(source, str) for source in sources):
        raise InputError("the tokenizer's chat template is no text; copy it anew from the model it was made from")
    found = {source: Templated(tokenizer, source, reasoning, date, variables) for source in dict.fromkeys(sources)}
    return found[sources[0]], found[sources[1]]


_OURS = {"messages", "tools", "documents", "add_generation_prompt"}
"""Variables of a template that follow from the turn."""


def _checked_variables(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    Raises:
        InputError: they are no names with values of JSON, or one of them follows from the turn.
    """
    remedy = 'write variables={"enable_thinking": False}'
    if not isinstance(variables, Mapping) or not all(isinstance(name, str) for name in variables):
        raise InputError(f"the option variables must be names with their values, not {variables!r}; {remedy}")
    try:
        json.dumps(dict(variables), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the option variables holds what JSON does not have ({error}); {remedy}") from None
    if ours := sorted(_OURS & variables.keys()):
        raise InputError(f"the option variables cannot set {ours[0]!r}, which follows from the turn; leave it out")
    return variables


def _thought_before(action: Action, turn: Turn) -> str | None:
    """What the agent of the log thought before it took this action; empty when the log lost it, None without one."""
    messages, losses = turn.trajectory.messages, turn.trajectory.losses
    if turn.index >= len(messages) or action != turn.expected_action:
        return None
    if thought := (messages[turn.index].reasoning or "").strip():
        return thought
    lost = any(loss.code in _LOST_THOUGHTS and loss.message in (None, turn.index) for loss in losses)
    return "" if lost else None


_LOST_THOUGHTS = ("reasoning_encrypted", "reasoning_stripped")
