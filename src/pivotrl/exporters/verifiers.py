"""Prime Intellect verifiers (0.4 and later, prime-rl): rows and the taskset module that serves them."""

from __future__ import annotations

from pathlib import Path

from pivotrl.records import SkippedTurn
from pivotrl.rows.readme import readme
from pivotrl.rows.rows import (
    Pivots,
    ProfiledTurn,
    Row,
    convert,
    expected_action,
    facts,
    json_text,
    require_action,
    text_prompt,
    tools_text,
    write_json_lines,
)
from pivotrl.storage.record_files import write_file


def export(pivots: Pivots, folder: Path) -> list[SkippedTurn]:
    """Write ``train.jsonl``, ``validation.jsonl``, ``pivotrl_pivots.py`` and ``README.md``.

    Returns:
        the turns left out: arguments_not_an_object, no_expected_action, no_context.
    """
    rows, skipped = convert(pivots, _row)
    for split, made in rows.items():
        write_json_lines(folder / f"{split}.jsonl", made)
    write_file(folder / "pivotrl_pivots.py", _TASKSET.format(verifier=pivots.verifier))
    write_file(folder / "README.md", readme("verifiers", pivots, rows, skipped, _START))
    return skipped


def _row(profiled: ProfiledTurn) -> Row:
    turn = profiled.turn
    require_action(turn)
    return {
        "id": turn.id,
        "prompt": text_prompt(turn),
        "answer": json_text(expected_action(turn)),
        "info": {**facts(profiled), "pivotrl_tools": tools_text(turn)},
    }


_TASKSET = '''\
"""A verifiers taskset: one answer at a pivot turn, judged by the verifier that profiled the turn."""

import json
from pathlib import Path

import verifiers.v1 as vf
from pivotrl.rows.rewards import RowReward

REWARD = RowReward({verifier!r})


class PivotConfig(vf.TasksetConfig):
    split: str = "train"


class PivotData(vf.TaskData):
    answer: str
    info: dict


class PivotTask(vf.Task[PivotData, vf.State, vf.TaskConfig]):
    @property
    def key(self):
        return self.data.id

    @vf.reward(weight=1.0)
    async def pivot(self, trace: vf.Trace) -> float:
        answer = trace.assistant_messages[-1]
        return REWARD.number(answer.model_dump(), self.data.info["pivotrl_turn"])


class PivotTaskset(vf.Taskset[PivotTask, PivotConfig]):
    def load(self):
        with (Path(__file__).parent / f"{{self.config.split}}.jsonl").open(encoding="utf-8") as rows:
            for row in rows:
                yield PivotTask(PivotData(**json.loads(row)), self.config.task)


__all__ = ["PivotTaskset"]
'''

_START = """\
`pivotrl_pivots.py` is a taskset; the harness `null` gives each task one model call. In this folder, with pivotrl and
verifiers installed:

    PYTHONPATH=. vf-eval pivotrl_pivots --env.agent.harness.id null --env.taskset.split train

and under prime-rl the same taskset id, with this folder on the PYTHONPATH of its environment workers. Tools stand in
the system message and calls in the text; thoughts of earlier turns are left out. Where the verifier gives no verdict
the task fails with the reason.
"""
