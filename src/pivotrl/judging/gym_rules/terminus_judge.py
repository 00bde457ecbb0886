"""Server ``terminus_judge``, without its judge: an answer of a Terminus agent by the keys it would press.

The rules of ``terminus_judge_string_only.yaml``. Where another configuration would ask a judge next, the answer fails.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any

from pivotrl.judging.gym_rules.result import GymResult, parse
from pivotrl.judging.gym_rules.schema_check import fits


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {**required, **(optional or {})},
        "required": list(required),
    }


_TEXT, _FLAG, _NUMBER = {"type": "string"}, {"type": "boolean"}, {"type": "number"}
_KEYS = {"terminus_1": ("state_analysis", "explanation"), "terminus_2": ("analysis", "plan")}
_COMPLETION = {"terminus_1": "is_task_complete", "terminus_2": "task_complete"}
_COMMANDS = {
    "terminus_1": _object({"keystrokes": _TEXT, "is_blocking": _FLAG, "timeout_sec": _NUMBER}),
    "terminus_2": _object({"keystrokes": _TEXT}, {"duration": _NUMBER}),
}


def _answer(harness: str) -> dict[str, Any]:
    required = {**dict.fromkeys(_KEYS[harness], _TEXT), "commands": {"type": "array", "items": _COMMANDS[harness]}}
    completion = {_COMPLETION[harness]: _FLAG}
    return _object({**required, **completion}) if harness == "terminus_1" else _object(required, completion)


SCHEMAS = {harness: _answer(harness) for harness in _KEYS}
"""What an answer must look like, by harness."""


def compare(expected: str, actual: str, *, harness: object, threshold: float) -> GymResult:
    """Reward an answer.

    Args:
        harness: ``terminus_1`` or ``terminus_2``; with any other, nothing earns a reward.
        threshold: least ``SequenceMatcher`` ratio of the keystrokes, all commands run together.
    """
    actual = actual.strip()
    if not expected:
        return _failed("expected_answer_invalid")
    if not actual:
        return _failed("model_output_invalid")
    if "</think>" in actual:
        actual = actual.rpartition("</think>")[2].strip()
    try:
        wanted = parse(expected)
    except ValueError:
        wanted = None
    if not isinstance(wanted, dict):
        return _failed("expected_answer_invalid")
    try:
        given = parse(actual)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        return _failed("model_output_invalid")
    if not isinstance(harness, str) or harness not in SCHEMAS:
        return _failed("unknown_harness")
    if not fits(wanted, SCHEMAS[harness]):
        return _failed("expected_answer_invalid")
    if not fits(given, SCHEMAS[harness]):
        return _failed("schema_check_failed")
    if wanted.get(_COMPLETION[harness]) and not given.get(_COMPLETION[harness]):
        return _failed("task_complete_check_failed")
    similarity = _similarity(_keystrokes(wanted), _keystrokes(given))
    if similarity < threshold:
        return _failed("string_similarity_below_threshold", similarity=similarity)
    return GymResult(1.0, "match", "none", {"similarity": similarity})


def _keystrokes(answer: dict[str, Any]) -> list[str]:
    return [command["keystrokes"] for command in answer["commands"]]


def _similarity(expected: list[str], actual: list[str]) -> float:
    if not expected or not actual:
        return float(expected == actual)
    return SequenceMatcher(None, "".join(expected), "".join(actual)).ratio()


def _failed(code: str, **detail: float) -> GymResult:
    return GymResult(0.0, code, code, detail)
