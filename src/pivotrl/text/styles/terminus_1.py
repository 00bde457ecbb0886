"""The JSON answer of the Terminus 1 terminal agent: analysis, explanation, commands, and whether it is complete.

The answer is the action's text, as it was written.
"""

from __future__ import annotations

from collections.abc import Sequence

from pivotrl.records import Action, Tool
from pivotrl.text.tool_call_syntax import Field, answer_action, answer_text

_COMMAND = {"keystrokes": Field("string"), "is_blocking": Field("boolean"), "timeout_sec": Field("number")}
_ANSWER = {
    "state_analysis": Field("string"),
    "explanation": Field("string"),
    "commands": Field("array", items=_COMMAND),
    "is_task_complete": Field("boolean"),
}


def parse(text: str, tools: Sequence[Tool]) -> Action:
    return answer_action(text, _ANSWER)


def write(action: Action, tools: Sequence[Tool]) -> str:
    return answer_text(action, "terminus_1")
