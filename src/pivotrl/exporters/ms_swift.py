"""ms-swift: messages with its ``tool_call`` and ``tool_response`` roles and separate tools in every row."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from pivotrl.records import Message, SkippedTurn
from pivotrl.rows.readme import readme
from pivotrl.rows.rows import (
    Pivots,
    ProfiledTurn,
    Row,
    Unfit,
    arguments_object,
    convert,
    facts,
    json_text,
    require_action,
    tools_text,
    write_json_lines,
)
from pivotrl.storage.record_files import write_file


def export(pivots: Pivots, folder: Path) -> list[SkippedTurn]:
    """Write ``train.jsonl`` and ``validation.jsonl`` for GRPO, whose messages end before the action; the same with the
    action as ``sft_*.jsonl``; ``reward_plugin.py`` and ``README.md``.

    Two files each, because ms-swift cuts an answer off the prompt only where its role is ``assistant``: a tool call
    left at the end of a GRPO row would give the answer away.

    Returns:
        the turns left out: arguments_not_an_object (also in the context), no_expected_action, no_context,
        system_message_in_the_middle.
    """
    rows, skipped = convert(pivots, _row)
    for split, made in rows.items():
        answered = [{**row, "messages": row["messages"] + row["answer"]} for row in made]
        write_json_lines(folder / f"{split}.jsonl", [_without_answer(row) for row in made])
        write_json_lines(folder / f"sft_{split}.jsonl", [_without_answer(row) for row in answered])
    write_file(folder / "reward_plugin.py", _PLUGIN.format(verifier=pivots.verifier))
    write_file(folder / "README.md", readme("ms-swift", pivots, rows, skipped, _START))
    return skipped


def _row(profiled: ProfiledTurn) -> Row:
    turn = profiled.turn
    require_action(turn)
    if not turn.context:
        raise Unfit("no_context")
    tools = {"tools": tools_text(turn)} if turn.trajectory.tools else {}
    answer = _messages([turn.trajectory.messages[turn.index]])
    return {"messages": _messages(turn.context), "answer": answer, **tools, **facts(profiled)}


def _without_answer(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "answer"}


def _messages(context: Sequence[Message]) -> list[dict[str, str]]:
    leading = list(itertools.takewhile(lambda message: message.role == "system", context))
    made = [{"role": "system", "content": "\n\n".join(m.content or "" for m in leading)}] if leading else []
    for message in context[len(leading) :]:
        if message.role == "system":
            raise Unfit("system_message_in_the_middle")
        role = "tool_response" if message.role == "tool" else message.role
        if message.content or not message.tool_calls:
            made.append({"role": role, "content": message.content or ""})
        for call in message.tool_calls:
            content = json_text({"name": call.name, "arguments": arguments_object(call.arguments)})
            made.append({"role": "tool_call", "content": content})
    return made


_PLUGIN = '''\
"""The reward `pivotrl` for ms-swift: the verifier that profiled the turns judges what the policy wrote."""

from pivotrl.rows.rewards import trl_reward
from swift.rewards import ORM, orms

REWARD = trl_reward({verifier!r})


class PivotReward(ORM):
    def __call__(self, completions, pivotrl_turn, **kwargs):
        return REWARD(completions, pivotrl_turn)


orms["pivotrl"] = PivotReward
'''

_START = """\
GRPO, rewarded by the verifier that profiled the turns:

    swift rlhf --rlhf_type grpo --model your/model --agent_template hermes \\
        --dataset train.jsonl --external_plugins reward_plugin.py --reward_funcs pivotrl \\
        --num_generations 8 --max_length 8192 --max_completion_length 512

SFT on the demonstrated actions; without `--loss_scale last_round` every earlier turn of the context is learned too:

    swift sft --model your/model --agent_template hermes --dataset sft_train.jsonl --loss_scale last_round

The reward reads Hermes tool calls (`<tool_call>` with JSON), which `--agent_template hermes` asks for. `tools` is JSON
text, which ms-swift reads. Thoughts of earlier turns are left out.
"""
