"""What a sample says in a chat: content, thought and calls, read by the parser that training used."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from pivotrl.protocols import Turn
from pivotrl.reading.thoughts import without_thought
from pivotrl.records import ToolCall
from pivotrl.rendering import Renderer
from pivotrl.serving.texts import SampleText

_MAY_BE_MARK = re.compile(r"[<\[{`|◁]\S{0,31}\Z")
"""The end of a text that may become the mark of a call or of a thought."""
_OPEN, _CLOSE = "<think>", "</think>"


@dataclass(frozen=True)
class Speech:
    """``parse_error`` says why the text is no action; then ``content`` is the text as it was sampled."""

    content: str
    reasoning: str | None = None
    calls: tuple[ToolCall, ...] = ()
    parse_error: str | None = None


@dataclass(frozen=True)
class Reader:
    """Reads the answers to one turn.

    Args:
        calls_allowed: how many calls an answer may have: 0 without tools, 1 without parallel calls.
    """

    renderer: Renderer
    turn: Turn
    calls_allowed: int | None

    def whole(self, sample: SampleText) -> Speech:
        """What a finished sample says. A sample that was cut at its token limit has no calls."""
        text = sample.text
        action, error = self.renderer.parse(text, self.turn)
        if error == "thought_not_closed":
            return Speech("", text.replace(_OPEN, "", 1).strip() or None, parse_error=error)
        said, thought = self._without_thought(text)
        may_call = self.calls_allowed != 0 and sample.finish == "stop"
        if error or (action.tool_calls and not may_call):
            return Speech(said.strip(), thought, parse_error=error)
        return Speech(action.content or "", thought, action.tool_calls[: self.calls_allowed])

    def so_far(self, sample: SampleText) -> Speech:
        """What a growing sample says for sure."""
        text = _MAY_BE_MARK.sub("", sample.settled)
        action, error = self.renderer.parse(text, self.turn)
        if error or (action.tool_calls and self.calls_allowed == 0):
            return Speech("")
        content = action.content or ""
        if text != sample.settled:  # the cut may have gone through a mark, so that its beginning reads as text
            uncut, error = self.renderer.parse(sample.settled, self.turn)
            if error or not (uncut.content or "").startswith(content):
                return Speech("")
        return Speech(content, self._without_thought(text)[1])

    @cached_property
    def _opens_thought(self) -> bool:
        """Whether the prompt opens the thought, so that the text holds only its end."""
        return self.renderer.parse(f"thought{_CLOSE}text", self.turn)[1] is None

    def _without_thought(self, text: str) -> tuple[str, str | None]:
        if _CLOSE in text and _OPEN not in text:
            if not self._opens_thought:
                return text, None
            text = _OPEN + text
        return without_thought(text)
