"""Fills the page from the files of a run, one trajectory at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pivotrl.protocols import Turn
from pivotrl.reading.alternatives import with_alternatives
from pivotrl.reading.audit import EXCLUSIONS, LOSSES
from pivotrl.records import Selection, Trajectory
from pivotrl.report.browser import words
from pivotrl.report.browser.about import facts_of, missing_of
from pivotrl.report.browser.index import Index, pairs_of
from pivotrl.report.browser.logs import episode_log, trajectory_text
from pivotrl.report.browser.packing import Chunks, json_text, page
from pivotrl.report.browser.samples import Draws, Heat, accepted_at, summary_of, turn_samples
from pivotrl.report.browser.sources import Source, sources_of
from pivotrl.report.wavering import places_of
from pivotrl.runs.files import RunFiles
from pivotrl.storage.record_files import counted, write_file

FORMAT = 1


@dataclass(frozen=True)
class ViewOptions:
    """What the page shows."""

    selection: str | None = None
    """Name of the selection whose pivots are marked; default is the run's selection."""


@dataclass
class Page:
    """What the page is made of, as it grows."""

    files: RunFiles
    sources: list[Source]
    index: Index
    chunks: Chunks = field(default_factory=Chunks)
    notices: list[str] = field(default_factory=list)
    heat: Heat | None = None


def write_view(directory: Path, out: Path | None = None, options: ViewOptions = ViewOptions()) -> Path:
    """Write the page, by default ``view.html`` in the run directory; its path.

    Raises:
        InputError: the directory holds no run, or a file is damaged.
    """
    head, chunks = view_data(directory, options)
    path = out or Path(directory) / "view.html"
    write_file(path, page(head, chunks))
    return path


def view_data(directory: Path, options: ViewOptions = ViewOptions()) -> tuple[dict[str, Any], list[str]]:
    """(head, packed chunks) of the page."""
    from pivotrl import __version__

    files = RunFiles(Path(directory))
    sources = sources_of(files)
    made = Page(files, sources, Index(len(sources)))
    made.notices += missing_of(files)
    selected = {row.turn_id: row for row in files.selected(options.selection)}
    skipped = {row.turn_id: row.reason for row in files.skipped()}
    for split, trajectories in (("train", files.logged()), ("heldout", files.logged_heldout())):
        for trajectory in with_alternatives(list(trajectories)):
            _add_log(made, trajectory, split, selected, skipped)
    for number, source in enumerate(sources):
        for key in source.episodes:
            _add_episode(made, number, source, key)
    head = {
        "format": FORMAT,
        "run": files.directory.resolve().name,
        "made_with": __version__,
        "facts": facts_of(files, options.selection),
        "trajectories_sha256": files.sha256("trajectories.jsonl"),
        "sources": [source.as_json() for source in sources],
        "pairs": pairs_of(made.index, pairs(sources)),
        "explain": {"reasons": words.reasons(made.index.codes), "statuses": words.statuses(made.index.codes)},
        "heat": ["logprob"] if made.heat else [],
        "notices": made.notices,
    }
    packed = made.chunks.finish(made.index.as_json())
    return head | {"chunks": len(packed)}, packed


def _add_log(
    made: Page, trajectory: Trajectory, split: str, selected: Mapping[str, Selection], skipped: Mapping[str, str]
) -> None:
    place = made.chunks.add("trajectories", trajectory_text(trajectory, {**EXCLUSIONS, **LOSSES}))
    made.index.add_trajectory(trajectory, split, place)
    for message, depth in places_of(trajectory).items():
        turn = Turn(trajectory, message)
        drawn = [(number, draws) for number, source in enumerate(made.sources) if (draws := source.draws(turn))]
        row = selected.get(turn.id)
        status = _status(turn, split, row, skipped, drawn, made.sources)
        steps = sum(source.trained.get(turn.id, 0) for source in made.sources)
        number = made.index.add_turn(
            message, depth, turn.expected_action, status, row is not None and row.selected, steps, None
        )
        for source, draws in drawn:
            _add_samples(made, source, number, turn, draws)


def _status(
    turn: Turn,
    split: str,
    row: Selection | None,
    skipped: Mapping[str, str],
    drawn: Sequence[tuple[int, Draws]],
    sources: Sequence[Source],
) -> str:
    if row is not None:
        return row.reason
    if turn.id in skipped:
        return skipped[turn.id]
    if turn.index in turn.trajectory.excluded:
        return turn.trajectory.excluded[turn.index]
    if split == "heldout":
        return "held_out"
    return "profiled" if any(sources[source].kind == "profile" for source, _ in drawn) else "not_profiled"


def _add_samples(made: Page, source: int, number: int, turn: Turn, draws: Draws, is_played: bool = False) -> None:
    expected = None if is_played else turn.expected_action
    accepted = () if is_played else accepted_at(turn)
    entry = turn_samples(expected, accepted, draws, made.index.codes, made.heat)
    place = made.chunks.add("samples", entry)
    made.index.add_result(source, number, summary_of(draws, made.index.codes), place)
    if not is_played:
        made.index.add_wrong_actions(source, number, draws)


def _add_episode(made: Page, number: int, source: Source, key: str) -> None:
    """An episode with what was sampled at its turns, there and by a training that practised at its states."""
    assert source.episode is not None
    result = source.episode(key)
    trajectory, sampled = episode_log(result, f"{source.name}: {key}")
    inside = Turn(trajectory.model_copy(update={"id": f"episode-{result.name}"}), 0)
    place = made.chunks.add("trajectories", trajectory_text(trajectory, LOSSES))
    made.index.add_trajectory(trajectory, "episode", place, source=number, note=result.reason)
    training = next(
        (n for n, other in enumerate(made.sources) if other.stage == source.stage and other.trained), None
    )
    for message, depth in places_of(trajectory).items():
        state = Turn(inside.trajectory, message)
        practised = made.sources[training].draws(state) if training is not None else None
        steps = made.sources[training].trained.get(state.id, 0) if training is not None else 0
        turn = made.index.add_turn(message, depth, state.expected_action, "episode", False, steps, None)
        if message in sampled:
            _add_samples(made, number, turn, state, sampled[message], is_played=True)
        if training is not None and practised:
            _add_samples(made, training, turn, state, practised, is_played=True)


def pairs(sources: Sequence[Source]) -> Iterator[tuple[int, int, str]]:
    """Sources to compare: the same measurement before and after, and the profile with what came later."""
    for before, old in enumerate(sources):
        for after, new in enumerate(sources):
            same = new.kind == old.kind == "evaluation" and new.temperature == old.temperature
            if same and old.stage == "evaluations/before" and new.stage != old.stage:
                yield before, after, f"{old.title} → {new.title}"
            if old.kind == "profile" and new.kind == "training" and not new.episodes:
                yield before, after, f"{old.title} → {new.title}"


def write_plain(head: Mapping[str, Any], chunks: Iterable[str], folder: Path) -> None:
    """The data as plain JSON files, for tests of the page."""
    import base64
    import gzip

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "head.json").write_text(json_text(head))
    for number, chunk in enumerate(chunks):
        text = gzip.decompress(base64.b64decode(chunk)).decode()
        (folder / f"c{number}.json").write_text(json.dumps(json.loads(text)))


_ = counted
