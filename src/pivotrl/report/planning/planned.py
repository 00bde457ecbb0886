"""A plan: what was found in the pilot, and what each way of going on would cost."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pivotrl.protocols import Turn
from pivotrl.report.planning.alarms import Alarm, alarms
from pivotrl.report.planning.costs import Speed, TokenPrice
from pivotrl.report.planning.pilot import PilotTurn
from pivotrl.report.planning.projection import Candidates, Projection, Range, project
from pivotrl.report.planning.prompts import prompt_sizes, shared_size, unique_size
from pivotrl.report.planning.ways import Comparison, PlannedTraining, Way, compare
from pivotrl.turns import in_rounds

_BATCHES = 5
"""Training batches that show what their prompts share."""


@dataclass(frozen=True)
class Bill:
    """What one way costs; None is unknown."""

    way: Way
    sampled_tokens: Range | None
    prompt_tokens: Range | None
    """Computed; a beginning that prompts of a batch share counts once."""
    profile_seconds: Range | None
    training_seconds: Range | None
    """Samples and updates."""
    money: Range | None

    @property
    def seconds(self) -> Range | None:
        return self.profile_seconds and self.training_seconds and self.profile_seconds.plus(self.training_seconds)


@dataclass(frozen=True)
class Plan:
    """Everything that the pilot says of the profile and of the training."""

    found: Projection
    comparison: Comparison | None
    """None if no turn of the pilot got a verdict."""
    bills: tuple[Bill, ...]
    training: PlannedTraining
    speed: Speed | None
    alarms: tuple[Alarm, ...]

    def as_json(self) -> dict[str, Any]:
        """JSON numbers; None where a range has no end."""
        found: dict[str, Any] = _finite(dataclasses.asdict(self))
        return found


def candidates_of(turns: Sequence[Turn], batch_turns: int, turns_per_step: int, together: int) -> Candidates:
    """Sizes of all prompts.

    Args:
        together: turns of one trajectory that a training draws together.
    """
    in_training = in_rounds(turns, 0, together=together)
    starts = range(0, len(in_training), turns_per_step)[:_BATCHES]
    batches = [in_training[start : start + turns_per_step] for start in starts]
    shared = sum(map(unique_size, batches)) / sum(map(len, batches))
    return Candidates(len(turns), sum(prompt_sizes(turns)), shared_size(turns, batch_turns), shared)


def plan_of(
    rows: Sequence[PilotTurn],
    candidates: Candidates,
    *,
    num_samples: int,
    max_tokens: int,
    training: PlannedTraining = PlannedTraining(),
    speed: Speed | None = None,
    price_per_hour: float | None = None,
    token_price: TokenPrice = TokenPrice(),
    is_random: bool = True,
) -> Plan:
    """
    Args:
        rows: the turns of the pilot, at least one.
        num_samples, max_tokens: of the profile.
        is_random: whether every candidate turn had the same chance to be in the pilot.
    """
    found = project(rows, candidates, num_samples)
    has_verdicts = any(row.evidence.samples for row in rows)
    comparison = compare(rows, found, training) if has_verdicts else None
    bills = (
        ()
        if comparison is None
        else tuple(
            _bill(way, comparison, found, training, speed, price_per_hour, token_price) for way in comparison.ways
        )
    )
    told = alarms(rows, found, training, max_tokens, is_random)
    return Plan(found, comparison, bills, training, speed, tuple(told))


def _bill(
    way: Way,
    comparison: Comparison,
    found: Projection,
    training: PlannedTraining,
    speed: Speed | None,
    price_per_hour: float | None,
    token_price: TokenPrice,
) -> Bill:
    each = found.tokens_per_sample
    sampled = each and _product(way.samples, each)
    profile_prompts = found.computed_tokens and found.computed_tokens.times(way.profile_rounds)
    prompts = None
    if profile_prompts and found.training_prompt:
        prompts = profile_prompts.plus(_product(way.training_groups, found.training_prompt))
    profile_seconds = training_seconds = None
    if speed is not None:
        nothing = Range.exactly(0.0)
        own_tokens = _product(way.profile_samples, each) if each else nothing
        profile_seconds = speed.sampling(profile_prompts or nothing, own_tokens, way.profile_samples)
        if speed.scores_demonstrations and way.profile_rounds and found.computed_tokens:
            profile_seconds = profile_seconds.plus(found.computed_tokens.times(speed.per_prompt_token))
        group_prompts = _product(way.training_groups, found.training_prompt) if found.training_prompt else nothing
        group_tokens = _product(way.training_samples, each) if each else nothing
        training_seconds = speed.sampling(group_prompts, group_tokens, way.training_samples)
        if each and found.training_prompt:
            of_group = found.training_prompt.plus(each.times(training.group_size))
            training_seconds = training_seconds.plus(speed.update(_product(comparison.mixed_groups, of_group)))
    money = None
    if token_price.is_given and sampled and found.prompt_tokens:
        per_turn = found.prompt_tokens.times(1 / found.num_candidates)
        asked = found.prompt_tokens.times(way.profile_rounds).plus(_product(way.training_groups, per_turn))
        money = token_price.money(asked, sampled)
    elif price_per_hour is not None and profile_seconds and training_seconds:
        money = profile_seconds.plus(training_seconds).times(price_per_hour / 3600)
    return Bill(way, sampled, prompts, profile_seconds, training_seconds, money)


def _product(one: Range, other: Range) -> Range:
    """Of two estimates that err independently: their relative errors add up as squares."""
    mean = one.mean * other.mean

    def end(low: bool) -> float:
        parts = [(r.mean - (r.low if low else r.high)) / r.mean if r.mean else 0.0 for r in (one, other)]
        return math.hypot(*parts)

    return Range(mean, max(0.0, mean * (1 - end(low=True))), mean * (1 + end(low=False)))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
