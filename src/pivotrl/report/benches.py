"""The numbers of the benchmarks that a run's policy and others played."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pivotrl.intervals import Estimate, PairedDifference, clustered_mean, paired_difference
from pivotrl.records import Manifest, TrialResult
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import BENCH

_ORDER = ("before", "after")
_LAST = "gold"
_ASKED = ("temperature", "max_tokens", "seed")
"""Options that must be alike for a difference to say something of the policies alone."""


@dataclass(frozen=True)
class BenchPlayer:
    """One who played, and how well."""

    name: str
    stage: str
    finished: bool
    num_tasks: int
    num_trials: int
    score: Estimate | None
    """Mean reward of the trials with a verdict, tasks as clusters; None if there are none."""
    lowest: float
    """Mean reward if every trial without a verdict had failed."""
    no_verdict: Mapping[str, int]
    """Reason -> trials without a verdict."""
    num_turns: float | None
    """Mean of a trial, over those where the harness told; so are the numbers below."""
    num_prompt_tokens: float | None
    num_tokens: float | None
    seconds: float
    difference: PairedDifference | None
    """Since ``before``, over the trials that both have a verdict of."""
    otherwise: str = ""
    """How it was asked otherwise than ``before``, so that there is no difference; empty if it was not."""


@dataclass(frozen=True)
class Bench:
    """One benchmark."""

    name: str
    harness: str
    """As on the command line."""
    package: str
    """With its version."""
    players: tuple[BenchPlayer, ...]


def benches_of(files: RunFiles, manifests: Mapping[str, Manifest]) -> tuple[Bench, ...]:
    """Every benchmark of a run, finished or not, by name; players before, after, others, gold."""
    played: dict[str, list[str]] = defaultdict(list)
    for stage in manifests:
        if stage.startswith(f"{BENCH}/"):
            played[stage.split("/")[1]].append(stage)
    found = []
    for name, stages in sorted(played.items()):
        results = {stage: last_attempts(list(files.trial_results(stage))) for stage in stages}
        before = f"{BENCH}/{name}/before"
        ordered = sorted(stages, key=_rank)
        newest = manifests[ordered[0]]
        found.append(
            Bench(
                name,
                str(newest.plugins.get("harness") or newest.options.get("harness")),
                str(newest.options.get("package")),
                tuple(
                    _player(stage, manifests[stage], results[stage], manifests.get(before), results.get(before, []))
                    for stage in ordered
                ),
            )
        )
    return tuple(found)


def is_bench_alone(manifests: Mapping[str, Manifest]) -> bool:
    """Whether a directory holds benchmarks and no run."""
    return all(stage.startswith(f"{BENCH}/") for stage in manifests)


def last_attempts(results: Sequence[TrialResult]) -> list[TrialResult]:
    """The last attempt of each trial."""
    return list({result.trial_key: result for result in results}.values())


def _rank(stage: str) -> tuple[int, str]:
    name = stage.rpartition("/")[2]
    return (_ORDER.index(name) if name in _ORDER else 3 if name == _LAST else 2), name


def _player(
    stage: str,
    manifest: Manifest,
    results: Sequence[TrialResult],
    first: Manifest | None,
    before: Sequence[TrialResult],
) -> BenchPlayer:
    name = stage.rpartition("/")[2]
    otherwise = "" if first is None or name in ("before", _LAST) else _otherwise(manifest, first)
    judged = [(result.reward, result.task_id) for result in results if result.reward is not None]
    total = sum(reward for reward, _ in judged)
    return BenchPlayer(
        name=name,
        stage=stage,
        finished=manifest.status == "complete",
        num_tasks=len({result.task_id for result in results}),
        num_trials=len(results),
        score=clustered_mean([reward for reward, _ in judged], [task for _, task in judged]) if judged else None,
        lowest=total / len(results) if results else 0.0,
        no_verdict=dict(Counter(result.reason for result in results if result.reward is None)),
        num_turns=_mean([result.num_turns for result in results]),
        num_prompt_tokens=_mean([result.num_prompt_tokens for result in results]),
        num_tokens=_mean([result.num_tokens for result in results]),
        seconds=_mean([result.seconds for result in results]) or 0.0,
        difference=_difference(before, results) if name != "before" and not otherwise else None,
        otherwise=otherwise,
    )


def _otherwise(manifest: Manifest, first: Manifest) -> str:
    now, was = manifest.options, first.options
    told = (f"{name} {now.get(name)}, before {was.get(name)}" for name in _ASKED if now.get(name) != was.get(name))
    return "; ".join(told)


def _difference(before: Sequence[TrialResult], after: Sequence[TrialResult]) -> PairedDifference | None:
    old = {result.trial_key: result.reward for result in before if result.reward is not None}
    pairs = [
        (old[result.trial_key], result.reward, result.task_id)
        for result in after
        if result.reward is not None and result.trial_key in old
    ]
    if not pairs:
        return None
    first, second, tasks = zip(*pairs, strict=True)
    return paired_difference(first, second, tasks)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
