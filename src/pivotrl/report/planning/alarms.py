"""Early warnings from a pilot, each with a remedy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pivotrl.report.planning.pilot import PilotTurn
from pivotrl.report.planning.projection import Projection
from pivotrl.report.planning.ways import PlannedTraining

_FEW_TASKS = 10
_WIDE = 0.5
"""An interval that reaches this share of the estimate to either side is called wide."""


@dataclass(frozen=True)
class Alarm:
    """Something that should be looked at before money is spent."""

    code: str
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.text}. {self.remedy}"


def alarms(
    rows: Sequence[PilotTurn], found: Projection, training: PlannedTraining, max_tokens: int, is_random: bool = True
) -> list[Alarm]:
    """What is wrong with the pilot, the gravest first.

    Args:
        is_random: whether every candidate turn had the same chance to be in the pilot.
    """
    told = [*_of_rewards(rows, max_tokens), *_of_size(rows, found, is_random)]
    few = found.pivots.mean < training.turns_per_step
    if few and found.pivots.mean > 0:
        told.append(
            Alarm(
                "few_pivots",
                f"about {found.pivots.mean:,.0f} pivots are fewer than the {training.turns_per_step} turns of a step, "
                "so every step trains on the same turns",
                "Lower --turns-per-step, read more logs, or raise --max-mean",
            )
        )
    return told


def _of_rewards(rows: Sequence[PilotTurn], max_tokens: int) -> list[Alarm]:
    number, told = len(rows), []
    left_out = sum(row.outcome == "left out" for row in rows)
    samples = sum(row.num_samples for row in rows)
    cut_off, malformed, unknown = (
        sum(getattr(row, name) for row in rows) for name in ("num_cut_off", "num_malformed", "num_without_verdict")
    )
    scored = [row for row in rows if row.evidence.samples]
    passes = sum(row.evidence.passes for row in scored)
    if 2 * left_out > number:
        text = f"{left_out} of {number} turns could not be sampled"
        told.append(Alarm("left_out", text, "plan/pilot/skipped.jsonl says why; see also --max-tokens"))
    if 2 * unknown > samples > 0:
        text = f"the verifier decided {samples - unknown:,} of {samples:,} samples only"
        told.append(Alarm("undecided", text, "Look at the reasons with `pivotrl waver`, or add a judge with any_of"))
    if 2 * cut_off > samples > 0:
        text = f"{cut_off:,} of {samples:,} samples were cut off, and so failed"
        told.append(Alarm("cut_off", text, f"Raise --max-tokens (now {max_tokens})"))
    if 2 * malformed > samples > 0:
        text = f"{malformed:,} of {samples:,} samples are no well-formed action, and so failed"
        remedy = "Use a model that writes actions as its chat template expects, or warm it up (--method sft)"
        told.append(Alarm("malformed", text, remedy))
    if scored and passes == 0:
        text = f"no sample passed: all rewards of {len(scored)} turns are 0, so nothing can be learned from them"
        remedy = "Test the verifier with `pivotrl check`; if it is right, warm the policy up (--method sft)"
        told.append(Alarm("never_passes", text, remedy))
    if scored and all(row.outcome in ("always passes", "no verdict", "left out") for row in rows):
        text = f"every sample at {len(scored)} turns passed, so nothing is left to learn from them"
        told.append(Alarm("always_passes", text, "Read harder logs, or use a stricter verifier"))
    return told


def _of_size(rows: Sequence[PilotTurn], found: Projection, is_random: bool) -> list[Alarm]:
    told = []
    if not is_random:
        text = (
            f"the profile so far covers the first {len(rows):,} of {found.num_candidates:,} candidate turns, in order"
        )
        told.append(Alarm("in_order", text, "The rest may differ; --pilot draws turns at random"))
    if found.num_tasks < _FEW_TASKS and found.num_turns < found.num_candidates:
        text = f"{found.num_turns} turns of only {found.num_tasks} tasks say little about other tasks"
        told.append(Alarm("few_tasks", text, "Read logs of more tasks, or sample all turns"))
    width = max(found.pivots.high - found.pivots.mean, found.pivots.mean - found.pivots.low)
    if width > _WIDE * found.pivots.mean and (more := turns_to_halve(found.num_turns, found.num_candidates)):
        text = f"the number of pivots is between {found.pivots.low:,.0f} and {found.pivots.high:,.0f}"
        remedy = f"{more:,} more turns would about halve that range: --pilot {found.num_turns + more}"
        told.append(Alarm("wide", text, remedy))
    return told


def turns_to_halve(num_turns: int, num_candidates: int) -> int:
    """Turns to add so that an interval of a mean has half its width: variance ~ 1 / turns - 1 / candidates."""
    left = 1 / num_turns - 1 / num_candidates
    return math.ceil(1 / (left / 4 + 1 / num_candidates)) - num_turns if left > 0 else 0
