"""Where the agent wavers: the outcomes of a profile by tool, depth, reason of failure, and equal wrong actions.

A turn wavers if some of its samples pass and some fail. Nothing is sampled here. Intervals: 95 %, clustered by task.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pivotrl.advantages import have_spread
from pivotrl.intervals import Estimate, clustered_mean
from pivotrl.parsing import action_text, canonical
from pivotrl.protocols import Turn
from pivotrl.records import Completion, SampleGroup, Trajectory
from pivotrl.runs.files import RunFiles
from pivotrl.selection.actions import tools_called

Order = Literal["variance", "pass-rate", "depth"]

_MAX_ACTIONS = 50
"""Wrong actions that are listed; each needs an interval over all turns."""


@dataclass(frozen=True)
class TurnOutcome:
    """One profiled turn."""

    turn_id: str
    task_id: str
    tool: str
    """Of the demonstrated action; ``(message)`` if it calls none."""
    depth: int
    """The place of the turn among the agent's turns of its trajectory, from 1."""
    num_samples: int
    num_scored: int
    pass_rate: float | None
    """Mean reward of the samples with a verdict; None if there are none."""
    variance: float | None
    wavers: bool | None
    reasons: dict[str, int]
    """Reason -> samples, of those that did not pass."""
    wrong: dict[str, int]
    """Failed action -> samples; equal actions are written alike."""


@dataclass(frozen=True)
class Part:
    """Some of the turns, and what they have in common."""

    name: str
    num_turns: int
    num_scored_turns: int
    """Turns with a verdict; the rest say nothing."""
    wavering: Estimate | None
    """Share of these turns that waver; None without a verdict."""
    pass_rate: Estimate | None
    variance: float | None
    """Mean over turns."""


@dataclass(frozen=True)
class Failure:
    """A reason, or a wrong action, with the turns where it occurs."""

    name: str
    num_samples: int
    num_turns: int
    share: Estimate
    """Share of all turns where it occurs."""
    example: str
    """A turn where it is most frequent."""


@dataclass(frozen=True)
class Wavering:
    """The report."""

    total: Part
    by_tool: Sequence[Part]
    by_depth: Sequence[Part]
    by_reason: Sequence[Failure]
    """The most frequent first."""
    by_wrong_action: Sequence[Failure]
    """The same, the first 50."""
    num_wrong_actions: int
    """Different ones."""

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def turn_outcomes(files: RunFiles) -> list[TurnOutcome]:
    """Every turn profiled so far, in the order of the profile.

    Raises:
        InputError: there is no profile, or a file is damaged.
    """
    groups = list(files.profiled().values())
    if not groups:
        files.finished("profile")  # says what is missing
    turns = files.turns(group.turn_id for group in groups)
    depths = {name: places_of(log) for name, log in {turn.trajectory.id: turn.trajectory for turn in turns}.items()}
    return [
        _outcome(turn, group, depths[turn.trajectory.id][turn.index]) for turn, group in zip(turns, groups, strict=True)
    ]


def in_order(outcomes: Iterable[TurnOutcome], order: Order) -> list[TurnOutcome]:
    """By variance: the greatest first. By pass rate: the lowest first. By depth: the first turns first. Turns without a
    verdict are last."""
    keys: dict[Order, Callable[[TurnOutcome], float | None]] = {
        "variance": lambda outcome: None if outcome.variance is None else -outcome.variance,
        "pass-rate": lambda outcome: outcome.pass_rate,
        "depth": lambda outcome: outcome.depth,
    }

    def rank(outcome: TurnOutcome) -> tuple[bool, float, str]:
        value = keys[order](outcome)
        return value is None, value or 0.0, outcome.turn_id

    return sorted(outcomes, key=rank)


def wavering(outcomes: Sequence[TurnOutcome]) -> Wavering:
    """The report on these turns, at least one."""
    return Wavering(
        total=_part("all turns", outcomes),
        by_tool=_parts(outcomes, lambda outcome: outcome.tool, lambda part: (-part.num_turns, part.name)),
        by_depth=_parts(outcomes, _depths, lambda part: int(part.name.partition("-")[0])),
        by_reason=_failures(outcomes, lambda outcome: outcome.reasons),
        by_wrong_action=_failures(outcomes, lambda outcome: outcome.wrong, _MAX_ACTIONS),
        num_wrong_actions=len({action for outcome in outcomes for action in outcome.wrong}),
    )


def places_of(trajectory: Trajectory) -> dict[int, int]:
    """Index of each of the agent's messages -> its place among them, from 1. Pinned examples are not the agent's."""
    own = range(trajectory.pinned_messages, len(trajectory.messages))
    indexes = [index for index in own if trajectory.messages[index].role == "assistant"]
    return {index: place for place, index in enumerate(indexes, start=1)}


def _outcome(turn: Turn, group: SampleGroup, depth: int) -> TurnOutcome:
    reasons, wrong = Counter[str](), Counter[str]()
    for completion, verdict in zip(group.completions_G, group.verdicts_G, strict=True):
        if verdict.outcome != "pass":
            reasons[verdict.reason if verdict.outcome == "fail" else f"no verdict: {verdict.reason}"] += 1
        if verdict.outcome == "fail":
            wrong[written(completion)] += 1
    rewards = group.rewards
    return TurnOutcome(
        turn_id=turn.id,
        task_id=turn.trajectory.task_id,
        tool=tools_called(turn.expected_action),
        depth=depth,
        num_samples=len(group.completions_G),
        num_scored=len(rewards),
        pass_rate=group.mean,
        variance=group.variance,
        wavers=have_spread(rewards) if rewards else None,
        reasons=dict(reasons),
        wrong=dict(wrong),
    )


def written(completion: Completion) -> str:
    """An action as text, equal ones alike; what is wrong with a malformed one, in brackets."""
    if completion.parse_error is not None:
        return f"({completion.parse_error})"
    try:
        return action_text(canonical(completion.action))
    except ValueError:  # arguments that are not JSON
        return action_text(completion.action)


def _depths(outcome: TurnOutcome) -> str:
    """1, 2, 3-4, 5-8, 9-16, and so on."""
    last = 1
    while last < outcome.depth:
        last *= 2
    return str(last) if last <= 2 else f"{last // 2 + 1}-{last}"


def _parts(
    outcomes: Sequence[TurnOutcome], name: Callable[[TurnOutcome], str], rank: Callable[[Part], Any]
) -> list[Part]:
    members: dict[str, list[TurnOutcome]] = {}
    for outcome in outcomes:
        members.setdefault(name(outcome), []).append(outcome)
    return sorted((_part(each, those) for each, those in members.items()), key=rank)


def _part(name: str, outcomes: Sequence[TurnOutcome]) -> Part:
    scored = [outcome for outcome in outcomes if outcome.pass_rate is not None]
    tasks = [outcome.task_id for outcome in scored]
    variances = [outcome.variance or 0.0 for outcome in scored]
    return Part(
        name=name,
        num_turns=len(outcomes),
        num_scored_turns=len(scored),
        wavering=clustered_mean([float(bool(o.wavers)) for o in scored], tasks) if scored else None,
        pass_rate=clustered_mean([o.pass_rate or 0.0 for o in scored], tasks) if scored else None,
        variance=sum(variances) / len(variances) if variances else None,
    )


def _failures(
    outcomes: Sequence[TurnOutcome], counts: Callable[[TurnOutcome], dict[str, int]], limit: int | None = None
) -> list[Failure]:
    samples, places = Counter[str](), dict[str, list[int]]()
    for place, outcome in enumerate(outcomes):
        for name, number in counts(outcome).items():
            samples[name] += number
            places.setdefault(name, []).append(place)
    tasks = [outcome.task_id for outcome in outcomes]
    found = []
    for name, number in sorted(samples.items(), key=lambda item: (-item[1], item[0]))[:limit]:
        own = set(places[name])
        most = max(places[name], key=lambda place: counts(outcomes[place])[name])
        share = clustered_mean([float(place in own) for place in range(len(outcomes))], tasks)
        found.append(Failure(name, number, len(own), share, outcomes[most].turn_id))
    return found
