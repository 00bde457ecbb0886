"""Adds trajectories, turns and samples to the index and the chunks."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from pivotrl.protocols import Turn
from pivotrl.reading.audit import LOSSES
from pivotrl.records import EpisodeResult, Selection, Trajectory, episode_key
from pivotrl.report.browser.index import Index
from pivotrl.report.browser.logs import episode_log, trajectory_text
from pivotrl.report.browser.packing import Chunks, Place
from pivotrl.report.browser.prompts import Prompts, TokenHeat
from pivotrl.report.browser.samples import Draws, summary_of, turn_samples
from pivotrl.report.browser.sources import Source
from pivotrl.report.browser.views import Views
from pivotrl.report.wavering import places_of

Drawn = list[tuple[int, Draws]]
"""Number of a source, with its samples of a turn."""


@dataclass
class Filling:
    """The page as it grows."""

    sources: Sequence[Source]
    index: Index
    chunks: Chunks
    selected: Mapping[str, Selection]
    skipped: Mapping[str, str]
    """Turn id -> why it is no candidate."""
    num_own: int
    """Sources of this run; those of another one follow."""
    shared: Set[str]
    """Trajectories that the other run has too."""
    prompts: Prompts | None
    heat: TokenHeat | None
    views: Views
    names: set[str] = field(default_factory=set)
    """Of the episodes so far."""

    def add_log(self, trajectory: Trajectory, split: str) -> None:
        """A trajectory with what every source holds of its turns."""
        self._add_trajectory(trajectory, split)
        num_sources = len(self.sources) if trajectory.id in self.shared else self.num_own
        for message, depth in places_of(trajectory).items():
            turn = Turn(trajectory, message)
            drawn = [(n, draws) for n, source in enumerate(self.sources[:num_sources]) if (draws := source.draws(turn))]
            row = self.selected.get(turn.id)
            number = self.index.add_turn(
                message,
                depth,
                turn.expected_action,
                self._status(turn, split, row, drawn),
                pivot=row is not None and row.selected,
                steps=sum(source.trained.get(turn.id, 0) for source in self.sources),
                prompt=self._prompt(turn, drawn),
            )
            for source, draws in drawn:
                self._add_samples(source, number, turn, draws)
                self.index.add_wrong_actions(source, number, draws)

    def add_episode(self, source: int, key: str) -> None:
        """An episode with what was sampled at its turns, by its player and by a training that practised there."""
        player = self.sources[source]
        assert player.episode is not None
        result = player.episode(key)
        trajectory, sampled = episode_log(result, self._name_of(player, result))
        self._add_trajectory(trajectory, "episode", source=source, note=result.reason)
        states = trajectory.model_copy(update={"id": f"episode-{result.name}"})
        trainings = [
            number
            for number, other in enumerate(self.sources[: self.num_own])
            if other.kind == "training" and other.stage == player.stage and not other.episodes
        ]
        for message, depth in places_of(trajectory).items():
            turn = Turn(states, message)
            drawn = [(number, draws) for number in trainings if (draws := self.sources[number].draws(turn))]
            if message in sampled:
                drawn = [(source, sampled[message]), *drawn]
            number = self.index.add_turn(
                message,
                depth,
                turn.expected_action,
                "episode",
                pivot=False,
                steps=sum(self.sources[training].trained.get(turn.id, 0) for training in trainings),
                prompt=self._prompt(turn, drawn),
            )
            for place, draws in drawn:
                self._add_samples(place, number, turn, draws, is_played=True)

    def _name_of(self, player: Source, result: EpisodeResult) -> str:
        """Short: without the environment's options, unless another episode has that name already."""
        short = episode_key(result.environment.partition("(")[0], result.task_id, result.number)
        name = f"{player.name}: {short}"
        if name in self.names:
            name = f"{player.name}: {result.name}"
        self.names.add(name)
        return name

    def _add_trajectory(self, trajectory: Trajectory, split: str, **facts: Any) -> None:
        text = trajectory_text(trajectory, LOSSES)
        if drawn := self.views.of_trajectory(trajectory):
            text["view"] = drawn
        self.index.add_trajectory(trajectory, split, self.chunks.add("trajectories", text), **facts)

    def _prompt(self, turn: Turn, drawn: Drawn) -> Place | None:
        """Of a turn that a model of this run acted at."""
        own = [draws for number, draws in drawn if number < self.num_own]
        if self.prompts is None or not own:
            return None
        return self.prompts.add(turn, {draws.prompt_sha256 for draws in own})

    def _add_samples(self, source: int, number: int, turn: Turn, draws: Draws, is_played: bool = False) -> None:
        expected, *accepted = (None,) if is_played else turn.accepted_actions
        heat = functools.partial(self.heat, turn.id) if self.heat else None
        entry = turn_samples(expected, [action for action in accepted if action], draws, self.index.codes, heat)
        place = self.chunks.add("samples", entry)
        self.index.add_result(source, number, summary_of(draws, self.index.codes), place)

    def _status(self, turn: Turn, split: str, row: Selection | None, drawn: Drawn) -> str:
        """Why the turn is a pivot or not, as a code."""
        if row is not None:
            return row.reason
        if turn.id in self.skipped:
            return self.skipped[turn.id]
        if turn.index in turn.trajectory.excluded:
            return turn.trajectory.excluded[turn.index]
        if split == "heldout":
            return "held_out"
        is_profiled = any(self.sources[number].kind == "profile" and number < self.num_own for number, _ in drawn)
        return "profiled" if is_profiled else "not_profiled"
