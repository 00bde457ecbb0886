"""The examples in the report: pivots with their samples, and held-out turns that changed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.records import Selection, TurnResult
from pivotrl.rendering import action_text
from pivotrl.runs.files import RunFiles

_NUM_PIVOTS, _NUM_FLIPS, _NUM_MESSAGES = 4, 3, 2


def _drawn(items: Sequence[Any], count: int, turn_id: Callable[[Any], str]) -> list[Any]:
    """A draw by the hash of the turn id: not picked by hand, and the same for the same run."""
    return sorted(items, key=lambda item: hashlib.sha256(turn_id(item).encode()).digest())[:count]


def _describe(files: RunFiles, turn_id: str) -> dict[str, Any]:
    """The end of a turn's context and its expected action, as text."""
    turn = files.find_turn(turn_id)
    if turn is None:
        return {"id": turn_id, "omitted": 0, "context": [], "expected": "(its trajectory is not in the run directory)"}
    shown = turn.context[-_NUM_MESSAGES:]
    return {
        "id": turn_id,
        "omitted": len(turn.context) - len(shown),
        "context": [(message.role, action_text(message)) for message in shown],
        "expected": action_text(turn.expected_action),
    }


def pivot_examples(files: RunFiles, pivots: Sequence[Selection]) -> list[dict[str, Any]]:
    """Pivots with the reference policy's samples, equal ones together, and the rewards of each in training."""
    chosen = _drawn(pivots, _NUM_PIVOTS, lambda row: row.turn_id)
    if not chosen:
        return []
    profiles = files.profiled()
    trained = files.trained()
    examples = []
    for row in chosen:
        if row.turn_id not in profiles:
            raise InputError(
                f"{files.directory / 'profiles.jsonl'} lacks {row.turn_id!r} of selection.jsonl: the two belong to "
                "different profiles. Restore the file, or select again with "
                f"`pivotrl select {files.directory} --overwrite`"
            )
        group = profiles[row.turn_id]
        samples = Counter(
            (completion.text, verdict.outcome, verdict.reason, verdict.reward)
            for completion, verdict in zip(group.completions_G, group.verdicts_G, strict=True)
        )
        visits = [trained.get(key) for key in trained.keys() if key.partition("/")[2] == row.turn_id]  # noqa: SIM118
        examples.append(
            {
                **_describe(files, row.turn_id),
                "mean": row.reward_mean,
                "num_samples": len(group.completions_G),
                "samples": [(*sample, count) for sample, count in samples.most_common()],
                "visits": [(visit.step, visit.mean) for visit in visits if visit.mean is not None],
            }
        )
    return examples


def flips(files: RunFiles, results: Mapping[str, Sequence[TurnResult]]) -> list[dict[str, Any]]:
    """Held-out turns that got better, then worse, after training, with both actions."""
    before = {result.key: result for result in results["before"]}
    pairs = [(before[result.key], result) for result in results["after"] if result.key in before]
    changes = [
        (new.reward - old.reward, old, new) for old, new in pairs if old.reward is not None and new.reward is not None
    ]
    found = []
    for way, side in (("better", [c for c in changes if c[0] > 0]), ("worse", [c for c in changes if c[0] < 0])):
        shown = [
            {**_describe(files, old.turn_id), "before": old, "after": new}
            for _, old, new in _drawn(side, _NUM_FLIPS, lambda change: change[1].turn_id)
        ]
        found.append({"way": way, "num": len(side), "turns": shown})
    return found
