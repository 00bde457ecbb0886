"""The checkpoints of a comparison as sources of the pivot browser: what each policy did at the held-out turns."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pivotrl.comparison.arms import ARMS
from pivotrl.comparison.points import BASE, Point
from pivotrl.comparison.table import Config
from pivotrl.protocols import InputError, Turn
from pivotrl.records import Trajectory, TurnResult, at_temperature
from pivotrl.report.browser.samples import Drawn, Draws, summary_of
from pivotrl.report.browser.sources import Source, judged
from pivotrl.runs.layout import known_stages
from pivotrl.storage.record_files import RecordFile

HELD_OUT = "heldout.jsonl"
"""The held-out trajectories, beside the trials or in the directory above them."""
_DRAWS = {0.0: "greedy", 1.0: "T = 1"}
_POINTS = "*/*/seed*/points.jsonl"


def title_of(arm: str) -> str:
    """An arm in words; one of a recipe goes by its name."""
    return ARMS[arm].title if arm in ARMS else arm.replace("_", " ")


def place_of(arm: str) -> tuple[int, str]:
    """What arms are sorted by: as :data:`ARMS` has them, then by name."""
    return (list(ARMS).index(arm) if arm in ARMS else len(ARMS)), arm


def policy_words(config: Config) -> str:
    if config.arm == BASE:
        return "before training"
    return f"{title_of(config.arm)} · rate {config.rate:g} · {config.step} updates"


def find_trials(directory: Path) -> Path | None:
    """The folder of the trials, if the directory holds a comparison and no run of its own.

    Raises:
        InputError: it holds several comparisons.
    """
    for root in (directory, directory / "trials"):
        if next(root.glob(_POINTS), None) is not None:
            return None if set(known_stages(directory)) - {"read"} else root
    if cells := sorted({path.parents[3].name for path in directory.glob(f"*/{_POINTS}")}):
        raise InputError(
            f"{directory} holds {len(cells)} comparisons; view one of them, such as {directory / cells[0]} "
            f"({', '.join(cells[:6])}{', ...' if len(cells) > 6 else ''})"
        )
    return None


def held_out_trajectories(directory: Path, root: Path) -> RecordFile[Trajectory]:
    """
    Raises:
        InputError: they are not there, so that there is nothing to show the samples at.
    """
    for path in (directory / HELD_OUT, root / HELD_OUT, root.parent / HELD_OUT):
        if path.is_file():
            return RecordFile(path, Trajectory)
    raise InputError(
        f"{directory} has no {HELD_OUT}, so the turns that its checkpoints were measured at are unknown; an evidence "
        "grid writes it when its recipe is started again"
    )


def write_held_out(folder: Path, turns: Iterable[Turn]) -> None:
    """Write the trajectories of held-out turns beside trials that were not read from logs."""
    if not (folder / HELD_OUT).is_file():
        found = {turn.trajectory.id: turn.trajectory for turn in turns}
        RecordFile(folder / HELD_OUT, Trajectory).append(found.values())


@dataclass(frozen=True)
class Checkpoint:
    """A config with the results of every seed that was measured."""

    config: Config
    results: Mapping[int, RecordFile[TurnResult]]
    """By seed."""

    @property
    def num_samples(self) -> int:
        """By the first result at each temperature."""
        total = 0
        for file in self.results.values():
            by_temperature: dict[str, list[str]] = {}
            for key in file.keys():  # noqa: SIM118
                by_temperature.setdefault(key.rpartition("@")[2], []).append(key)
            total += sum(len(keys) * file.get(keys[0]).num_samples for keys in by_temperature.values())
        return total

    @property
    def turn_ids(self) -> set[str]:
        return {key.rpartition("@")[0] for file in self.results.values() for key in file.keys()}  # noqa: SIM118

    def sources(self, temperatures: Sequence[float], together: bool, alone: bool) -> Iterator[Source]:
        """Its sources at each temperature.

        Args:
            together: one of all its seeds.
            alone: one of each seed.
        """
        for temperature in temperatures:
            if together:
                yield self._source(self.results, temperature, None)
            if alone:
                for seed, file in self.results.items():
                    yield self._source({seed: file}, temperature, seed)

    def name(self, temperature: float, seed: int | None = None) -> str:
        config = self.config
        inside = "" if seed is None else f"/seed{seed}"
        return f"{config.arm}/{config.rate:g}/{config.step}{inside}@{temperature:g}"

    def _source(self, files: Mapping[int, RecordFile[TurnResult]], temperature: float, seed: int | None) -> Source:
        draw = f"{_DRAWS[temperature]}, {'all seeds' if seed is None else f'seed {seed}'}"
        policy = policy_words(self.config)
        return Source(
            name=self.name(temperature, seed),
            title=f"{policy} ({draw})",
            kind="evaluation",
            draws=functools.partial(_drawn, files, temperature),
            old=_is_old(files, temperature),
            temperature=temperature,
            policy=policy,
            draw=draw,
        )


def _drawn(files: Mapping[int, RecordFile[TurnResult]], temperature: float, turn: Turn) -> Draws | None:
    """The samples of all seeds, numbered through."""
    key = at_temperature(turn.id, temperature)
    results = {seed: file.get(key) for seed, file in files.items() if key in file}
    if not results:
        return None
    found = {seed: judged(turn, result) for seed, result in results.items()}
    if len(found) == 1:
        return next(iter(found.values()))
    samples: list[Drawn] = []
    for seed, draws in found.items():
        first = len(samples)
        samples += [dataclasses.replace(one, number=first + n, seed=seed) for n, one in enumerate(draws.samples)]
    if all(draws.counts is None for draws in found.values()):
        return Draws(samples)
    summaries = [summary_of(draws, lambda reason: 0) for draws in found.values()]
    means = [one.mean for one in summaries if one.mean is not None]
    return Draws(
        samples,
        counts=(sum(s.passed for s in summaries), sum(s.failed for s in summaries), sum(s.unknown for s in summaries)),
        mean=sum(means) / len(means) if means else None,
        num_cut_off=sum(one.cut_off for one in summaries),
    )


def _is_old(files: Mapping[int, RecordFile[TurnResult]], temperature: float) -> bool:
    """Whether a version made them that kept the first sample of each turn alone."""
    for file in files.values():
        key = next((key for key in file.keys() if key.endswith(at_temperature("", temperature))), None)  # noqa: SIM118
        if key is not None and (result := file.get(key)).num_samples > 1 and not result.completions_G:
            return True
    return False


def read_checkpoints(root: Path, points: Iterable[Point]) -> list[Checkpoint]:
    """The policy before training first, then method by method. Checkpoints without measured turns are left out."""
    files: dict[Config, dict[int, RecordFile[TurnResult]]] = {}
    for point in points:
        folder = root / point.arm / f"{point.rate:g}" / f"seed{point.seed}" / f"step_{point.step}"
        file = RecordFile(folder / "turns.jsonl", TurnResult)
        if len(file):
            files.setdefault(Config(point.arm, point.rate, point.step), {})[point.seed] = file
    ordered = sorted(files, key=lambda config: (config.arm != BASE, place_of(config.arm), config))
    return [Checkpoint(config, dict(sorted(files[config].items()))) for config in ordered]
