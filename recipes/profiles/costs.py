"""What profiles of different kinds cost, and how well they find the pivots of 32 samples: replayed from results/."""

from __future__ import annotations

import functools
import gzip
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl import Action, Message, Trajectory, Turn, Verdict
from pivotrl.profiling import ProfileOptions
from pivotrl.profiling.adaptive import draw_as_needed
from pivotrl.records import Completion, SampleGroup
from pivotrl.selection import SelectionOptions, select

RESULTS = Path(__file__).parent / "results"
NUM_SAMPLES = 32
MAX_MEAN = 0.6
"""The paper's lambda."""
FIXED = (4, 8, 16)
ADAPTIVE = (0.9, 0.95, 0.97)
Row = dict[str, Any]
Kind = Callable[[Row], tuple[set[str], dict[str, int]]]


def cells() -> Iterator[tuple[str, list[Row]]]:
    """(name, profiles of its seeds) of each cell that was measured."""
    found: dict[str, list[Row]] = {}
    for path in sorted(RESULTS.glob("*.json.gz")):
        grid, _, rest = path.name.removesuffix(".json.gz").partition("-")
        found.setdefault(f"{grid}, `{rest.rpartition('-')[0]}`", []).append(
            json.loads(gzip.decompress(path.read_bytes()))
        )
    yield from found.items()


def _turn(name: str) -> Turn:
    """A turn of this id, to be named in the replay."""
    trajectory, _, index = name.rpartition("#")
    messages = (Message(role="user", content=""),) * int(index) + (Message(role="assistant", content="a"),)
    return Turn(Trajectory(id=trajectory, task_id=trajectory, messages=messages), int(index))


def _group(row: Row, first: int, count: int) -> SampleGroup:
    done = Completion(action=Action(content="x"), text="x", token_ids_T=(), logprobs_T=(), finish_reason="stop")
    rewards = row["rewards"][first : first + count]
    verdicts = [Verdict.unknown("?") if r is None else Verdict.passed(reward=r) for r in rewards]
    return SampleGroup(turn_id=row["turn"], first=first, completions_G=(done,) * count, verdicts_G=tuple(verdicts))


def _pivots(groups: Sequence[SampleGroup]) -> set[str]:
    return {row.turn_id for row in select(groups, SelectionOptions(max_mean=MAX_MEAN)) if row.selected}


def f1(found: set[str], right: set[str]) -> float:
    return 2 * len(found & right) / (len(found) + len(right)) if found or right else 1.0


def fixed(profile: Row, count: int, first: int = 0) -> tuple[set[str], dict[str, int]]:
    """(pivots, samples of each turn)"""
    groups = [_group(row, first, count) for row in profile["turns"]]
    return _pivots(groups), {row["turn"]: count for row in profile["turns"]}


def adaptive(profile: Row, target: float, screened: bool) -> tuple[set[str], dict[str, int]]:
    """(pivots, samples of each turn) of the profile that would have been drawn.

    Args:
        screened: whether the probability of the demonstrated action is used, too.
    """
    rows = {row["turn"]: row for row in profile["turns"]}
    turns = [_turn(name) for name in rows]
    options = ProfileOptions(num_samples=NUM_SAMPLES, adaptive=target, adaptive_max_mean=MAX_MEAN)
    known = {name: row["demonstrated"] * (row["accepted"] or 0.0) for name, row in rows.items()} if screened else {}

    def draw(asked: Sequence[Turn], first: int, count: int) -> list[SampleGroup]:
        return [_group(rows[turn.id], first, count) for turn in asked]

    groups, _ = draw_as_needed(turns, draw, options, known)
    return _pivots(groups), {group.turn_id: len(group.completions_G) for group in groups}


def _summary(
    profiles: Sequence[Row], made: Callable[[Row], tuple[set[str], dict[str, int]]]
) -> tuple[float, float, float]:
    """(F1 score against all samples, share of the samples, share of the sampled tokens), means over seeds."""
    found = []
    for profile in profiles:
        pivots, counts = made(profile)
        right, _ = fixed(profile, NUM_SAMPLES)
        rows = profile["turns"]
        tokens = sum(sum(row["tokens"][: counts.get(row["turn"], 0)]) for row in rows)
        everything = sum(sum(row["tokens"]) for row in rows)
        found.append((f1(pivots, right), sum(counts.values()) / (NUM_SAMPLES * len(rows)), tokens / everything))
    score, samples, tokens_share = (statistics.fmean(column) for column in zip(*found, strict=True))
    return score, samples, tokens_share


def table() -> str:
    """Markdown: a row for each cell and kind of profile."""
    kinds: dict[str, Kind] = {f"K = {count}": functools.partial(fixed, count=count) for count in FIXED}
    for target in ADAPTIVE:
        kinds[f"adaptive, {target:g}"] = functools.partial(adaptive, target=target, screened=False)
    screened = functools.partial(adaptive, target=ADAPTIVE[-1], screened=True)
    kinds[f"adaptive, {ADAPTIVE[-1]:g}, with demonstrations"] = screened
    lines = [
        "| trajectories | turns | pivots at K = 32 | profile | F1 | samples, share of K = 32 | tokens, share |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    commands = []
    for name, profiles in cells():
        turns = statistics.fmean(len(profile["turns"]) for profile in profiles)
        pivots = statistics.fmean(len(fixed(profile, NUM_SAMPLES)[0]) for profile in profiles)
        halves = statistics.fmean(f1(fixed(p, 16)[0], fixed(p, 16, 16)[0]) for p in profiles)
        cell = f"{name}, {len(profiles)} seed{'s' if len(profiles) > 1 else ''}"
        lines.append(f"| {cell} | {turns:.0f} | {pivots:.0f} | 16 samples against 16 others | {halves:.2f} | | |")
        for kind, made in kinds.items():
            score, samples, tokens = _summary(profiles, made)
            lines.append(f"| | | | {kind} | {score:.2f} | {100 * samples:.0f} % | {100 * tokens:.0f} % |")
        about = profiles[-1]["about"]
        commands.append(f"{about['date'][:10]}, {about['machine']}, `{about['command'].rpartition(' --seeds')[0]}`")
    return "\n".join([*lines, "", *(f"{one}." for one in commands)])
