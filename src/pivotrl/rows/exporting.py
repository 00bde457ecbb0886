"""export: the pivots of a run as files for another training stack."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pivotrl.options import check
from pivotrl.plugins.describing import describe
from pivotrl.protocols import InputError, Notice
from pivotrl.reading.privacy.redaction import find_secrets
from pivotrl.records import Label, Manifest, SampleGroup, Selection, SkippedTurn
from pivotrl.rows.rows import Pivots, ProfiledTurn
from pivotrl.rows.settings import settings_of
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import selection_stage
from pivotrl.runs.manifest import write_manifest
from pivotrl.runs.memory import remembered
from pivotrl.selection.labels import with_labels
from pivotrl.storage.folders import atomic_folder
from pivotrl.storage.record_files import package_versions, write_file
from pivotrl.turns import split_by_task

Exporter = Callable[[Pivots, Path], list[SkippedTurn]]
"""``export(pivots, folder)`` writes the files of its stack, a README.md among them, into an empty folder and returns
the turns it had to leave out. It must be deterministic."""


@dataclass(frozen=True)
class ExportOptions:
    """Which turns are written, and which tasks are used for validation."""

    turns: Literal["pivots", "profiled"] = "pivots"
    """pivots: the selected turns. profiled: every profiled turn."""
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of tasks whose turns form the validation split; 0 for none."""
    split_seed: int = 0
    """Seed of the split into training and validation tasks."""

    def __post_init__(self) -> None:
        check(self)


def export(
    directory: Path,
    exporter: Exporter,
    out: Path,
    options: ExportOptions = ExportOptions(),
    selection: str | None = None,
) -> Manifest:
    """Write a folder for another stack: all of it, or nothing.

    Beside the exporter's files stand ``export.manifest.json`` (what it was made from, and the counts) and, where
    turns were left out, ``skipped.jsonl`` with a reason each. Held-out trajectories of the run are never exported.

    Args:
        selection: name of the selection whose pivots are written; None for the unnamed one.

    Raises:
        InputError: ``out`` is not empty; the run has no finished profile or selection, or its files have changed
            since; no turn is left.
    """
    files = RunFiles(directory)
    profile = files.finished("profile")
    read = ["trajectories.jsonl", "profiles.jsonl"]
    selections: dict[str, Selection] | None = None
    chosen: dict[str, Any] | None = None
    labels: list[Label] = []
    if options.turns == "pivots":
        chosen = files.finished(selection_stage(selection)).options
        selections = {row.turn_id: row for row in files.selections(selection)}
        labels = files.labels(selection)
        read += files.selection_files(selection)
    groups = _groups(files, selections, labels)
    turns = _profiled_turns(files, profile.inputs["policy"], groups, labels)
    inputs = {name: files.sha256(name) for name in read}
    if not turns:
        raise InputError(f"{directory} has no {options.turns} to export; look at `pivotrl show {directory}`")
    splits = _split(turns, options)
    secrets = _secrets(turns)
    about = _about(profile, chosen, secrets)
    with _whole_folder(out) as folder:
        settings = settings_of(remembered(directory, "train"), groups)
        pivots = Pivots(splits=splits, verifier=profile.options["verifier"], about=about, settings=settings)
        skipped = exporter(pivots, folder)
        left = {turn.turn.id for turn in splits["train"]} - {skip.turn_id for skip in skipped}
        if not left:
            reasons = dict(Counter(skip.reason for skip in skipped))
            raise InputError(f"{describe(exporter)} cannot write any of the {len(splits['train'])} turns: {reasons}")
        if skipped:
            rows = "".join(f"{skip.model_dump_json(exclude_defaults=True)}\n" for skip in skipped)
            write_file(folder / "skipped.jsonl", rows)
        manifest = Manifest(
            stage="export",
            status="complete",
            options={
                **asdict(options),
                "exporter": describe(exporter),
                "profile": profile.options,
                "select": chosen,
            },
            inputs={**inputs, "policy": profile.inputs["policy"]},
            counts=_counts(splits, skipped, secrets),
            versions=package_versions(),
        )
        manifest = write_manifest(folder / "export.manifest.json", manifest)
    return manifest


def _groups(files: RunFiles, selections: Mapping[str, Selection] | None, labels: Sequence[Label]) -> list[SampleGroup]:
    """In the order of the profile."""
    return [
        group
        for group in with_labels(files.profiles(), labels)
        if selections is None or (group.turn_id in selections and selections[group.turn_id].selected)
    ]


def _profiled_turns(
    files: RunFiles, policy: str, groups: Sequence[SampleGroup], labels: Sequence[Label]
) -> list[ProfiledTurn]:
    found = []
    for turn, group in zip(files.turns((group.turn_id for group in groups), labels), groups, strict=True):
        facts: dict[str, str | int | float | None] = {
            "pivotrl_turn_id": turn.id,
            "pivotrl_trajectory_id": turn.trajectory.id,
            "pivotrl_task_id": turn.trajectory.task_id,
            "pivotrl_reward_mean": group.mean,
            "pivotrl_reward_variance": group.variance,
            "pivotrl_num_scored": len(group.rewards),
            "pivotrl_num_samples": len(group.completions_G),
            "pivotrl_policy_sha256": policy,
        }
        found.append(ProfiledTurn(turn, {name: value for name, value in facts.items() if value is not None}))
    return found


def _split(turns: Sequence[ProfiledTurn], options: ExportOptions) -> dict[str, list[ProfiledTurn]]:
    trajectories = list({one.turn.trajectory.id: one.turn.trajectory for one in turns}.values())
    train, validation = split_by_task(trajectories, options.validation_fraction, options.split_seed)
    splits = {}
    for name, part in (("train", train), ("validation", validation)):
        ids = {trajectory.id for trajectory in part}
        if chosen := [one for one in turns if one.turn.trajectory.id in ids]:
            splits[name] = chosen
    if "train" not in splits:
        raise InputError(
            f"every task falls into the validation split at validation_fraction {options.validation_fraction}; "
            "lower it, or give another split_seed"
        )
    if options.validation_fraction and "validation" not in splits:
        told = "no validation file is written: there are too few tasks to hold out a share of "
        warnings.warn(f"{told}{options.validation_fraction:g}", Notice, stacklevel=2)
    return splits


def _secrets(turns: Sequence[ProfiledTurn]) -> Counter[str]:
    """Keys, addresses and other secrets in the exported turns, by kind."""
    found: Counter[str] = Counter()
    for trajectory in {one.turn.trajectory.id: one.turn.trajectory for one in turns}.values():
        found.update(finding.kind for finding in find_secrets(trajectory))
    return found


def _about(profile: Manifest, selection: dict[str, Any] | None, secrets: Mapping[str, int]) -> str:
    sampled = profile.options
    chosen = "Every profiled turn."
    if selection is not None:
        chosen = f"Pivot turns: selected by the rule `{selection['rule']}` (max_mean {selection['max_mean']})."
    lines = [
        f"{chosen} Profiled with the policy `{profile.inputs['policy'][:12]}`,",
        f"{sampled['num_samples']} samples a turn (temperature {sampled['temperature']}, top_p {sampled['top_p']}, "
        f"max_tokens {sampled['max_tokens']}), judged by",
        f"`{sampled['verifier']}`. The profile is valid only for that policy and verifier;",
        "for others, measure again which of these turns are pivots.",
    ]
    if secrets:
        told = ", ".join(f"{kind} {count}" for kind, count in sorted(secrets.items()))
        lines += ["", f"**Look before you share:** these logs seem to hold secrets ({told}). Import with --redact."]
    return "\n".join(lines)


def _counts(
    splits: Mapping[str, Sequence[ProfiledTurn]],
    skipped: Sequence[SkippedTurn],
    secrets: Mapping[str, int],
) -> dict[str, object]:
    left_out = {skip.turn_id for skip in skipped}
    kept = {name: [one for one in part if one.turn.id not in left_out] for name, part in splits.items()}
    return {
        "rows": {name: len(part) for name, part in kept.items()},
        "tasks": {name: len({one.turn.trajectory.task_id for one in part}) for name, part in kept.items()},
        "skipped": dict(Counter(skip.reason for skip in skipped)),
        "secrets": dict(sorted(secrets.items())),
    }


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes ``out`` when everything is written.

    Raises:
        InputError: ``out`` is a file or a folder that is not empty.
    """
    target = out.resolve()
    if target.exists() and not target.is_dir():
        raise InputError(f"{out} is a file; give a folder")
    if target.exists() and any(target.iterdir()):
        raise InputError(f"{out} is not empty; give an empty or a new folder, because export never mixes files")
    with atomic_folder(target) as folder:
        yield folder
