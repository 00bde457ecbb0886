"""Text with one fenced block of shell: the block is a call of ``bash`` with its ``command``."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from pivotrl.records import Action, Tool, ToolCall
from pivotrl.text.tool_call_syntax import Unparsable, action_of, single_call

_OPEN = re.compile(r"^```(?:bash|sh|shell|mswea_bash_command)[ \t]*$", re.MULTILINE)
_CLOSE = re.compile(r"^```[ \t]*$", re.MULTILINE)
_FENCE = re.compile(r"^```", re.MULTILINE)
_STUMP = re.compile(r"^```[a-z_]*\Z", re.MULTILINE)


def parse(text: str, tools: Sequence[Tool]) -> Action:
    start = _OPEN.search(text)
    if start is None:
        if _STUMP.search(text) and len(_FENCE.findall(text)) % 2:  # a block begins where the text ends
            raise Unparsable("code_block_not_closed")
        return action_of(text, ())
    end = _CLOSE.search(text, start.end())
    if end is None:
        raise Unparsable("code_block_not_closed")
    if _OPEN.search(text, end.end()):
        raise Unparsable("several_code_blocks")
    command = text[start.end() + 1 : end.start()].removesuffix("\n")
    beside = f"{text[: start.start()].rstrip()}\n\n{text[end.end() :].lstrip()}"
    return action_of(beside, [ToolCall(name="bash", arguments=json.dumps({"command": command}, ensure_ascii=False))])


def write(action: Action, tools: Sequence[Tool]) -> str:
    call = single_call(action, "bash")
    if call is None:
        return action.content or ""
    arguments = json.loads(call.arguments)
    if call.name != "bash" or arguments.keys() != {"command"} or not isinstance(arguments["command"], str):
        raise ValueError(f"a code block holds the command of a call of bash, not {call.name}({', '.join(arguments)})")
    return f"{action.content}\n\n" * bool(action.content) + f"```bash\n{arguments['command']}\n```"
