"""The samples of a turn, equal actions together, each with what it most resembles among the right actions."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pivotrl.parsing import action_text
from pivotrl.records import Action, Completion, Verdict
from pivotrl.report.browser.words import detail_words
from pivotrl.selection.actions import meaning_of, tools_called

EXPECTED, NONE = -1, -2
"""In place of the index of an accepted action."""
_MAX_WORDS = 400
_MAX_DETAIL = 600

Code = Callable[[str], int]
"""Reason -> its number."""
Heat = Callable[[Completion], dict[str, Any]]
"""Completion -> its tokens with their log-probabilities."""


@dataclass(frozen=True)
class Drawn:
    """One sample of a turn."""

    completion: Completion
    verdict: Verdict
    number: int
    step: int | None = None
    num_tokens: int | None = None
    """Where the completion does not have its tokens."""
    seed: int | None = None
    """Of the training whose policy drew it, where several were trained alike."""


@dataclass(frozen=True)
class Draws:
    """What a source holds of one turn."""

    samples: Sequence[Drawn]
    counts: tuple[int, int, int] | None = None
    """(passed, failed, without verdict), where not all samples were kept."""
    mean: float | None = None
    """Where not all samples were kept."""
    num_cut_off: int | None = None
    prompt_sha256: str = ""
    """Hash of the prompt that they were drawn at, if it is known."""


@dataclass
class Summary:
    """A turn's row of results."""

    passed: int = 0
    failed: int = 0
    unknown: int = 0
    mean: float | None = None
    cut_off: int = 0
    malformed: int = 0
    reason: int = -1
    """The commonest one among samples that did not pass."""


@dataclass
class _Same:
    """Samples that do the same and were judged alike."""

    first: Drawn
    drawn: list[Drawn] = field(default_factory=list)


def summary_of(draws: Draws, code: Code) -> Summary:
    """Counts over the samples; the mean is over those with a verdict."""
    found = Summary()
    rewards, reasons = list[float](), dict[int, int]()
    for drawn in draws.samples:
        verdict, completion = drawn.verdict, drawn.completion
        found.passed += verdict.outcome == "pass"
        found.failed += verdict.outcome == "fail"
        found.unknown += verdict.outcome == "no_verdict"
        found.cut_off += completion.finish_reason == "length"
        found.malformed += completion.parse_error is not None and completion.finish_reason == "stop"
        if verdict.reward is not None:
            rewards.append(verdict.reward)
        if verdict.outcome != "pass" and verdict.reason:
            number = code(verdict.reason)
            reasons[number] = reasons.get(number, 0) + 1
    found.mean = round(sum(rewards) / len(rewards), 6) if rewards else None
    found.reason = max(reasons, key=lambda number: reasons[number], default=-1)
    if draws.counts is not None:
        found.passed, found.failed, found.unknown = draws.counts
        found.mean = draws.mean
    if draws.num_cut_off is not None:
        found.cut_off = draws.num_cut_off
    return found


def act(action: Action) -> dict[str, Any]:
    """An action as the page reads it."""
    return {
        "content": action.content,
        "calls": [{"name": call.name, "arguments": call.arguments} for call in action.tool_calls],
    }


def turn_samples(
    expected: Action | None, accepted: Sequence[Action], draws: Draws, code: Code, heat: Heat | None = None
) -> dict[str, Any]:
    """The samples of a turn as the page reads them: distinct actions, the commonest first.

    Args:
        expected: None where nothing was demonstrated, as in an episode.
        accepted: other actions that are right.
    """
    groups: dict[Any, _Same] = {}
    for drawn in draws.samples:
        verdict = drawn.verdict
        completion = drawn.completion
        same = completion.fault or completion.parse_error or meaning_of(completion.action)
        key = same, verdict.outcome, verdict.reward, verdict.reason
        groups.setdefault(key, _Same(drawn)).drawn.append(drawn)
    ordered = sorted(groups.values(), key=lambda same: -len(same.drawn))
    right = [] if expected is None else [expected, *accepted]
    return {
        "expected": act(expected) if expected is not None else {"content": None, "calls": []},
        "accepted": [act(action) for action in accepted],
        "actions": [_action(same, right, code, heat) for same in ordered],
    }


def _action(same: _Same, right: Sequence[Action], code: Code, heat: Heat | None) -> dict[str, Any]:
    completion, verdict = same.first.completion, same.first.verdict
    partial = verdict.outcome == "fail" and (verdict.reward or 0.0) > 0.0
    return {
        "act": act(completion.action),
        "text": completion.text or action_text(completion.action),
        "count": len(same.drawn),
        "outcome": "partial" if partial else verdict.outcome,
        "reward": verdict.reward,
        "reason": code(verdict.reason),
        "detail": _detail(verdict),
        "nearest": NONE if completion.parse_error else nearest(completion.action, right),
        "samples": [_sample(drawn, completion.text, heat) for drawn in same.drawn],
    }


def _sample(drawn: Drawn, text: str, heat: Heat | None) -> dict[str, Any]:
    completion = drawn.completion
    found: dict[str, Any] = {
        "number": drawn.number,
        "tokens": len(completion.token_ids_T) if drawn.num_tokens is None else drawn.num_tokens,
        "finish": completion.finish_reason,
        "error": completion.fault or completion.parse_error,
        "step": drawn.step,
        "reward": drawn.verdict.reward,
    }
    if drawn.seed is not None:
        found["seed"] = drawn.seed
    if completion.text != text:
        found["text"] = completion.text
    if heat is not None and completion.token_ids_T:
        found["heat"] = heat(completion)
    return found


def _detail(verdict: Verdict) -> str:
    """The details of a verdict, to be read after its reason: ``tool find_flight; at flights[0].date``."""
    told = [
        f"{detail_words(verdict.reason, name)} {_value(value)}"
        for name, value in verdict.details.items()
        if name != "num_rollout_turns" and value not in ("", None, [], {})
    ]
    text = "; ".join(told)
    return text if len(text) <= _MAX_DETAIL else f"{text[: _MAX_DETAIL - 1]}…"


def _value(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False, default=str)


def nearest(action: Action, right: Sequence[Action]) -> int:
    """Which of the right actions an action most resembles: -1 for the first, i - 1 for the others, -2 for none.

    One that calls the same tools is nearer than any that does not. Then the words decide (the first 400).
    """
    if not right or action.is_empty:
        return NONE
    if len(right) == 1:
        return EXPECTED
    tools, words = tools_called(action), _words(action)
    matcher = difflib.SequenceMatcher(None, autojunk=False)
    matcher.set_seq2(words)
    scores = []
    for place, other in enumerate(right):
        matcher.set_seq1(_words(other))
        scores.append((tools_called(other) == tools, matcher.ratio(), -place))
    return -max(scores)[2] - 1


def _words(action: Action) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", action_text(action)[: 8 * _MAX_WORDS])[:_MAX_WORDS]
