"""profiles.jsonl -> a selection. Never samples."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pivotrl.evaluation.distance import Distances, distances
from pivotrl.protocols import InputError, Notice
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import Label, Manifest, Output, Record, SampleGroup, Selection
from pivotrl.rows.labels import read_labels
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import outputs, selection_stage
from pivotrl.runs.manifest import again, find_manifest, manifest_path
from pivotrl.runs.replacing import dependents, move_aside
from pivotrl.runs.stage import Stage, require_same
from pivotrl.selection import Facts, SelectionOptions, require_pivots, select
from pivotrl.selection.actions import tools_called
from pivotrl.selection.evidence import group_tokens
from pivotrl.selection.labels import ACCEPTED, with_labels
from pivotrl.selection.options import settings_of
from pivotrl.selection.rules import DROPPED
from pivotrl.selection.summary import counts_of
from pivotrl.storage.record_files import encode_line, read_records, sha256_of_json, write_file


def select_stage(
    directory: Path,
    *,
    selection: SelectionOptions = SelectionOptions(),
    labels: Path | None = None,
    name: str | None = None,
    overwrite: bool = False,
    repairs: bool = True,
    observer: Observer = SILENT,
    files: RunFiles | None = None,
) -> list[Selection]:
    """``profiles.jsonl`` -> ``selection.jsonl``: every profiled turn with its evidence and its reason.

    A selection costs nothing, so it is replaced freely until something was trained from it.

    Args:
        labels: a file of labels from the pivot browser (:mod:`pivotrl.rows.labels`). The selection keeps a copy; the
            training accepts what they accept.
        name: of a selection other than the run's, ``selections/<name>.jsonl``.
        overwrite: move a selection aside, with everything trained from it.
        repairs: rewrite a damaged selection that something was trained from, as it was.
        files: of the directory, if already open.

    Raises:
        InputError: something was trained from a different selection of this name, the selection is damaged, a limit
            needs something that the profile does not tell, or the labels do not fit the run.
        NoPivots: nothing was selected; the message gives the counts by reason.
    """
    files, stage_name = files or RunFiles(directory), selection_stage(name)
    given = read_labels(labels, files) if labels is not None else []
    groups = with_labels(files.profiles(), given)
    _warn_of_other_rule(files.finished("profile"), selection)
    facts = _facts(files, groups, given)
    selections = select(groups, selection, facts)
    settings, inputs = settings_of(selection), {"profiles.jsonl": files.sha256("profiles.jsonl")}
    if given:
        inputs["labels"] = sha256_of_json([label.model_dump() for label in given])
    users = dependents(directory, stage_name)
    written: dict[str, Sequence[Record]] = dict(zip(outputs(stage_name), (selections, given), strict=True))
    if overwrite:
        move_aside(directory, stage_name)
    elif users:
        require_same(directory, stage_name, settings, inputs, used_by=users, verifies=not repairs)
        _repair(directory, stage_name, selections, given)
    elif not _stands(directory, stage_name, settings, inputs, written):
        chosen, kept = outputs(stage_name)
        if (directory / kept).is_file():  # somebody wrote these labels, and it may be the only copy
            move_aside(directory, stage_name)
        (directory / chosen).unlink(missing_ok=True)
        manifest_path(directory, stage_name).unlink(missing_ok=True)
    noted = {} if labels is None else {"labels": str(labels)}
    with Stage(directory, stage_name, {**settings, **noted}, inputs, ("labels",), observer=observer) as stage:
        if stage.done:
            selections = read_records(directory / outputs(stage_name)[0], Selection)
        else:
            for file, rows in reversed(written.items()):
                if rows or file == outputs(stage_name)[0]:
                    write_file(directory / file, _lines(rows))
            stage.finish(counts_of(selections, groups, selection, facts) | _label_counts(groups, selections, given))
    require_pivots(selections)
    return selections


def _lines(rows: Iterable[Record]) -> bytes:
    return b"".join(map(encode_line, rows))


def _label_counts(
    groups: Sequence[SampleGroup], selections: Sequence[Selection], labels: Sequence[Label]
) -> dict[str, Any]:
    if not labels:
        return {}
    verdicts = [verdict for group in groups for verdict in group.verdicts_G]
    return {
        "labels": {
            "turns": len(labels),
            "dropped": sum(row.reason == DROPPED for row in selections),
            "accepted_actions": sum(len(label.accept) for label in labels),
            "samples_accepted": sum(verdict.reason == ACCEPTED for verdict in verdicts),
            "notes": sum(bool(label.note) for label in labels),
        }
    }


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


def _repair(directory: Path, stage: str, selections: Sequence[Selection], labels: Sequence[Label]) -> None:
    """Rewrite a selection that was trained from, if its file is no longer what the manifest says. An older version
    wrote rows without evidence, and they stay so.

    Raises:
        InputError: this version would not write the file as it was.
    """
    manifest = find_manifest(directory, stage)
    if manifest is None:
        return
    without = [row.without_evidence() for row in selections]
    forms = [[_lines(selections), _lines(without)], [_lines(labels)] if labels else []]
    for file, texts in zip(outputs(stage), forms, strict=True):
        if texts:
            _rewrite(directory / file, (manifest.outputs or {}).get(file), texts, again(directory, stage))


def _rewrite(path: Path, written: Output | None, forms: Sequence[bytes], command: str) -> None:
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
                f"differently. Restore the file, or select again with `{command}`"
            )
        right = fitting[0]
    if found != right:
        write_file(path, right)
        warnings.warn(f"{path} was damaged; it was rewritten as it was", Notice, stacklevel=4)


def _facts(files: RunFiles, groups: Sequence[SampleGroup], labels: Sequence[Label]) -> Facts:
    turns = files.turns(group.turn_id for group in groups)
    seconds_per_token, why_not = _seconds_per_token(files.finished("profile"), groups)
    return Facts(
        tools={turn.id: tools_called(turn.expected_action) for turn in turns},
        tasks={turn.id: turn.trajectory.task_id for turn in turns},
        seconds_per_token=seconds_per_token,
        why_no_seconds=why_not,
        dropped=frozenset(label.turn_id for label in labels if label.drop),
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


def profile_distances(directory: Path, files: RunFiles | None = None, name: str | None = None) -> Distances:
    """How far the reference is from accepted actions and from demonstrations, see
    :mod:`pivotrl.evaluation.distance`.

    Args:
        files: of the directory, if already open.
        name: of the selection whose labels count.

    Raises:
        InputError: the profile is missing, unfinished or damaged.
    """
    files = files or RunFiles(directory)
    options = files.finished("profile").options
    groups = with_labels(files.profiles(), files.labels(name))
    sampled = {name: options.get(name) for name in ("temperature", "top_p", "top_k")}
    is_whole = sampled == {"temperature": 1.0, "top_p": 1.0, "top_k": None}
    tasks = {trajectory.id: trajectory.task_id for trajectory in files.trajectories()}
    return distances(
        groups,
        {group.turn_id: tasks[group.turn_id.rpartition("#")[0]] for group in groups},
        {score.turn_id: score.nll for score in files.demonstrations() if score.nll is not None},
        "" if is_whole else "the profile was not sampled at temperature 1 from all tokens",
    )


def _stands(
    directory: Path,
    stage: str,
    settings: Mapping[str, object],
    inputs: Mapping[str, str],
    written: Mapping[str, Sequence[Record]],
) -> bool:
    """Whether the stage is finished with these settings, and its files are what it would write now."""
    manifest = find_manifest(directory, stage)
    if manifest is None or manifest.status != "complete":
        return False
    was = {name: None for name in manifest.options if name != "labels"}  # what is left out now must not have been there
    try:
        require_same(directory, stage, {**was, **settings}, {**dict.fromkeys(manifest.inputs, ""), **inputs})
    except InputError:
        return False
    found = {file: path.read_bytes() if (path := directory / file).is_file() else b"" for file in written}
    return found == {file: _lines(rows) for file, rows in written.items()}
