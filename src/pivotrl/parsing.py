"""The text of a completion -> an action, and back. The one parser for every form in which agents write actions.

A style is a module of :mod:`pivotrl.text.styles`: ``hermes``, ``qwen_xml``, ``llama``, ``mistral``, ``mistral_args``,
``glm``, ``deepseek``, ``harmony``, ``lfm2``, ``gemma``, ``plain_json``, ``bash``, ``terminus_1``, ``terminus_2``,
``text``. A thought is never part of an action. A call that is cut off or half right is an error with a stable reason
code, never a message.
"""

from __future__ import annotations

import functools
import importlib
import json
import pkgutil
import re
from collections.abc import Sequence
from types import ModuleType

from pivotrl.protocols import InputError
from pivotrl.records import Action, Message, Tool
from pivotrl.text import styles
from pivotrl.text.styles import hermes
from pivotrl.text.thoughts import Marks, after_thoughts, require_no_thought
from pivotrl.text.tool_call_syntax import THOUGHT, Unparsable, canonical_arguments


def style_names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(styles.__path__))


def parse_completion(
    text: str,
    style: str = "hermes",
    *,
    tools: Sequence[Tool] = (),
    inside_thought: bool = False,
    thoughts: Sequence[Marks] = (),
) -> tuple[Action, str | None]:
    """(action, what is wrong with the text or None). With an error the action is empty.

    Args:
        style: how actions are written; see :func:`style_names`.
        tools: their schemas give the types of arguments in styles that write them without quotes.
        inside_thought: the prompt has already opened a thought with ``<think>``, so the text begins within it.
        thoughts: what stands before and after the model's thoughts, beside the known marks and the style's own.

    Error codes: thought_not_closed, thought_inside_text, tool_call_not_closed, tool_call_is_not_json,
    tool_call_is_malformed, tool_call_has_no_name, tool_call_has_no_arguments, tool_call_inside_text,
    text_after_tool_call, tool_call_in_code_fence, argument_occurs_twice, code_block_not_closed, several_code_blocks,
    answer_is_not_json, answer_breaks_schema, message_has_no_header, half_of_a_surrogate_pair.

    Raises:
        InputError: there is no such style.
    """
    module = _style(style)
    own = (*getattr(module, "THOUGHTS", ()), *thoughts)
    try:
        action: Action = module.parse(after_thoughts(THOUGHT[0] + text if inside_thought else text, own), tools)
        require_no_thought(action.content or "", [marks for marks in own if marks != THOUGHT])
        _require_text(action)
    except Unparsable as fault:
        return Action(), str(fault)
    except RecursionError:  # nested at the very limit
        return Action(), "tool_call_is_malformed"
    return action, None


def write_action(action: Action, style: str = "hermes", *, tools: Sequence[Tool] = ()) -> str:
    """The text that :func:`parse_completion` reads as this action, in its :func:`canonical` form.

    Raises:
        ValueError: the style cannot express it; the message says why.
        InputError: there is no such style.
    """
    module = _style(style)
    wanted = canonical(action)
    text: str = module.write(wanted, tools)
    found, error = parse_completion(text, style, tools=tools)
    if error or found != wanted:
        raise ValueError(f"{style} cannot write this action: it would be read as {error or 'another one'}")
    return text


def canonical(action: Action | Message) -> Action:
    """The action as its text and its calls mean it: no blanks around the text, arguments in one JSON spelling, no ids.

    Raises:
        ValueError: the arguments of a call are not a JSON object.
    """
    calls = [call.model_copy(update={"arguments": canonical_arguments(call), "id": None}) for call in action.tool_calls]
    return Action(content=(action.content or "").strip() or None, tool_calls=tuple(calls))


def action_text(action: Action | Message) -> str:
    """An action for people, and for our own ChatML: text, then one Hermes block per tool call. Refuses nothing."""
    return hermes.write(Action(content=action.content, tool_calls=action.tool_calls), ())


def _require_text(action: Action) -> None:
    """
    Raises:
        Unparsable: half of a surrogate pair stands in it, plainly or as an escape; no record could hold it.
    """
    texts = [action.content or "", *(text for call in action.tool_calls for text in (call.name, call.arguments))]
    try:
        "".join(texts).encode()
        for call in action.tool_calls:
            if _ESCAPED_HALF.search(call.arguments):
                json.dumps(json.loads(call.arguments), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Unparsable("half_of_a_surrogate_pair") from None
    except (ValueError, RecursionError):
        return  # that the arguments are not JSON is for a verifier to say


_ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")


@functools.cache
def _style(name: str) -> ModuleType:
    if name not in style_names():
        raise InputError(f"no style called {name!r}; there are {', '.join(style_names())}")
    return importlib.import_module(f"pivotrl.text.styles.{name}")
