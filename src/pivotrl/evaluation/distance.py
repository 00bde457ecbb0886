"""How far training would have to move the reference, from the profile alone: to accepted actions, or to demonstrations.

PivotRL moves probability to whatever the verifier accepts, imitation to the demonstrated action. Where the reference is
equally far from both, no difference between the two can come from the data.

    D_rl  = mean over turns of -ln P(accepted actions)     D_sft = mean over turns of -ln p(demonstrated action)

P is known only from n samples of which k pass. -ln(k / n) is biased, and infinite at k = 0. We take H_n - H_k, where H
is the harmonic number: over samples its mean is exactly the sum of (1 - P)^j / j for j = 1 to n, the series of -ln P as
far as n samples can see it. p is known, so D_sft takes the same sum: where P = p the two agree on average at every n.
Turns without a pass are worth H_n. They are counted; to leave them out would favour PivotRL. D_sft in full is told
beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pivotrl.evaluation.divergence import action_logprobs
from pivotrl.intervals import Estimate, clustered_mean
from pivotrl.options import InputError
from pivotrl.protocols import NotRenderable, Policy, Sampler, Turn
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import DemonstrationScore, SampleGroup
from pivotrl.storage.record_files import RecordFile
from pivotrl.turns import whole_trajectories

EQUAL_NATS = 0.1
"""A difference whose whole interval lies within this is called equal."""


def score_demonstrations(
    policy: Sampler, turns: Sequence[Turn], path: Path, batch: int = 16, observer: Observer = SILENT
) -> list[DemonstrationScore]:
    """-ln p(demonstrated action) of each turn, under the policy's present weights at temperature 1. Turns already in
    the file are skipped.

    Args:
        batch: about how many turns are scored in one call; turns of one trajectory always are, and share their prefix.

    Raises:
        InputError: the policy cannot score actions.
    """
    file = RecordFile(path, DemonstrationScore)
    missing = [turn for turn in turns if turn.id not in file]
    observer.progress("demonstrations scored", len(file), len(turns))
    for together in whole_trajectories(missing, batch):
        groups, faults = dict[str, SampleGroup](), dict[str, str]()
        for turn in together:
            try:
                written = cast(Policy, policy).encode_action(turn, turn.expected_action)
                groups[turn.id] = SampleGroup(turn_id=turn.id, completions_G=(written,))
            except (NotRenderable, InputError) as error:  # a table refuses what is not on its menu
                faults[turn.id] = str(error)[:200]
        writable = [turn for turn in together if turn.id in groups]
        scored = action_logprobs(policy, writable, [groups[turn.id] for turn in writable]) if writable else []
        tokens = {turn.id: its[0] for turn, its in zip(writable, scored, strict=True)}
        file.append(
            [
                DemonstrationScore(
                    turn_id=turn.id,
                    task_id=turn.trajectory.task_id,
                    nll=-math.fsum(tokens[turn.id]) if turn.id in tokens else None,
                    num_tokens=len(tokens.get(turn.id, ())),
                    reason=faults.get(turn.id, ""),
                )
                for turn in together
            ]
        )
        observer.progress("demonstrations scored", len(file), len(turns))
    return list(file)


@dataclass(frozen=True)
class Distances:
    """How far the reference is from accepted actions and from demonstrations, in nats per action, both as far as the
    samples of a turn can see. Clustered by task; None for fewer than two tasks."""

    rl: Estimate | None
    """D_rl over the turns with verdicts; None where :attr:`why_not` says why."""
    sft: Estimate | None
    """D_sft over the same turns; None if demonstrations were not scored."""
    sft_in_full: Estimate | None
    """Mean -ln p(demonstrated action), without a limit."""
    difference: Estimate | None
    """D_sft - D_rl over the turns that have both."""
    num_without_pass: int
    """Turns with verdicts of which none is a pass."""
    num_without_verdict: int
    """Turns left out."""
    why_not: str = ""

    @property
    def sentence(self) -> str:
        """What the distances say about imitation and PivotRL."""
        if self.difference is None:
            return "The two distances cannot be compared."
        low, high, mean = self.difference.low, self.difference.high, self.difference.mean
        if low >= -EQUAL_NATS and high <= EQUAL_NATS:
            return "Equal: no difference between imitation and PivotRL can come from this data."
        if low > 0:
            return (
                f"The reference is nearer to accepted actions, by {mean:.2f} nats: PivotRL has less far to go than "
                "imitation."
            )
        if high < 0:
            return (
                f"The reference is nearer to the demonstrated actions, by {-mean:.2f} nats: the verifier passes less "
                "than the demonstrations. Look at `pivotrl check`."
            )
        return "This data cannot tell which of the two is nearer."

    def as_json(self) -> dict[str, Any]:
        def one(estimate: Estimate | None) -> dict[str, float] | None:
            return None if estimate is None else {"mean": estimate.mean, "low": estimate.low, "high": estimate.high}

        return {
            "rl_nats": one(self.rl),
            "sft_nats": one(self.sft),
            "sft_in_full_nats": one(self.sft_in_full),
            "sft_minus_rl_nats": one(self.difference),
            "turns_without_pass": self.num_without_pass,
            "turns_without_verdict": self.num_without_verdict,
            "why_not": self.why_not,
        }


def negative_log_mass(num_passed: int, num_scored: int) -> float:
    """Estimate of -ln P from n samples of which k pass: H_n - H_k, nats. Its mean is :func:`seen` of -ln P."""
    assert 0 <= num_passed <= num_scored
    return math.fsum(1.0 / j for j in range(num_passed + 1, num_scored + 1))


def seen(nll: float, num_samples: int) -> float:
    """The series of -ln p up to its nth term, (1 - p)^j / j: what n samples can see of a distance."""
    rest = -math.expm1(-nll)
    return math.fsum(rest**j / j for j in range(1, num_samples + 1))


def distances(
    groups: Sequence[SampleGroup],
    tasks: Mapping[str, str],
    nlls: Mapping[str, float],
    why_not: str = "",
) -> Distances:
    """Both distances from a profile.

    Args:
        groups: the profile, one group a turn.
        tasks: the task of each turn, by turn id.
        nlls: -ln p(demonstrated action) by turn id, of the turns where it is known.
        why_not: why the share of passes is not the mass of accepted actions, such as a temperature other than 1.
    """
    counts = {
        group.turn_id: (sum(verdict.outcome == "pass" for verdict in group.verdicts_G), len(group.rewards))
        for group in groups
    }
    judged = {} if why_not else {name: n for name, (_, n) in counts.items() if n}
    rl = {name: negative_log_mass(counts[name][0], n) for name, n in judged.items()}
    sft = {name: seen(nlls[name], n) for name, n in judged.items() if name in nlls}

    def mean(values: Mapping[str, float]) -> Estimate | None:
        if len({tasks[name] for name in values}) < 2:
            return None
        return clustered_mean(list(values.values()), [tasks[name] for name in values], bounded=False)

    return Distances(
        rl=mean(rl),
        sft=mean(sft),
        sft_in_full=mean({name: nll for name, nll in nlls.items() if name in tasks}),
        difference=mean({name: value - rl[name] for name, value in sft.items()}),
        num_without_pass=sum(n > 0 and not k for k, n in counts.values()),
        num_without_verdict=sum(not n for _, n in counts.values()),
        why_not=why_not,
    )
