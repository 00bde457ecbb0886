"""profiles.jsonl -> a selection. Never samples."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

from pivotrl.evaluation.distance import Distances, distances
from pivotrl.options import options_dict
from pivotrl.protocols import InputError, Notice
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import Selection
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import outputs, selection_stage
from pivotrl.runs.manifest import find_manifest, manifest_path
from pivotrl.runs.replacing import dependents, move_aside
from pivotrl.runs.stage import Stage, require_same
from pivotrl.selection import SelectionOptions, require_pivots, select
from pivotrl.storage.record_files import encode_line, write_file


def select_stage(
    directory: Path,
    *,
    selection: SelectionOptions = SelectionOptions(),
    name: str | None = None,
    overwrite: bool = False,
    repairs: bool = True,
    observer: Observer = SILENT,
) -> list[Selection]:
    """``profiles.jsonl`` -> ``selection.jsonl``: every profiled turn with its reason.

    A selection costs nothing, so it is replaced freely until something was trained from it.

    Args:
        name: of a selection other than the run's, ``selections/<name>.jsonl``.
        overwrite: move a selection aside, with everything trained from it.
        repairs: rewrite a damaged selection that something was trained from, as it was.

    Raises:
        InputError: something was trained from a different selection of this name, or the selection is damaged.
        NoPivots: nothing was selected; the message gives the counts by reason.
    """
    files, stage_name = RunFiles(directory), selection_stage(name)
    path = directory / outputs(stage_name)[0]
    selections = select(files.profiles(), selection)
    settings, inputs = options_dict(selection), {"profiles.jsonl": files.sha256("profiles.jsonl")}
    users, data = dependents(directory, stage_name), b"".join(map(encode_line, selections))
    if overwrite:
        move_aside(directory, stage_name)
    elif users:
        require_same(directory, stage_name, settings, inputs, used_by=users, verifies=not repairs)
        has_stood = find_manifest(directory, stage_name) is not None
        if has_stood and (not path.is_file() or path.read_bytes() != data):
            write_file(path, data)
            warnings.warn(f"{path} was damaged; it was rewritten as it was", Notice, stacklevel=2)
    elif not _stands(directory, stage_name, settings, inputs):
        path.unlink(missing_ok=True)
        manifest_path(directory, stage_name).unlink(missing_ok=True)
    with Stage(directory, stage_name, settings, inputs, observer=observer) as stage:
        if not stage.done:
            write_file(path, data)
            reasons = dict(Counter(row.reason for row in selections))
            stage.finish({"pivots": sum(row.selected for row in selections), "reasons": reasons})
    require_pivots(selections)
    return selections


def profile_distances(directory: Path) -> Distances:
    """How far the reference is from accepted actions and from demonstrations, see
    :mod:`pivotrl.evaluation.distance`.

    Raises:
        InputError: the profile is missing, unfinished or damaged.
    """
    files = RunFiles(directory)
    groups, options = files.profiles(), files.finished("profile").options
    sampled = {name: options.get(name) for name in ("temperature", "top_p", "top_k")}
    is_whole = sampled == {"temperature": 1.0, "top_p": 1.0, "top_k": None}
    tasks = {trajectory.id: trajectory.task_id for trajectory in files.trajectories()}
    return distances(
        groups,
        {group.turn_id: tasks[group.turn_id.rpartition("#")[0]] for group in groups},
        {score.turn_id: score.nll for score in files.demonstrations() if score.nll is not None},
        "" if is_whole else "the profile was not sampled at temperature 1 from all tokens",
    )


def _stands(directory: Path, stage: str, settings: dict[str, object], inputs: dict[str, str]) -> bool:
    """Whether the stage is finished with these settings and its files are intact."""
    try:
        require_same(directory, stage, settings, inputs)
        manifest = find_manifest(directory, stage)
    except InputError:
        return False
    return manifest is not None and manifest.status == "complete"
