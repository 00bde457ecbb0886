"""NVIDIA NeMo Gym: pivot rows for its single-step tool-use servers, and the YAML to serve them.

Items are shaped as by the chat converter of Gym's own pivot skill, but their ids come from the turn, so that the
same run gives the same bytes. Thoughts of earlier turns go along as reasoning items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from pivotrl.options import Share
from pivotrl.protocols import InputError
from pivotrl.records import Message, SkippedTurn, ToolCall
from pivotrl.rows import nemo_rl
from pivotrl.rows.readme import readme
from pivotrl.rows.rows import Pivots, ProfiledTurn, Row, Unfit, convert, json_text, require_action, write_json_lines
from pivotrl.storage.record_files import write_file

_SERVER = "single_step_tool_use_with_argument_comparison"
_MAX_THRESHOLD = 0.5

License = Literal[
    "TBD",
    "Apache 2.0",
    "MIT",
    "Creative Commons Attribution 4.0 International",
    "Creative Commons Attribution-ShareAlike 4.0 International",
    "GNU General Public License v3.0",
]


def export(
    pivots: Pivots,
    folder: Path,
    *,
    name: str = "pivotrl",
    batches: bool = False,
    threshold: Share = 0.1,
    license: License = "TBD",
) -> list[SkippedTurn]:
    """Write ``train.jsonl``, ``validation.jsonl``, ``<name>.yaml``, ``<name>_nemo_rl.yaml`` and ``README.md``.

    Args:
        name: of the configuration; the rows' agent is ``<name>_agent``.
        batches: keep turns with several calls, as ``function_call_batch``. Gym's server takes them; older validators
            do not.
        threshold: share of words (two identical texts share 0.5) from which Gym's server takes a text argument as
            equal.
        license: of the data, in Gym's words.

    Returns:
        the turns left out: several_calls, tool_not_declared, arguments_not_an_object, no_expected_action, no_context,
        result_without_call, assistant_messages_in_a_row (Gym would merge them into one).

    Raises:
        InputError: the threshold is outside 0 to 0.5 (above, Gym's server refuses a perfect copy), or Gym would not
            take the name or the license.
    """
    if not 0.0 <= threshold <= _MAX_THRESHOLD:
        raise InputError(f"threshold is {threshold}; give one from 0 to 0.5, the value of two identical texts")
    if not name.isidentifier():
        raise InputError(f"{name!r} is not a valid configuration name; use letters, digits and underscores")
    if license not in get_args(License):
        raise InputError(f"Gym knows no licence {license!r}; there are {', '.join(get_args(License))}")

    def row(profiled: ProfiledTurn) -> Row:
        return _row(profiled, f"{name}_agent", batches)

    rows, skipped = convert(pivots, row)
    for split, made in rows.items():
        write_json_lines(folder / f"{split}.jsonl", made)
    if rows:
        write_file(folder / f"{name}.yaml", _config(name, sorted(rows), threshold, batches, license))
        write_file(folder / f"{name}_nemo_rl.yaml", nemo_rl.configuration(name, _SERVER, rows, pivots.settings))
    messages = sum(made["expected_action"]["type"] == "message" for rows_of in rows.values() for made in rows_of)
    start = _START.format(name=name, server=_SERVER, messages=messages) + nemo_rl.unsaid(pivots.settings)
    write_file(folder / "README.md", readme("NeMo Gym", pivots, rows, skipped, start))
    return skipped


def _row(profiled: ProfiledTurn, agent: str, batches: bool) -> Row:
    turn = profiled.turn
    require_action(turn)
    action = turn.expected_action
    calls = [{"type": "function_call", "name": call.name, "arguments": call.arguments} for call in action.tool_calls]
    if len(calls) > 1 and not batches:
        raise Unfit("several_calls")
    if {call.name for call in action.tool_calls} - {tool.name for tool in turn.trajectory.tools}:
        raise Unfit("tool_not_declared")
    expected: Row = {"type": "message", "content": action.content}
    beside: Row = {}
    if calls:
        expected = calls[0] if len(calls) == 1 else {"type": "function_call_batch", "calls": calls}
        beside = {"pivotrl_expected_text": action.content} if action.content else {}
    return {
        "responses_create_params": {
            "input": list(_items(turn.context, turn.id)),
            "tools": [
                {
                    "type": "function",
                    "strict": True,
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.parameters,
                }
                for tool in turn.trajectory.tools
            ],
            "parallel_tool_calls": batches,
            "tool_choice": "auto",
        },
        "expected_action": expected,
        "agent_ref": {"type": "responses_api_agents", "name": agent},
        "trajectory_id": turn.trajectory.id,
        **profiled.facts,
        **beside,
    }


def _items(context: tuple[Message, ...], turn_id: str) -> Iterator[Row]:
    if not context:
        raise Unfit("no_context")
    pairs = zip(context, (*context[1:], Message(role="assistant")), strict=True)
    if any(one.role == other.role == "assistant" for one, other in pairs):
        raise Unfit("assistant_messages_in_a_row")
    waiting: list[tuple[ToolCall, str]] = []
    for position, message in enumerate(context):
        if message.role == "assistant":
            waiting = [
                (call, call.id or _id("call", turn_id, position, number))
                for number, call in enumerate(message.tool_calls)
            ]
            yield from _assistant_items(message, [call_id for _, call_id in waiting], turn_id, position)
        elif message.role == "tool":
            call_id = _answered(message, waiting)
            yield {"type": "function_call_output", "call_id": call_id, "output": message.content or ""}
        else:
            yield {"type": "message", "role": message.role, "content": message.content or ""}


def _assistant_items(message: Message, call_ids: list[str], turn_id: str, position: int) -> Iterator[Row]:
    if message.reasoning:
        summary = [{"type": "summary_text", "text": message.reasoning}]
        yield {"type": "reasoning", "id": _id("rs", turn_id, position), "summary": summary}
    if message.content or not (message.reasoning or message.tool_calls):
        yield {
            "type": "message",
            "role": "assistant",
            "id": _id("msg", turn_id, position),
            "content": [{"type": "output_text", "text": message.content or "", "annotations": []}],
            "status": "completed",
        }
    for call, call_id in zip(message.tool_calls, call_ids, strict=True):
        yield {
            "type": "function_call",
            "id": call_id,
            "call_id": call_id,
            "name": call.name,
            "arguments": call.arguments,
            "status": "completed",
        }


def _answered(result: Message, waiting: list[tuple[ToolCall, str]]) -> str:
    """Id of the call that a tool result answers: by id, by order where the log has none."""
    same = [item for item in waiting if item[0].id is not None and item[0].id == result.tool_call_id]
    nameless = [item for item in waiting if None in (item[0].id, result.tool_call_id)]
    if same or nameless:
        item = (same or nameless)[0]
        waiting.remove(item)
        return item[1]
    raise Unfit("result_without_call")


def _id(kind: str, turn_id: str, *places: int) -> str:
    digest = hashlib.sha256("/".join([kind, turn_id, *map(str, places)]).encode()).hexdigest()
    return f"{kind}_{digest[:32]}"


# --- files beside the rows ----------------------------------------------------------------------------------------


def _config(name: str, splits: list[str], threshold: float, batches: bool, license: License) -> str:
    """Gym's YAML. JSON texts are YAML too, so nothing has to be escaped by hand."""
    comparator: Row = {"word_count_similarity_threshold": threshold}
    datasets = [
        {
            "name": split,
            "type": split,
            "jsonl_fpath": f"resources_servers/{_SERVER}/data/{name}/{split}.jsonl",
            "num_repeats": 1,
            "license": license,
        }
        for split in splits
    ]
    if batches:
        comparator["parallel_tool_call_rewarding"] = True
        comparator["parallel_tool_call_reward_mode"] = "binary_strict"
    lines = [
        f"{name}_resources_server:",
        "  resources_servers:",
        f"    {_SERVER}:",
        "      entrypoint: app.py",
        "      domain: agent",
        f"      tool_call_comparator_config: {json_text(comparator)}",
        "      verified: false",
        "      description: Pivot turns chosen by pivotrl.",
        f"{name}_agent:",
        "  responses_api_agents:",
        "    tool_simulation_agent:",
        "      entrypoint: app.py",
        "      resources_server:",
        "        type: resources_servers",
        f"        name: {name}_resources_server",
        "      model_server:",
        "        type: responses_api_models",
        "        name: policy_model",
        "      datasets:",
        *(f"      - {json_text(dataset)}" for dataset in datasets),
    ]
    return "\n".join(lines) + "\n"


_START = """\
Copy this folder to `resources_servers/{server}/data/{name}/` of a Gym checkout, and `{name}.yaml` to
`resources_servers/{server}/configs/`. Then

    gym env start --config resources_servers/{server}/configs/{name}.yaml \\
        --model-type vllm_model

    gym eval run --no-serve --agent {name}_agent \\
        --input resources_servers/{server}/data/{name}/train.jsonl --output rollouts.jsonl

collects rollouts. NeMo RL trains on the same rows: copy `{name}_nemo_rl.yaml`, which has the options of the run's
training or pivotrl's defaults, to `examples/nemo_gym/` of its checkout, and

    uv run examples/nemo_gym/run_grpo_nemo_gym.py --config examples/nemo_gym/{name}_nemo_rl.yaml

Gym's pivot skill has a validator,
`validate_pivot_dataset.py --path train.jsonl --agent-ref {name}_agent`.

Gym's server compares by rules of its own, which differ from the verifier that profiled these turns: at a turn where a
message was demonstrated ({messages} of these rows) any text earns the full reward, the empty one too, and a text
argument counts as equal from the word overlap in the YAML on. Look at the reward of a few rollouts before you train.
"""
