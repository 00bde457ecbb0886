"""What the files of a batch say of its tasks: checked, because a program may write half a result, or nonsense."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from pivotrl.protocols import InputError
from pivotrl.protocols.harness import Batch, Harness, Outcome
from pivotrl.records import TrialResult

OUTSIDE = "reward_outside_0_1"


def told(harness: Harness, batch: Batch) -> tuple[Mapping[str, Outcome], str]:
    """(task -> outcome, why the rest could not be read). A file that is not understood says nothing of its task.

    Raises:
        InputError: a mistake of the user, such as the name of a score that there is not.
    """
    found: dict[str, Outcome] = {}
    try:
        for outcome in harness.outcomes(batch):
            if outcome.task not in batch.tasks or outcome.task in found:
                continue
            if outcome.reward is not None and not 0 <= outcome.reward <= 1:  # NaN, too
                outcome = dataclasses.replace(outcome, reward=None, reason=OUTSIDE)
            result_of(batch, outcome, 0, outcome.seconds or 0.0)
            found[outcome.task] = outcome
    except InputError:
        raise
    except Exception as error:
        return found, f"its result cannot be read ({type(error).__name__}: {str(error)[:200]})"
    return found, ""


def result_of(batch: Batch, outcome: Outcome, attempt: int, seconds: float, detail: str = "") -> TrialResult:
    """What is stored of a task that a batch has played."""
    return TrialResult(
        task_id=outcome.task,
        trial=batch.trial,
        attempt=attempt,
        reward=outcome.reward,
        reason=outcome.reason,
        num_turns=outcome.num_turns,
        num_prompt_tokens=outcome.num_prompt_tokens,
        num_tokens=outcome.num_tokens,
        seconds=round(seconds, 3),
        folder=batch.folder.name,
        detail=detail,
    )
