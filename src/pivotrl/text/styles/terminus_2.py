"""The JSON answer of the Terminus 2 terminal agent: analysis, plan, commands, and whether the task is complete.

The answer is the action's text, as it was written.
"""

from __future__ import annotations

from collections.abc import Sequence

from pivotrl.records import Action, Tool
from pivotrl.text.tool_call_syntax import Field, answer_action, answer_text

_COMMAND = {"keystrokes": Field("string"), "duration": Field("number", required=False)}
_ANSWER = {
    "analysis": Field("string"),
    "plan": Field("string"),
    "commands": Field("array", items=_COMMAND),
    "task_complete": Field("boolean", required=False),
}


def parse(text: str, tools: Sequence[Tool]) -> Action:
    return answer_action(text, _ANSWER)


def write(action: Action, tools: Sequence[Tool]) -> str:
    return answer_text(action, "terminus_2")
