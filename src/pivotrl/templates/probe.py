"""What a chat template can do, found by rendering probes with it; never by its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pivotrl.call_text import THOUGHT
from pivotrl.parsing import canonical, parse_completion
from pivotrl.protocols import InputError
from pivotrl.records import Action, Message, Tool, ToolCall
from pivotrl.templates.control_tokens import NotRenderable
from pivotrl.templates.conversation import ChatTemplate, Form

_STYLES = ("hermes", "qwen_xml", "glm", "mistral", "deepseek", "harmony", "llama", "lfm2", "gemma", "plain_json")
_QUESTION = Message(role="user", content="probe question")
_ANSWER = Action(content="probe answer")
_TOOL = Tool(
    name="probe_tool",
    description="probe description",
    parameters={
        "type": "object",
        "properties": {"probe_object": {"type": "object"}, "probe_text": {"type": "string"}},
        "required": ["probe_object", "probe_text"],
    },
)
_CALL = Action(
    tool_calls=(
        ToolCall(
            name=_TOOL.name,
            arguments='{"probe_object": {"inner": [1, true, null, "two"]}, "probe_text": "a probe"}',
        ),
    )
)


@dataclass(frozen=True)
class Answers:
    """How answers look under a template.

    Attributes:
        template: the template, with the form of messages that it wants.
        style: how it writes tool calls (:mod:`pivotrl.parsing`); None when it writes none that can be read back.
        fault: why there is no style.
        reads_text: a message can be read back.
        is_plain: a message is nothing but its text.
        inside_thought: its generation prompt opens a thought.
        ends: control tokens that end an answer; the first ends a message.
        closing: control tokens, as text, that stand between a message and its end.
    """

    template: ChatTemplate
    style: str | None
    fault: str
    reads_text: bool
    is_plain: bool
    inside_thought: bool
    ends: tuple[str, ...]
    closing: str

    def until_end(self, marked: str) -> tuple[str, str | None]:
        """An answer without its end token and what follows, and that token; None when there is none."""
        for control, start, _ in self.template.controls.marks_in(marked):
            if control in self.ends:
                return marked[:start], control
        return marked, None

    def read(self, text: str, tools: Sequence[Tool], style: str | None = None) -> tuple[Action, str | None]:
        """What an answer means; see :func:`pivotrl.parsing.parse_completion`.

        Args:
            style: how the agent writes actions inside its messages, when not as the template writes tool calls.
        """
        text = text.removesuffix(self.closing)
        outer = style if style and self.is_plain else self.style or "text"
        action, error = parse_completion(text, outer, tools=tools, inside_thought=self.inside_thought)
        if error or style is None or style == outer:
            return action, error
        return parse_completion(action.content or "", style, tools=tools)


def probe(template: ChatTemplate, eos: str | None) -> Answers:
    """How answers look under a template.

    Args:
        template: its form does not matter.
        eos: the tokenizer's end token.

    Raises:
        InputError: it does not even write what a user says.
    """
    template = _with_contents(template)
    opened = template.controls.plain(template.prompt([_QUESTION], ()).marked).rstrip().endswith(THOUGHT[0])
    ends, closing = ((eos,) if eos else ()), ""
    answers = Answers(template, None, "", False, False, opened, ends, closing)
    try:
        message = _answer(template, _ANSWER, ())
    except NotRenderable:
        return answers
    run = _specials_at(template, message, message.rfind("answer") + len("answer"))
    if run:
        ends, closing = tuple(dict.fromkeys((run[-1], *ends))), "".join(run[:-1])
    answers = replace(answers, ends=ends, closing=closing)
    plain = _is_read(answers, _ANSWER, message, ())
    answers = replace(answers, reads_text=plain, is_plain=plain)
    return _with_calls(answers, message)


def _with_contents(template: ChatTemplate) -> ChatTemplate:
    reasons = []
    for parts in (False, True):
        candidate = replace(template, form=Form(parts=parts))
        try:
            candidate.prompt([_QUESTION], ())
        except NotRenderable as error:
            reasons.append(str(error))
        else:
            return candidate
    raise InputError(f"the chat template does not write what a user says: {reasons[0]}")


def _with_calls(answers: Answers, message: str) -> Answers:
    """The form and the style in which the template writes calls that can be read back, and this message as well."""
    faults = []
    for text_arguments in (False, True):
        for short_ids in (False, True):
            form = replace(answers.template.form, text_arguments=text_arguments, short_ids=short_ids)
            template = replace(answers.template, form=form)
            try:
                call = _answer(template, _CALL, (_TOOL,))
            except NotRenderable as error:
                faults.append(str(error))
                continue
            faults.append("the chat template writes tool calls in a form that cannot be read back")
            for ends in (answers.ends, (*answers.ends, *_last_special(template, call))):
                for style in _STYLES:
                    found = replace(answers, template=template, style=style, ends=ends, reads_text=True)
                    if _is_read(found, _CALL, call, (_TOOL,)) and _is_read(found, _ANSWER, message, ()):
                        return found
    return replace(answers, fault=faults[0])


def _answer(template: ChatTemplate, action: Action, tools: Sequence[Tool]) -> str:
    """What the template writes for an action, to the very end, as marked text."""
    prompt = template.prompt([_QUESTION], tools).marked
    whole = template.answered([_QUESTION], tools, action)
    if not whole.startswith(prompt):  # it may open a thought for the model and write none for a turn of its own
        prompt = prompt.rstrip().removesuffix(template.controls.marked(THOUGHT[0]))
    if not whole.startswith(prompt):
        raise NotRenderable("the chat template does not continue its own generation prompt")
    return whole[len(prompt) :]


def _is_read(answers: Answers, action: Action, marked: str, tools: Sequence[Tool]) -> bool:
    text = answers.template.controls.plain(answers.until_end(marked)[0])
    wanted = (canonical(action), None)
    return answers.read(text, tools) == wanted or replace(answers, inside_thought=False).read(text, tools) == wanted


def _specials_at(template: ChatTemplate, marked: str, position: int) -> list[str]:
    """The unbroken run of special tokens at a position."""
    run: list[str] = []
    for control, start, end in template.controls.marks_in(marked):
        if start == position and control in template.controls.special:
            run.append(control)
            position = end
    return run


def _last_special(template: ChatTemplate, marked: str) -> list[str]:
    """The special token that a text ends with, if it does."""
    marks = [m for m in template.controls.marks_in(marked.rstrip()) if m[2] == len(marked.rstrip())]
    return [control for control, _, _ in marks if control in template.controls.special]
