"""What the sampled turns of a pilot, or of a profile so far, say: one row of numbers for each turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from pivotrl.advantages import have_spread
from pivotrl.protocols import Turn
from pivotrl.records import SampleGroup
from pivotrl.report.planning.prompts import prompt_sizes
from pivotrl.rollouts import continuation_turns
from pivotrl.selection import SelectionOptions, select
from pivotrl.selection.pass_rates import Evidence

Outcome = Literal["mixed", "always fails", "always passes", "no verdict", "left out"]
OUTCOMES: tuple[Outcome, ...] = ("mixed", "always fails", "always passes", "no verdict", "left out")
_NOTHING = Evidence(0, 0)


@dataclass(frozen=True)
class PilotTurn:
    """One turn of a pilot. A turn that the model cannot take, or that got no samples, is ``left out``."""

    task: str
    outcome: Outcome
    is_pivot: bool = False
    """By the paper's rule on the samples of the pilot."""
    evidence: Evidence = _NOTHING
    num_samples: int = 0
    num_rollout_turns: int = 0
    """Samples, and the actions that a verifier sampled to see how they go on."""
    sampled_tokens: int | None = 0
    """None: unknown, because the samples came as text."""
    lost_tokens: int = 0
    """Sampled by a server in requests of no use."""
    prompt_tokens: int = 0
    """Of the turn's prompt, counted once; 0 if unknown."""
    computed_tokens: int = 0
    """Prompt tokens that went through the model for this turn."""
    prompt_size: int = 0
    """Characters of the prompt."""
    num_cut_off: int = 0
    num_malformed: int = 0
    num_without_verdict: int = 0


def pilot_turns(
    turns: Sequence[Turn],
    groups: Mapping[str, SampleGroup],
    max_mean: float,
    lost_tokens: Mapping[str, int] = MappingProxyType({}),
) -> list[PilotTurn]:
    """One row for each turn; a turn without a group is left out.

    Args:
        turns: the turns that were asked for.
        groups: by turn id.
        max_mean: lambda of the paper's rule (eq. 5).
        lost_tokens: by turn id, sampled by a server in tries that gave no samples.
    """
    found = [groups[turn.id] for turn in turns if turn.id in groups]
    pivots = {row.turn_id for row in select(found, SelectionOptions(max_mean=max_mean)) if row.selected}
    rows = []
    for turn, size in zip(turns, prompt_sizes(turns), strict=True):
        task, group = turn.trajectory.task_id, groups.get(turn.id)
        if group is None:
            rows.append(PilotTurn(task, "left out", prompt_size=size, lost_tokens=lost_tokens.get(turn.id, 0)))
        else:
            row = _row(task, group, group.turn_id in pivots, size)
            rows.append(replace(row, lost_tokens=row.lost_tokens + lost_tokens.get(turn.id, 0)))
    return rows


def _row(task: str, group: SampleGroup, is_pivot: bool, size: int) -> PilotTurn:
    rewards = group.rewards
    completions = group.completions_G
    is_known = all(completion.token_ids_T or not completion.text for completion in completions)
    kept, paid = sum(len(completion.token_ids_T) for completion in completions), group.num_paid_tokens
    kept_here = kept - sum(len(completion.token_ids_T) for completion in completions[: group.num_taken])
    return PilotTurn(
        task=task,
        outcome=_outcome(rewards),
        is_pivot=is_pivot,
        evidence=Evidence(min(sum(rewards), len(rewards)), len(rewards)),
        num_samples=len(completions),
        num_rollout_turns=len(completions) + continuation_turns([group]),
        sampled_tokens=kept if is_known else paid,
        lost_tokens=max(0, paid - kept_here) if is_known and paid is not None else 0,
        prompt_tokens=group.num_prompt_tokens,
        computed_tokens=group.num_prefilled_tokens,
        prompt_size=size,
        num_cut_off=group.num_cut_off,
        num_malformed=group.num_malformed,
        num_without_verdict=len(group.verdicts_G) - len(rewards),
    )


def _outcome(rewards: Sequence[float]) -> Outcome:
    if not rewards:
        return "no verdict"
    if have_spread(list(rewards)):
        return "mixed"
    return "always passes" if rewards[0] > 0 else "always fails"
