"""How a verifier judged the probes: the rates of ``check.json`` with their intervals."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from pydantic import Field

from pivotrl.intervals import clustered_mean
from pivotrl.judging.probes.probe import Probe
from pivotrl.judging.probes.turn_kinds import kind_of_turn, language_of_turn
from pivotrl.judging.suggestion import combined, fitting_verifier
from pivotrl.parsing import action_text
from pivotrl.protocols import Turn
from pivotrl.records import Record, Verdict
from pivotrl.rollouts import turns_bought

_NUM_WORST = 10
_MAX_TEXT = 400
_MAX_REWARDS = 50


class Rate(Record):
    """A share of probes with its interval (95 %), clustered by task."""

    count: int
    """Probes judged wrongly."""
    num_probes: int
    """Probes with a verdict."""
    num_tasks: int
    mean: float
    low: float
    high: float


class Row(Record):
    """The rates of one kind of probe, tool, or turn; None if no such probe got a verdict."""

    false_pass: Rate | None
    false_fail: Rate | None


class Example(Record):
    """A probe that was judged wrongly."""

    turn_id: str
    kind: str
    certain: bool
    text: str
    expected_text: str
    reward: float | None
    reason: str


class CheckReport(Record):
    """``check.json``. False passes and false fails count certain probes only, unless they say otherwise."""

    verifier: str
    trajectories_sha256: str
    source_sha256: str = ""
    """Hash of the verifier's code, if it is not part of this package."""
    turns_sha256: str = ""
    """Hash of the ids of the turns that the checked ones were drawn from."""
    package: str = ""
    """Version that made the probes."""
    options: dict[str, int | float]
    num_turns: int
    num_tasks: int
    num_turns_skipped: int
    """Turns drawn but not checked for lack of time."""
    accepts_expected: Rate | None
    """How often the demonstrated action passes; here ``count`` is the number of passes."""
    false_pass: Rate | None
    false_fail: Rate | None
    uncertain_pass: Rate | None
    """For attacks that a functional verifier may rightly accept."""
    uncertain_fail: Rate | None
    no_verdict: Rate | None
    """Among all probes, including the demonstrated actions."""
    by_kind: dict[str, Row]
    by_tool: dict[str, Row]
    by_turn: dict[str, Row]
    """calls, commands, edits, messages, answers, other text"""
    by_language: dict[str, Row] = Field(default_factory=dict)
    """Language of the demonstrated message, with its script if not Latin."""
    by_argument: dict[str, Row] = Field(default_factory=dict)
    """``tool.argument``: attacks that change nothing else."""
    suggested: str = ""
    """The verifier made for such turns."""
    reward_values: tuple[float, ...]
    """The rewards given, rounded to three digits; at most 50 different values."""
    num_turns_of_one_reward: int
    """Turns where every probe got the same reward: nothing can be learned there."""
    reasons_of_refused: dict[str, int]
    """Why demonstrated actions did not pass."""
    first_error: str = ""
    """The verifier's error message if it failed at a demonstrated action."""
    worst: tuple[Example, ...]
    """Attacks that passed, certain ones first, one of each kind before another of the same; then honest ones that
    failed."""
    num_verdicts: int
    verdicts_per_second: float
    num_rollout_turns: int
    """Actions that the verifier sampled to continue episodes."""


class Judged(NamedTuple):
    turn: Turn
    probe: Probe | None
    """None: the demonstrated action itself."""
    verdict: Verdict

    @property
    def task(self) -> str:
        return self.turn.trajectory.task_id

    @property
    def is_wrong(self) -> bool:
        wanted = "pass" if self.probe is None else self.probe.expected
        return self.verdict.outcome not in ("no_verdict", wanted)


def make_report(
    identity: tuple[str, str, dict[str, int | float]], judged: Sequence[Judged], num_skipped: int, seconds: float
) -> CheckReport:
    """Count the judged probes.

    Args:
        identity: the verifier as text, the hash of the trajectories, the options.
        num_skipped: turns drawn but not checked.
        seconds: time taken by the verdicts.
    """
    verifier, sha256, options = identity
    demonstrated = [one for one in judged if one.probe is None]
    certain = [one for one in judged if one.probe and one.probe.certain]
    uncertain = [one for one in judged if one.probe and not one.probe.certain]
    rewards = {round(one.verdict.reward, 3) for one in judged if one.verdict.reward is not None}
    refused = Counter(
        f"{one.verdict.outcome}: {one.verdict.reason}" for one in demonstrated if one.verdict.outcome != "pass"
    )
    return CheckReport(
        verifier=verifier,
        trajectories_sha256=sha256,
        options=options,
        num_turns=len(demonstrated),
        num_tasks=len({one.task for one in judged}),
        num_turns_skipped=num_skipped,
        accepts_expected=_rate([(one.verdict.outcome == "pass", one.task) for one in demonstrated]),
        false_pass=_wrong(certain, "fail"),
        false_fail=_wrong(certain, "pass"),
        uncertain_pass=_wrong(uncertain, "fail"),
        uncertain_fail=_wrong(uncertain, "pass"),
        no_verdict=_rate([(one.verdict.outcome == "no_verdict", one.task) for one in judged]),
        by_kind=_by(certain, lambda one: [one.probe.kind] if one.probe else []),
        by_tool=_by(certain, lambda one: sorted({call.name for call in one.turn.expected_action.tool_calls})),
        by_turn=_by(certain, lambda one: [kind_of_turn(one.turn)]),
        by_language=_by(certain, lambda one: list(filter(None, [language_of_turn(one.turn)]))),
        by_argument=_by(certain, lambda one: [one.probe.argument] if one.probe and one.probe.argument else []),
        suggested=combined(fitting_verifier(one.turn) for one in demonstrated),
        reward_values=tuple(sorted(rewards)[:_MAX_REWARDS]),
        num_turns_of_one_reward=_of_one_reward(judged),
        reasons_of_refused=dict(refused.most_common()),
        first_error=next((str(one.verdict.details["error"]) for one in demonstrated if _broke(one.verdict)), ""),
        worst=_worst(judged),
        num_verdicts=len(judged),
        verdicts_per_second=len(judged) / seconds if seconds > 0 else 0.0,
        num_rollout_turns=turns_bought([one.verdict for one in judged]),
    )


def _broke(verdict: Verdict) -> bool:
    return verdict.outcome == "no_verdict" and "error" in verdict.details


def _rate(outcomes: Sequence[tuple[bool, str]]) -> Rate | None:
    """The share of true ones among (outcome, task)."""
    if not outcomes:
        return None
    found = clustered_mean([float(outcome) for outcome, _ in outcomes], [task for _, task in outcomes])
    return Rate(
        count=sum(outcome for outcome, _ in outcomes),
        num_probes=found.num_items,
        num_tasks=found.num_clusters,
        mean=found.mean,
        low=found.low,
        high=found.high,
    )


def _wrong(judged: Iterable[Judged], expected: str) -> Rate | None:
    """How often a probe that should have this outcome got the other one; those without a verdict are left out."""
    return _rate(
        [
            (one.is_wrong, one.task)
            for one in judged
            if one.probe and one.probe.expected == expected and one.verdict.outcome != "no_verdict"
        ]
    )


def _by(judged: Sequence[Judged], names_of: Callable[[Judged], Sequence[str]]) -> dict[str, Row]:
    groups: dict[str, list[Judged]] = defaultdict(list)
    for one in judged:
        for name in names_of(one):
            groups[name].append(one)
    return {
        name: Row(false_pass=_wrong(groups[name], "fail"), false_fail=_wrong(groups[name], "pass"))
        for name in sorted(groups)
    }


def _of_one_reward(judged: Sequence[Judged]) -> int:
    rewards: dict[str, set[float]] = defaultdict(set)
    for one in judged:
        if one.verdict.reward is not None and (one.probe is None or one.probe.demonstrated is None):
            rewards[one.turn.id].add(one.verdict.reward)
    return sum(len(values) == 1 for values in rewards.values())


def _worst(judged: Sequence[Judged]) -> tuple[Example, ...]:
    ranked: list[tuple[tuple[bool, bool, int], Example]] = []
    times: Counter[str] = Counter()
    for turn, probe, verdict in judged:
        if probe is None or verdict.outcome in ("no_verdict", probe.expected):
            continue
        times[probe.kind] += 1
        shown = _where_they_differ(probe.text, _text(probe.turn(turn)))
        example = Example(
            turn_id=turn.id,
            kind=probe.kind,
            certain=probe.certain,
            text=shown[0],
            expected_text=shown[1],
            reward=verdict.reward,
            reason=verdict.reason,
        )
        ranked.append(((not probe.certain, probe.expected == "pass", times[probe.kind]), example))
    ranked.sort(key=lambda item: item[0])
    return tuple(example for _, example in ranked[:_NUM_WORST])


def _text(turn: Turn) -> str:
    return action_text(turn.expected_action)


def first_difference(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))


def _where_they_differ(one: str, other: str) -> tuple[str, str]:
    """The parts of two long texts around the place where they first differ."""
    place = first_difference(one, other)
    start = 0 if place < _MAX_TEXT // 2 else place - _MAX_TEXT // 4
    shown = [f"{'...' if start and text[start:] else ''}{text[start : start + _MAX_TEXT]}" for text in (one, other)]
    return shown[0], shown[1]
