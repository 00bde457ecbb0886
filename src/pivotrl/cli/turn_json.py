"""One turn, or the candidate turns of a run, as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pivotrl.cli.tables import find_turn
from pivotrl.records import SampleGroup
from pivotrl.rendering import action_text
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import known_stages
from pivotrl.turns import cut


def print_turn_as_json(directory: Path, turn_id: str) -> None:
    """A turn with its whole context, its samples in the profile, and what each evaluation measured there.

    Raises:
        InputError: the turn does not exist, or a file is damaged.
    """
    files = RunFiles(directory)
    turn, groups = find_turn(files, turn_id), files.profiled()
    evaluations = {
        name: [result.model_dump(mode="json") for result in files.turn_results(name) if result.turn_id == turn_id]
        for name in (
            stage.removeprefix("evaluations/") for stage in known_stages(directory) if stage.startswith("eval")
        )
    }
    told = {
        "turn_id": turn_id,
        "task_id": turn.trajectory.task_id,
        "context": [message.model_dump(mode="json") for message in turn.context],
        "expected_action": turn.expected_action.model_dump(mode="json"),
        "samples": _samples(groups[turn_id]) if turn_id in groups else [],
        "evaluations": {name: results for name, results in evaluations.items() if results},
    }
    print(json.dumps(told, indent=2))


def _samples(group: SampleGroup) -> list[dict[str, Any]]:
    return [
        {"text": completion.text, "num_tokens": len(completion.token_ids_T), **verdict.model_dump(mode="json")}
        for completion, verdict in zip(group.completions_G, group.verdicts_G, strict=True)
    ]


def print_candidates_as_json(directory: Path) -> None:
    """The candidate turns of a run that has no profile yet."""
    turns, _ = cut(RunFiles(directory).logged())
    rows = [
        {
            "turn_id": turn.id,
            "task_id": turn.trajectory.task_id,
            "expected_action": action_text(turn.expected_action),
        }
        for turn in turns
    ]
    print(json.dumps(rows, indent=2))
