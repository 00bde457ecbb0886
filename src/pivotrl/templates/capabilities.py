"""Find out what a chat template can do by rendering probes with it, never by its name."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pivotrl.parsing import canonical, parse_completion
from pivotrl.protocols import InputError, NotRenderable
from pivotrl.records import Action, Message, Tool, ToolCall
from pivotrl.templates.conversation import ChatTemplate, Form
from pivotrl.text.thoughts import Marks, after_thoughts, begins_with_thought, opened_thought
from pivotrl.text.tool_call_syntax import Unparsable

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

_BRACKETS = "<[◁"


@dataclass(frozen=True)
class Answers:
    """How answers look under a template.

    Attributes:
        template: the template, with the form of messages that it wants.
        style: how it writes tool calls (:mod:`pivotrl.parsing`); None when it writes none that can be read back.
        fault: why there is no style.
        reads_text: a message can be read back.
        is_plain: a message is nothing but its text.
        knows_tools: it lists tools or writes calls in some way, one that can be read back or another.
        thoughts: what stands before and after the model's thoughts.
        opened: the marks of the thought that its generation prompt opens.
        ends: control tokens that end an answer; the first ends a message.
        opening: control tokens, as text, that stand before a message.
        closing: control tokens, as text, that stand between a message and its end.
    """

    template: ChatTemplate
    style: str | None
    fault: str
    reads_text: bool
    is_plain: bool
    knows_tools: bool
    thoughts: tuple[Marks, ...]
    opened: Marks | None
    ends: tuple[str, ...]
    opening: str
    closing: str

    def until_end(self, marked: str) -> tuple[str, str | None]:
        """An answer without its end token and what follows, and that token; None when there is none."""
        for control, start, _ in self.template.controls.marks_in(marked):
            if control in self.ends:
                return marked[:start], control
        return marked, None

    def read(
        self, text: str, tools: Sequence[Tool], style: str | None = None, opened: Marks | None = None
    ) -> tuple[Action, str | None]:
        """What an answer means; see :func:`pivotrl.parsing.parse_completion`.

        Args:
            style: how the agent writes actions inside its messages, when not as the template writes tool calls.
            opened: the marks of the thought that the prompt has opened.
        """
        try:
            text = after_thoughts((opened[0] if opened else "") + text.removesuffix(self.closing), self.thoughts)
        except Unparsable as fault:
            return Action(), str(fault)
        if self.opening and text.lstrip().startswith(self.opening):
            text = text.lstrip().removeprefix(self.opening)
        outer = style if style and self.is_plain else self.style or "text"
        action, error = parse_completion(text, outer, tools=tools, thoughts=self.thoughts)
        if error or style is None or style == outer:
            return action, error
        return parse_completion(action.content or "", style, tools=tools, thoughts=self.thoughts)


def probe(template: ChatTemplate, eos: str | None, thoughts: tuple[Marks, ...]) -> Answers:
    """How answers look under a template.

    Args:
        template: its form does not matter.
        eos: the tokenizer's end token.
        thoughts: what may stand before and after the model's thoughts, beside the marks that the template writes.

    Raises:
        InputError: it does not even write what a user says.
    """
    template = _with_contents(template)
    thoughts = (*thoughts, *_own_marks(template, thoughts))
    opened = opened_thought(template.controls.plain(template.prompt([_QUESTION], ()).marked), thoughts)
    answers = Answers(
        template=template,
        style=None,
        fault="",
        reads_text=False,
        is_plain=False,
        knows_tools=_knows_tools(template),
        thoughts=thoughts,
        opened=opened,
        ends=(eos,) if eos else (),
        opening="",
        closing="",
    )
    try:
        message = _answer(answers, _ANSWER, ())
    except NotRenderable:
        return answers
    run = _specials_at(template, message, message.rfind("answer") + len("answer"))
    if run:
        ends = tuple(dict.fromkeys((run[-1], *answers.ends)))
        answers = replace(answers, ends=ends, closing="".join(run[:-1]))
    answers = replace(answers, opening=_opening(answers, message))
    plain = _is_read(answers, _ANSWER, message, ())
    answers = replace(answers, reads_text=plain, is_plain=plain)
    return _with_calls(answers, message)


def _own_marks(template: ChatTemplate, known: tuple[Marks, ...]) -> list[Marks]:
    """The marks that the template itself writes around a thought, when they are none of the known ones.

    Words are no marks, such as ``Thought:`` before it and ``Answer:`` behind it: a message may hold them.
    """
    template, thought, answer = replace(template, reasoning="template"), "probe thought", _ANSWER.content or ""
    try:
        texts = [template.answered([_QUESTION], (), _ANSWER, given) for given in (None, thought)]
    except NotRenderable:
        return []
    without, whole = map(template.controls.plain, texts)
    header = without[: without.rfind(answer)]
    before, _, after = whole.removeprefix(header).partition(thought)
    opening, closing = before.strip(), after.partition(answer)[0].strip()
    if not whole.startswith(header) or begins_with_thought(opening, known):
        return []
    return [(opening, closing)] if all(mark[:1] in _BRACKETS and mark for mark in (opening, closing)) else []


def _opening(answers: Answers, message: str) -> str:
    """The special tokens that a message begins with, a thought before them left out."""
    controls = answers.template.controls
    before = message[: message.rfind("probe answer")]
    run = "".join(control for control, _, _ in controls.marks_in(before) if control in controls.special)
    for opened in (answers.opened[0] if answers.opened else "", ""):  # a template may close it, or write none itself
        with contextlib.suppress(Unparsable):
            bare = after_thoughts(opened + controls.plain(before), answers.thoughts).strip()
            return bare if run.endswith(bare) else ""
    return ""


def _knows_tools(template: ChatTemplate) -> bool:
    """Whether the template writes tools or calls at all: a conversation looks different with and without them."""
    called = Message(role="assistant", content="probe answer", tool_calls=_CALL.tool_calls)
    plain = Message(role="assistant", content="probe answer")
    try:
        without = [template.render([_QUESTION], ()), template.render([_QUESTION, plain, _QUESTION], ())]
    except NotRenderable:
        return True
    try:
        listed, shown = template.render([_QUESTION], (_TOOL,)), template.render([_QUESTION, called, _QUESTION], ())
    except NotRenderable:
        return True
    return [listed, shown] != without


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
            candidate = replace(answers, template=template, reads_text=True)
            try:
                call = _answer(candidate, _CALL, (_TOOL,))
            except NotRenderable as error:
                faults.append(str(error))
                continue
            faults.append("the chat template writes tool calls in a form that cannot be read back")
            for ends in (answers.ends, (*answers.ends, *_last_special(template, call))):
                for style in _STYLES:
                    found = replace(candidate, style=style, ends=ends)
                    if _is_read(found, _CALL, call, (_TOOL,)) and _is_read(found, _ANSWER, message, ()):
                        return replace(found, template=_with_ids(template))
    return replace(answers, fault=faults[0])


def _with_ids(template: ChatTemplate) -> ChatTemplate:
    """The template, and whether it shows which result answers which call."""
    calls = tuple(_CALL.tool_calls[0].model_copy(update={"id": f"probe000{i}"}) for i in (1, 2))
    results = [Message(role="tool", content="probe result", tool_call_id=call.id) for call in calls]
    try:
        text = template.render([_QUESTION, Message(role="assistant", tool_calls=calls), *results], (_TOOL,))
    except NotRenderable:
        return template
    ids = ["call00001", "call00002"] if template.form.short_ids else [call.id or "" for call in calls]
    return replace(template, form=replace(template.form, shows_ids=all(text.count(name) >= 2 for name in ids)))


def _answer(answers: Answers, action: Action, tools: Sequence[Tool]) -> str:
    """What the template writes for an action, to the very end, as marked text."""
    template = answers.template
    prompt = template.prompt([_QUESTION], tools).marked
    whole = template.answered([_QUESTION], tools, action)
    if not whole.startswith(prompt) and answers.opened:  # it writes no thought for a turn of its own
        prompt = prompt.rstrip()
        for mark in (template.controls.marked(answers.opened[0]), answers.opened[0]):
            prompt = prompt.removesuffix(mark)
    if not whole.startswith(prompt):
        raise NotRenderable("the chat template does not continue its own generation prompt")
    return whole[len(prompt) :]


def _is_read(answers: Answers, action: Action, marked: str, tools: Sequence[Tool]) -> bool:
    text = answers.template.controls.plain(answers.until_end(marked)[0])
    wanted = (canonical(action), None)
    return wanted in (answers.read(text, tools, opened=answers.opened), answers.read(text, tools))


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
