"""Guard rails: a training that collapses ends itself, with the reason and the option that changes it.

A rail looks at one metric. It ends the training when the metric was beyond its limit in ``guard_steps`` steps in a row,
not counting steps in which it is unknown. "At the start" is its mean over the first ``guard_steps`` such steps.

Entropy falls in every good training, groups agree where everything is learned, and a policy that learns moves away from
its reference. These three rails therefore end a training only if a gain in mean reward since the start is excluded
(:mod:`pivotrl.training_options.gain`). They compare the start with all steps in a row beyond the limit, each time when
``guard_steps`` more of them are complete. Malformed samples, and messages in place of calls, must have become more
frequent since then.

recipes/guard_rails.py tries the limits on the trainings of a comparison.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from pivotrl.options import AtLeast0, Positive, check, flag
from pivotrl.protocols import Collapsed, Notice
from pivotrl.training_options.gain import LEAST_GAIN, most_gain

_MAX_SKIPPED = 3
"""Updates skipped in a row, because the loss or the gradient was not finite."""
_RISE = 0.25
"""Malformed samples and messages must be more frequent than at the start by this share of the samples."""
_FEWEST_EXPECTED = 10
"""Groups with signal that must be missing, compared with the start: in small steps a few dead groups are chance."""


@dataclass(frozen=True)
class GuardRails:
    """When a training that collapses ends itself (docs/runs.md). None of them changes what is learned."""

    guard_steps: AtLeast0 = 10
    """Steps in a row beyond one of the limits below that end the training. 0: they never do."""
    guard_entropy: Annotated[float, Field(gt=0, le=1)] | None = 0.05
    """Least entropy per token, as a share of that at the start. None: no limit."""
    guard_dead_groups: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    """Largest share of groups without signal. None: no limit."""
    guard_malformed: Annotated[float, Field(gt=0, le=1)] | None = 0.5
    """Largest share of malformed samples. None: no limit."""
    guard_messages: Annotated[float, Field(gt=0, le=1)] | None = 0.5
    """Largest share of plain messages where the demonstrations call tools. None: no limit."""
    guard_kl: Positive | None = 2.0
    """Largest KL(policy || reference) in nats per token; known with --kl-coefficient. None: no limit."""

    def __post_init__(self) -> None:
        check(self)


OPTIONS = tuple(field.name for field in dataclasses.fields(GuardRails))
"""They may change when a training continues."""


class GuardRail:
    """Watches a training step by step.

    Args:
        rows: the metrics of the steps so far, of a training that continues.
    """

    def __init__(
        self, options: GuardRails, learning_rate: float | None, rows: Sequence[Mapping[str, float]] = ()
    ) -> None:
        self._options, self._rows, self._rate = options, list(rows), learning_rate
        self._warned: set[str] = set()

    def look(self, metrics: Mapping[str, float]) -> None:
        """Take in the metrics of one more step; a notice says half-way that a rail is near.

        Raises:
            Collapsed: a rail was reached, or three updates in a row were skipped.
        """
        self._rows.append(metrics)
        if told := _not_finite(self._rows):
            raise Collapsed(
                f"{told}; train again with {flag('learning_rate')} below {self._rate}, or with a dtype of larger range"
            )
        steps = self._options.guard_steps
        for fault in _faults(self._options, self._rows, steps):
            raise Collapsed(
                f"{fault}: the training has collapsed and ends here. All samples and the last checkpoint are kept. "
                f"Train again with a lower {flag('learning_rate')} than {self._rate}, or continue with another "
                f"{flag(fault.option)} or {flag('guard_steps')} 0"
            )
        for fault in _faults(self._options, self._rows, (steps + 1) // 2):
            if fault.option not in self._warned and steps > 1:
                self._warned.add(fault.option)
                left = steps - (steps + 1) // 2
                told = f"{fault}. {left} more such steps may end the training ({flag(fault.option)})"
                warnings.warn(told, Notice, stacklevel=2)


def stopped_by(options: Mapping[str, Any], rows: Sequence[Mapping[str, float]]) -> str:
    """Why the training with these metrics ended before its last step; "" if no rail ended it.

    Args:
        options: of its manifest.
    """
    if len(rows) >= options.get("num_steps", 0) or not set(OPTIONS) <= options.keys():
        return ""
    rails = GuardRails(**{name: options[name] for name in OPTIONS})
    return _not_finite(rows) or next((str(fault) for fault in _faults(rails, rows, rails.guard_steps)), "")


class _Fault(NamedTuple):
    option: str
    words: str

    def __str__(self) -> str:
        return self.words


def _not_finite(rows: Sequence[Mapping[str, float]]) -> str:
    skipped = [row["update/skipped"] for row in rows if "update/skipped" in row][-_MAX_SKIPPED:]
    if len(skipped) < _MAX_SKIPPED or not all(skipped):
        return ""
    return f"loss or gradient was not finite in {_MAX_SKIPPED} steps in a row, up to step {len(rows)}"


def _faults(options: GuardRails, rows: Sequence[Mapping[str, float]], in_a_row: int) -> Iterator[_Fault]:
    """The rails whose metric was beyond its limit in this many steps in a row, up to the latest."""
    if not options.guard_steps:
        return
    seen, span = _Seen(rows, options.guard_steps, in_a_row), f"in {in_a_row} steps in a row, up to step {len(rows)}"
    entropy = seen.window([row.get("policy/entropy") for row in rows])
    limit = (options.guard_entropy or 0.0) * entropy.start if entropy else 0.0
    if entropy and max(entropy.values) < limit and seen.is_without_gain(entropy, lambda v: v < limit):
        words = f"entropy was below {limit:.3g} nats per token {span} (at the start {entropy.start:.3g})"
        yield _Fault("guard_entropy", words)
    malformed = seen.window(_shares(rows, "samples/malformed", "samples/total"))
    if malformed and _is_frequent(malformed, options.guard_malformed):
        yield _Fault("guard_malformed", f"{_at_least(malformed)} of the samples were malformed {span}{_was(malformed)}")
    messages = seen.window(_shares(rows, "samples/messages", "samples/calls_demonstrated"))
    if messages and _is_frequent(messages, options.guard_messages):
        words = f"{_at_least(messages)} of the samples were messages where the demonstrations call tools"
        yield _Fault("guard_messages", f"{words} {span}{_was(messages)}")
    alive = _shares(rows, "groups/with_signal", "groups/with_verdict")
    dead = seen.window([None if share is None else 1 - share for share in alive])
    if dead and options.guard_dead_groups is not None and min(dead.values) >= options.guard_dead_groups:
        num_groups, num_alive = (
            sum(rows[step][name] for step in dead.last) for name in ("groups/with_verdict", "groups/with_signal")
        )
        is_many, least = (1 - dead.start) * num_groups - num_alive >= _FEWEST_EXPECTED, options.guard_dead_groups
        if is_many and seen.is_without_gain(dead, lambda value: value >= least):
            words = f"{_at_least(dead)} of the groups had no signal {span}{_was(dead)}"
            yield _Fault("guard_dead_groups", words)
    moved = seen.window([row.get("loss/kl") for row in rows])
    most = max(options.guard_kl, moved.start) if moved and options.guard_kl is not None else math.inf
    if moved and min(moved.values) >= most and seen.is_without_gain(moved, lambda value: value >= most):
        words = f"KL to the reference was {min(moved.values):.3g} nats per token or more {span}"
        yield _Fault("guard_kl", f"{words} (at the start {moved.start:.3g})")


class _Window(NamedTuple):
    """The first and the latest steps in which a metric is known, its mean in the first, and the latest values."""

    first: Sequence[int]
    last: Sequence[int]
    start: float
    values: Sequence[float]
    known: Sequence[tuple[int, float]]
    """All steps in which the metric is known."""


class _Seen(NamedTuple):
    rows: Sequence[Mapping[str, float]]
    guard_steps: int
    in_a_row: int

    def window(self, values: Sequence[float | None]) -> _Window | None:
        """None if too few are known."""
        known = [(step, value) for step, value in enumerate(values) if value is not None]
        first, last = known[: self.guard_steps], known[-self.in_a_row :]
        if len(known) <= self.guard_steps:
            return None
        start = statistics.fmean(value for _, value in first)
        steps, last_steps = [step for step, _ in first], [step for step, _ in last]
        return _Window(steps, last_steps, start, [value for _, value in last], known)

    def is_without_gain(self, window: _Window, is_beyond: Callable[[float], bool]) -> bool:
        """Whether a gain since the start is excluded; for a notice half-way, whether none is seen.

        Args:
            is_beyond: whether a value of the metric is beyond its limit.
        """
        before = [self.rows[step] for step in window.first]
        if self.in_a_row < self.guard_steps:
            rewards, start = (_rewards(rows) for rows in ([self.rows[step] for step in window.last], before))
            return bool(rewards and start) and statistics.fmean(rewards) <= statistics.fmean(start)
        later = window.known[self.guard_steps :]
        spans = [list(span) for beyond, span in itertools.groupby(later, lambda known: is_beyond(known[1])) if beyond]
        if not spans or len(spans[-1]) % self.guard_steps:
            return False
        look = sum(len(span) // self.guard_steps for span in spans)
        return most_gain(before, [self.rows[step] for step, _ in spans[-1]], look) < LEAST_GAIN


def _rewards(rows: Sequence[Mapping[str, float]]) -> list[float]:
    return [row["reward/mean"] for row in rows if "reward/mean" in row]


def _shares(rows: Sequence[Mapping[str, float]], part: str, whole: str) -> list[float | None]:
    return [row[part] / row[whole] if row.get(whole) and part in row else None for row in rows]


def _is_frequent(window: _Window, limit: float | None) -> bool:
    return limit is not None and min(window.values) >= max(limit, window.start + _RISE)


def _at_least(window: _Window) -> str:
    least = min(window.values)
    return "all" if least == 1 else f"{least:.0%} or more"


def _was(window: _Window) -> str:
    return f" (at the start {window.start:.0%})"
