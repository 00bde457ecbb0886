"""Facts about a run besides its messages: whether it succeeded, its task, its name."""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pivotrl.reading.fields import identifier

RUN_KEYS = ("id", "trajectory_id", "traj_id", "conversation_id", "session_id", "sample_id", "uuid")
TASK_KEYS = (
    *("task_id", "instance_id", "problem_id", "example_id", "question_id", "prompt_id", "query_id", "issue_id"),
    *("scenario_id", "taskId", "instanceId", "problemId", "task_name"),
)
_STATEMENTS = ("problem_statement", "task_description", "problem", "question", "task")
"""Fields that state the task; runs of one task share them."""
_SHORTEST_STATEMENT = 30
"""A shorter text may be the name of a whole collection."""
REWARD_KEYS = ("reward", "score", "final_reward", "total_reward", "episode_reward", "outcome_reward", "final_score")

_GOOD = {
    *("success", "successful", "succeeded", "resolved", "solved", "passed", "pass", "correct", "won", "achieved"),
    *("accuracy", "acc", "correctness"),
}
_BAD = {"failed", "failure", "fail", "unresolved", "unsolved", "unsuccessful", "incorrect", "wrong", "lost"}
_FLAGS = {"target", "label"}
"""Keys that give the outcome if they are true or false, and mean something else otherwise."""
_WORDS = {
    "outcome",
    "verdict",
    "result",
    "label",
    "grade",
    "judgement",
    "judgment",
    "evaluation",
    "status",
    "exit_status",
}
_ENDS = {"status", "exit_status", "result"}
"""Keys whose positive words only say that the run finished."""
_YES = {"true", "yes", "1"} | _GOOD
_NO = {"false", "no", "0"} | _BAD
_GRADING = {
    *("result", "results", "outcome", "eval", "evaluation", "report", "metrics", "verification", "verifier", "judge"),
    *("eval_result", "eval_results", "evaluation_result", "test_result", "test_results", "verifier_result"),
    *("reward_info", "rewards", "scores", "grading", "reward", "score", "judgement", "judgment", "verdict", "label"),
    *("grade", "task_result", "final_result"),
}
_ABOUT = {"info", "metadata", "meta", "meta_info", "extra_info", "extra", "annotations", "labels", "summary"}
_MAX_DEPTH = 3
_PREFIX = re.compile(r"\A(?:is|was|has|did)_")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def run_name(row: dict[str, Any]) -> str | None:
    """The trajectory's own name."""
    return identifier(row, *RUN_KEYS[:2]) or next(filter(None, (_name(row.get(key)) for key in RUN_KEYS[2:])), None)


def task_name(row: dict[str, Any]) -> str | None:
    """The task's name, which all its runs share: an id, also inside the row's metadata, or a hash of its statement.

    Raises:
        ValueError: ``task_id`` is not a name.
    """
    if name := identifier(row, "task_id"):
        return name
    for holder in (row, *_inner(row, _ABOUT | {"task", "instance"})):
        for key in TASK_KEYS:
            if name := _name(holder.get(key)):
                return name
    for key in _STATEMENTS:
        text = row.get(key)
        if isinstance(text, str) and len(text) >= _SHORTEST_STATEMENT:
            return f"stated-{hashlib.sha256(text.strip().encode()).hexdigest()[:16]}"
    return None


def _name(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None


def known_reward(row: Mapping[str, Any]) -> float | None:
    """:func:`outcome` as a number.

    Raises:
        ValueError: it is none.
    """
    found = outcome(row)
    if found is None:
        return None
    try:
        reward = float(found)
    except (TypeError, ValueError):
        raise ValueError(f"the reward {found!r:.40} is not a number") from None
    if not math.isfinite(reward):
        raise ValueError(f"the reward is {reward}, which is not finite")
    return reward


def outcome(row: Mapping[str, Any]) -> Any:
    """The reward of the run; None if the row does not say: ``reward`` as it is, or what flags and words such as
    ``resolved``, ``success``, ``passed: false``, ``verdict: "incorrect"`` say, also inside the results of a grading.

    What stands nearer to the top goes first; of several flags side by side one that says no decides.
    """
    level: list[tuple[Mapping[str, Any], bool]] = [(row, True)]
    keys: tuple[str, ...] = REWARD_KEYS
    for _ in range(_MAX_DEPTH):
        for holder, is_grading in level:
            for key in keys if is_grading else keys[:1]:
                value = holder.get(key)
                if isinstance(value, list) and len(value) == 1:
                    value = value[0]
                if value is not None and not isinstance(value, dict | list):
                    return value
        said = [found for holder, _ in level for key in holder if (found := _said(key, holder[key])) is not None]
        if said:
            return min(said)
        keys = (*REWARD_KEYS, "value", "total")
        level = [
            (_by_name(holder[key]), key in _GRADING)
            for holder, _ in level
            for key in holder
            if (key in _GRADING or key in _ABOUT) and isinstance(holder[key], dict | list)
        ]
    return None


def _by_name(value: Any) -> Mapping[str, Any]:
    """A grading: an object, or a list of named values."""
    if isinstance(value, dict):
        return value
    named = [item for item in value if isinstance(item, dict) and isinstance(item.get("name"), str)]
    return {item["name"]: item.get("value", item.get("score")) for item in named}


def _inner(row: Mapping[str, Any], keys: Iterable[str]) -> Iterator[Mapping[str, Any]]:
    return (row[key] for key in row if key in keys and isinstance(row[key], dict))


def _said(key: Any, value: Any) -> float | None:
    """The outcome according to a member; None if it says nothing."""
    sign, is_exact, is_words = _meaning(key) if isinstance(key, str) else (0, False, False)
    if not sign and not is_words:
        return None
    if isinstance(value, bool):
        good = value if sign >= 0 else not value
        return float(good) if sign or key in _FLAGS else None
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _NO:
            return 1.0 if sign < 0 else 0.0
        if word in _YES and not (is_words and key in _ENDS):
            return 0.0 if sign < 0 else 1.0
        return None
    if isinstance(value, int | float) and is_exact and 0 <= value <= 1 and key not in _FLAGS:
        return float(value) if sign > 0 else 1.0 - value
    return None


@functools.lru_cache(maxsize=4096)
def _meaning(key: str) -> tuple[int, bool, bool]:
    """(1 for good, -1 for bad, 0 for neither; whether the whole key says so; whether its words count)."""
    name = _PREFIX.sub("", _HUMP.sub("_", key).lower().replace("-", "_"))
    last = name.rpartition("_")[2]
    sign = 1 if last in _GOOD or name in _FLAGS else -1 if last in _BAD else 0
    return sign, name == last, name in _WORDS
