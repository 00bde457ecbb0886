"""profiles.jsonl -> a selection. Never samples."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path

from pivotrl.evaluation.distance import Distances, distances
from pivotrl.protocols import InputError, Notice
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import Manifest, SampleGroup, Selection
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import outputs, selection_stage
from pivotrl.runs.manifest import again, find_manifest, manifest_path
from pivotrl.runs.replacing import dependents, move_aside
from pivotrl.runs.stage import Stage, require_same
from pivotrl.selection import Facts, SelectionOptions, require_pivots, select
from pivotrl.selection.actions import tools_called
from pivotrl.selection.evidence import group_tokens
from pivotrl.selection.options import settings_of
from pivotrl.selection.summary import counts_of
from pivotrl.storage.record_files import encode_line, read_records, write_file


def select_stage(
    directory: Path,
    *,
    selection: SelectionOptions = SelectionOptions(),
    name: str | None = None,
    overwrite: bool = False,
    repairs: bool = True,
    observer: Observer = SILENT,
    files: RunFiles | None = None,
) -> list[Selection]:
    """``profiles.jsonl`` -> ``selection.jsonl``: every profiled turn with its evidence and its reason.

    A selection costs nothing, so it is replaced freely until something was trained from it.

    Args:
        name: of a selection other than the run's, ``selections/<name>.jsonl``.
        overwrite: move a selection aside, with everything trained from it.
        repairs: rewrite a damaged selection that something was trained from, as it was.
        files: of the directory, if already open.

    Raises:
        InputError: something was trained from a different selection of this name, the selection is damaged, or a limit
            needs something that the profile does not tell.
        NoPivots: nothing was selected; the message gives the counts by reason.
    """
    files, stage_name = files or RunFiles(directory), selection_stage(name)
    path = directory / outputs(stage_name)[0]
    groups = files.profiles()
    _warn_of_other_rule(files.finished("profile"), selection)
    facts = _facts(files, groups)
    selections = select(groups, selection, facts)
    settings, inputs = settings_of(selection), {"profiles.jsonl": files.sha256("profiles.jsonl")}
    users, data = dependents(directory, stage_name), b"".join(map(encode_line, selections))
    if overwrite:
        move_aside(directory, stage_name)
    elif users:
        require_same(directory, stage_name, settings, inputs, used_by=users, verifies=not repairs)
        _repair(directory, stage_name, selections)
    elif not _stands(directory, stage_name, settings, inputs) or path.read_bytes() != data:
        path.unlink(missing_ok=True)
        manifest_path(directory, stage_name).unlink(missing_ok=True)
    with Stage(directory, stage_name, settings, inputs, observer=observer) as stage:
        if stage.done:
            selections = read_records(path, Selection)
        else:
            write_file(path, data)
            stage.finish(counts_of(selections, groups, selection, facts))
    require_pivots(selections)
    return selections


def _warn_of_other_rule(profile: Manifest, selection: SelectionOptions) -> None:
    """An adaptive profile stopped where the rule mixed with one lambda was decided; for others it may know too
    little."""
    if profile.options.get("adaptive") is None:
        return
    max_mean = profile.options.get("adaptive_max_mean") or SelectionOptions.max_mean
    if (selection.rule, selection.max_mean) != ("mixed", max_mean):
        warnings.warn(
            f"the profile is adaptive: it stopped where the rule mixed with --max-mean {max_mean:g} was decided, so it "
            "may have too few samples for another selection",
            Notice,
            stacklevel=3,
        )


def _repair(directory: Path, stage: str, selections: Sequence[Selection]) -> None:
    """Rewrite a selection that was trained from, if its file is no longer what the manifest says. An older version
    wrote rows without evidence, and they stay so.

    Raises:
        InputError: this version would not write the file as it was.
    """
    manifest, path = find_manifest(directory, stage), directory / outputs(stage)[0]
    if manifest is None:
        return
    written = (manifest.outputs or {}).get(outputs(stage)[0])
    forms = [b"".join(map(encode_line, rows)) for rows in (selections, [row.without_evidence() for row in selections])]
    found = path.read_bytes() if path.is_file() else None
    if written is None:  # a version older than hashes in manifests
        right = next((form for form in forms if form == found), forms[-1])
    elif found is not None and hashlib.sha256(found).hexdigest() == written.sha256:
        return
    else:
        fitting = [form for form in forms if hashlib.sha256(form).hexdigest() == written.sha256]
        if not fitting:
            raise InputError(
                f"{path} was changed or lost after it was written, and this version of pivotrl would write it "
                f"differently. Restore the file, or select again with `{again(directory, stage)}`"
            )
        right = fitting[0]
    if found != right:
        write_file(path, right)
        warnings.warn(f"{path} was damaged; it was rewritten as it was", Notice, stacklevel=3)


def _facts(files: RunFiles, groups: Sequence[SampleGroup]) -> Facts:
    turns = files.turns(group.turn_id for group in groups)
    seconds_per_token, why_not = _seconds_per_token(files.finished("profile"), groups)
    return Facts(
        tools={turn.id: tools_called(turn.expected_action) for turn in turns},
        tasks={turn.id: turn.trajectory.task_id for turn in turns},
        seconds_per_token=seconds_per_token,
        why_no_seconds=why_not,
    )


def _seconds_per_token(profile: Manifest, groups: Sequence[SampleGroup]) -> tuple[float | None, str]:
    """Seconds of the profile, verdicts included, for each token that it sampled; or why that is unknown."""
    if profile.options.get("samples") is not None:
        return None, "its samples were made elsewhere"
    if profile.options.get("samples_from") is not None:
        return None, "its samples were judged again, which took other seconds"
    tokens = [group_tokens(group, len(group.completions_G)) for group in groups]
    if None in tokens:
        return None, "its samples came as text without token ids"
    total = sum(number or 0.0 for number in tokens)
    if total == 0 or profile.wall_seconds <= 0:
        return None, "it sampled no tokens, or took no time"
    return profile.wall_seconds / total, ""


def profile_distances(directory: Path, files: RunFiles | None = None) -> Distances:
    """How far the reference is from accepted actions and from demonstrations, see
    :mod:`pivotrl.evaluation.distance`.

    Args:
        files: of the directory, if already open.

    Raises:
        InputError: the profile is missing, unfinished or damaged.
    """
    files = files or RunFiles(directory)
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
