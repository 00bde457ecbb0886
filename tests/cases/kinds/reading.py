"""A log is imported. Input: `file` (below tests/data/formats), `rows` (JSON lines), `document` (one JSON value) or
`text`; `options` of the import beside `min_reward` None and `heldout_fraction` 0.

Outcome: `error` and `refused` are patterns of the error, of the first refusal's reason. Else, for each trajectory in
order: `shapes` ("s u a(1)* t a": roles, number of calls, * for a thought), `rewards`, `tasks`, `ids`, `candidates`
(indices), `calls` ([name, arguments] in order), `texts` and `reasoning` (those of the assistant); and over all of them
`format`, `tools` (name -> its parameters), `losses` that must be there and `no_losses` that must not, `absent` texts,
and `num_tasks`.
"""

import json
import re
from pathlib import Path
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.readers import auto
from pivotrl.reading.importing import ReadOptions
from pivotrl.records import Message, Refusal, Trajectory
from pivotrl.stages.reading import read_stage
from pivotrl.storage.record_files import read_records
from pivotrl.turns import TurnOptions, cut

FORMATS = Path(__file__).parents[2] / "data" / "formats"


def run(case: dict[str, Any], folder: Path) -> None:
    options = ReadOptions(
        **{"min_reward": None, "heldout_fraction": 0.0, "infer_tools": False, **case.get("options", {})}
    )
    out = folder / "run"
    try:
        read_stage(str(source(case, folder)), out, reader=auto.read, reading=options)
    except InputError as error:
        assert "error" in case, error
        assert "\n" not in str(error) and re.search(case["error"], str(error)), error
        return
    assert "error" not in case, "it was read"
    refused = out / "refused.jsonl"
    reasons = [item.reason for item in read_records(refused, Refusal)] if refused.exists() else []
    assert bool(reasons) == ("refused" in case), reasons
    if reasons:
        assert re.search(case["refused"], reasons[0]), reasons
    check(case, read_records(out / "trajectories.jsonl", Trajectory))


def source(case: dict[str, Any], folder: Path) -> Path:
    if "file" in case:
        return FORMATS / str(case["file"])
    path = folder / ("log.json" if "document" in case else "log.jsonl")
    if "text" in case:
        path.write_text(case["text"], encoding="utf-8")
        return path
    values = case.get("rows", [case.get("document")])
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def check(case: dict[str, Any], found: list[Trajectory]) -> None:
    said = [[m for m in t.messages if m.role == "assistant"] for t in found]
    values: dict[str, Any] = {
        "shapes": [" ".join(map(shape, t.messages)) for t in found],
        "rewards": [t.reward for t in found],
        "tasks": [t.task_id for t in found],
        "ids": [t.id for t in found],
        "candidates": [[turn.index for turn in cut([t], TurnOptions())[0]] for t in found],
        "calls": [[[c.name, json.loads(c.arguments)] for m in turns for c in m.tool_calls] for turns in said],
        "texts": [[m.content or "" for m in turns] for turns in said],
        "reasoning": [[m.reasoning or "" for m in turns] for turns in said],
        "num_tasks": len({t.task_id for t in found}),
        "tools": {tool.name: tool.parameters for t in found for tool in t.tools},
    }
    for name, value in values.items():
        if name in case:
            assert value == case[name], (name, value)
    assert {t.metadata["format"] for t in found} == {case.get("format", found[0].metadata["format"])}
    losses = {loss.code for t in found for loss in t.losses}
    assert set(case.get("losses", ())) <= losses, losses
    assert not losses & set(case.get("no_losses", ())), losses
    everything = "".join(t.model_dump_json(include={"messages"}) for t in found)
    assert not [text for text in case.get("absent", ()) if text in everything]


def shape(message: Message) -> str:
    calls = f"({len(message.tool_calls)})" if message.tool_calls else ""
    return f"{message.role[0]}{calls}{'*' if message.reasoning else ''}"
