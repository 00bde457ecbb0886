"""Checks that a plugin fits its kind before anything is sampled with it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pivotrl.plugins.describing import describe
from pivotrl.plugins.faults import told, told_of
from pivotrl.plugins.parts import SEE as _SEE
from pivotrl.plugins.parts import kind_of as _kind
from pivotrl.plugins.parts import misfit as _misfit
from pivotrl.plugins.parts import require_parts as _require_parts
from pivotrl.protocols import InputError, ObjectiveName, Policy, Reader, Sampler, TrainingGroup, Turn, Verifier
from pivotrl.records import Refusal, SampleGroup, Sampling, Trajectory

_SAMPLER = {"identity": None, "fits": 2, "sample": 3}
_POLICY = {
    **{**_SAMPLER, "training_identity": None, "reference": None, "encode_action": 2, "update": 3},
    **{"save": 1, "load": 1, "export": 1, "score_text": 2},
}
_METHOD = {"title": None, "objective": None, "verifies": None, "plays": None, "check": 1, "lesson": 1}
"""The parts that each must have, with the number of arguments of methods."""
_HARNESS = {
    **{"package": None, "version": None, "requirements": None, "max_batch": None, "reader": None},
    **{"logs": None},
    **{"check": 1, "tasks": 1, "command": 2, "outcomes": 1, "gold": 1},
}
_LESSON = ("groups", "teaches", "metrics")


def require_reader(reader: Reader) -> None:
    """Raises:
    InputError: it cannot be called with a path.
    """
    _require_call(reader, "reader", 1, "a path")


def require_verifier(verifier: Verifier) -> None:
    """Raises:
    InputError: it cannot be called with a turn and an action.
    """
    _require_call(verifier, "verifier", 2, "a turn and an action")


def require_sampler(sampler: Sampler) -> None:
    """Raises:
    InputError: a part of a sampler is missing; the message names it.
    """
    _require_parts(sampler, "sampler", _SAMPLER)


def require_policy(policy: Policy) -> None:
    """Raises:
    InputError: a part of a policy is missing; the message names it.
    """
    _require_parts(policy, "policy", _POLICY)


def trajectories(reader: Reader, path: Path) -> Iterator[Trajectory | Refusal]:
    """The reader's trajectories and refusals.

    Raises:
        InputError: the reader fails or yields a value of the wrong type.
    """
    name = f"the reader {describe(reader)}"
    with told(f"{name} fails at {path}"):
        found: Any = reader(path)
        if not hasattr(found, "__iter__"):
            raise InputError(f"{name} returned {_kind(found)}, not an iterator of trajectories; {_SEE}")
        for item in found:
            if not isinstance(item, Trajectory | Refusal):
                raise InputError(f"{name} yielded {_kind(item)}, not a Trajectory or a Refusal; {_SEE}")
            yield item


def sampled(
    sampler: Sampler, turns: Sequence[Turn], num_samples: int, sampling: Sampling, first: int = 0
) -> Iterator[SampleGroup]:
    """The sampler's groups: ``num_samples`` samples at each turn, in order, numbered from ``first``.

    Raises:
        InputError: the sampler returns something else, or a user's sampler fails.
    """
    acting: Any = getattr(sampler, "loaded", sampler)
    name, expected = f"the sampler {describe(acting)}", iter(turns)
    with told_of(acting, f"{name} fails in sample"):
        later = (first,) if first else ()  # a sampler that is only called once per turn need not take it
        found: Any = sampler.sample(turns, num_samples, sampling, *later)
        if not hasattr(found, "__iter__"):
            raise InputError(f"{name} returned {_kind(found)}, not an iterator of groups; {_SEE}")
        for group in found:
            turn = next(expected, None)
            if not isinstance(group, SampleGroup):
                raise InputError(f"{name} yielded {_kind(group)}, not a SampleGroup; {_SEE}")
            if turn is None or group.turn_id != turn.id:
                place = turn.id if turn else "no turn"
                raise InputError(f"{name} yielded a group of {group.turn_id!r} instead of {place}; {_SEE}")
            if len(group.completions_G) != num_samples:
                got = f"{len(group.completions_G)} of {num_samples} samples"
                raise InputError(f"{name} returned {got} at {turn.id}; {_SEE}")
            if group.first != first:
                raise InputError(f"{name} returned samples from number {group.first} instead of {first}; {_SEE}")
            yield group
        if (turn := next(expected, None)) is not None:
            raise InputError(f"{name} returned no group for {turn.id}; {_SEE}")


def require_harness(harness: Any) -> None:
    """Raises:
    InputError: a part of a harness is missing; the message names it.
    """
    _require_parts(harness, "harness", _HARNESS)


def require_method(method: Any) -> None:
    """Raises:
    InputError: a part of a training method is missing or wrong; the message names it.
    """
    _require_parts(method, "method", _METHOD)
    if method.objective not in get_args(ObjectiveName):
        known = " or ".join(map(repr, get_args(ObjectiveName)))
        raise InputError(f"the method {describe(method)}: objective must be {known}, not {method.objective!r:.80}")


def taught(method: Any, step: Any) -> Any:
    """The method's lesson of a step.

    Raises:
        InputError: a user's method fails, or the lesson has the wrong shape or numbers that are not finite.
    """
    name = f"the method {describe(method)}"
    with told_of(method, f"{name} fails in lesson"):
        lesson: Any = method.lesson(step)
    if fault := _fault_of_lesson(lesson):
        raise InputError(f"{name}: lesson returned {fault}; {_SEE}")
    return lesson


def _fault_of_lesson(lesson: Any) -> str:
    if missing := [part for part in _LESSON if not hasattr(lesson, part)]:
        return f"{_kind(lesson)}, which lacks {', '.join(missing)}, not a Lesson"
    if not isinstance(lesson.groups, (list, tuple)):
        return f"{_kind(lesson.groups)} as groups, not a list"
    if wrong := [item for item in lesson.groups if not isinstance(item, TrainingGroup)]:
        return f"{_kind(wrong[0])} in groups, not a TrainingGroup"
    if lesson.teaches and not lesson.groups:
        return "no groups, but teaches is true"
    for group in lesson.groups:
        if len(group.completions_G) != len(group.advantages_G):
            pair = f"{len(group.completions_G)} completions and {len(group.advantages_G)} advantages"
            return f"a group with {pair} at {group.turn.id}"
        if not all(map(_is_finite, group.advantages_G)):
            return f"an advantage that is not a finite number at {group.turn.id}"
    if not isinstance(lesson.metrics, Mapping):
        return f"{_kind(lesson.metrics)} as metrics, not a dict"
    for key, value in lesson.metrics.items():
        if not hasattr(value, "__float__"):
            return f"the metric {key!r}, which is {_kind(value)}, not a number"
    return ""


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, ValueError, OverflowError):
        return False


def _require_call(plugin: Any, kind: str, num_arguments: int, arguments: str) -> None:
    if not callable(plugin):
        raise InputError(f"a {kind} must be callable with {arguments}; {plugin!r:.80} is not; {_SEE}")
    if fault := _misfit(plugin, num_arguments):
        raise InputError(f"the {kind} {describe(plugin)} cannot be called with {arguments}: {fault}; {_SEE}")
