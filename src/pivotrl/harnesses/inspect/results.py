"""What a log of Inspect says of its one sample."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.protocols.harness import Outcome
from pivotrl.reading.fields import as_object
from pivotrl.reading.formats.inspect_files import log_header, packed_samples
from pivotrl.reading.formats.inspect_parts import model_calls, reward_of

_FINAL = ("success", "error", "cancelled")
_TOO_LONG = "model_length"


def outcome_of(path: Path, task: str, scorer: str | None) -> Outcome | None:
    """None while the log is not whole.

    Raises:
        InputError: the score is not the one that the option names, or it has parts.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            header = log_header(path, archive)
            if header.get("status") not in _FINAL:
                return None
            try:
                sample = next((as_object(load()) for _, load in packed_samples(path, archive)), None)
            except ValueError:  # InputError, too: out of proportion to what it is packed into
                return Outcome(task, None, "log_unreadable")
    except (OSError, zipfile.BadZipFile, InputError):
        return None
    if sample is None:
        return Outcome(task, None, "cancelled" if header["status"] == "cancelled" else "sample_failed")
    return _outcome(task, header, sample, scorer)


def _outcome(task: str, header: dict[str, Any], sample: dict[str, Any], scorer: str | None) -> Outcome:
    player = str((header.get("eval") or {}).get("model"))
    calls = [(call, is_scorers) for call, is_scorers in model_calls(sample.get("events") or ())]
    own = [call for call, is_scorers in calls if call.get("model") == player and not is_scorers]
    grades_itself = any(is_scorers and call.get("model") == player for call, is_scorers in calls)
    reward, reason = _judged(header, sample, scorer)
    if any(_stop_reason(call) == _TOO_LONG for call in own):
        reward, reason = None, "context_exceeded"  # the package goes on with the error as an answer
    elif grades_itself:
        reward, reason = None, "graded_by_player"
    usage = (sample.get("model_usage") or {}).get(player) or {}
    return Outcome(
        task=task,
        reward=reward,
        reason=reason,
        num_turns=len(own),
        num_prompt_tokens=usage.get("input_tokens"),
        num_tokens=usage.get("output_tokens"),
        seconds=sample.get("total_time"),
    )


def _judged(header: dict[str, Any], sample: dict[str, Any], scorer: str | None) -> tuple[float | None, str]:
    if sample.get("error") or header["status"] != "success":
        return None, "cancelled" if header["status"] == "cancelled" else "sample_failed"
    try:
        reward = reward_of(sample, scorer)
    except ValueError as error:
        raise InputError(f"inspect: {error}; name one of them as scorer=") from error
    if reward is None:
        name, score = next(iter((sample.get("scores") or {"": {}}).items()))
        if scorer is None and isinstance(parts := score.get("value"), dict):
            raise InputError(
                f"inspect: the score {name} has the parts {', '.join(parts)}; name one, such as "
                f"scorer='{name}.{next(iter(parts), '')}'"
            )
        return None, "not_scored"
    if not 0 <= reward <= 1:
        return None, "score_outside_0_1"
    limit = (sample.get("limit") or {}).get("type")
    return reward, f"{limit}_limit" if limit else "right" if reward == 1 else "wrong" if reward == 0 else "partial"


def _stop_reason(call: dict[str, Any]) -> Any:
    choices = (call.get("output") or {}).get("choices")
    return choices[0].get("stop_reason") if choices else None
