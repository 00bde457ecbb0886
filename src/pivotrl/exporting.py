"""export: the pivots of a run as files that another training stack starts from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pivotrl.atomic_folder import atomic_folder
from pivotrl.export_rows import Pivots, ProfiledTurn
from pivotrl.plugins import describe
from pivotrl.privacy.redaction import find_secrets
from pivotrl.protocols import InputError, Turn
from pivotrl.records import Manifest, SampleGroup, Selection, SkippedTurn, Trajectory
from pivotrl.store import (
    package_versions,
    read_manifest,
    read_records,
    sha256_of_file,
    write_file,
)
from pivotrl.turns import split_by_task

Exporter = Callable[[Pivots, Path], list[SkippedTurn]]
"""``export(pivots, folder)`` writes the files of its stack, a README.md among them, into an empty folder and returns
the turns it had to leave out. It must be deterministic."""


@dataclass(frozen=True)
class ExportOptions:
    """Which turns are written and which tasks are set aside."""

    turns: Literal["pivots", "profiled"] = "pivots"
    """pivots: the selected turns. profiled: every profiled turn, whatever its outcome."""
    validation_fraction: float = 0.1
    """Share of tasks whose turns become the validation split; 0 makes none."""
    split_seed: int = 0


def export(directory: Path, exporter: Exporter, out: Path, options: ExportOptions = ExportOptions()) -> Manifest:
    """Write a folder for another stack: all of it, or nothing.

    Beside the exporter's files stand ``export.manifest.json`` (what it was made from, and the counts) and, where
    turns were left out, ``skipped.jsonl`` with a reason each. Held-out trajectories of the run are never exported.

    Raises:
        InputError: ``out`` is not empty; the run has no finished profile or selection, or its files have changed
            since; no turn is left.
    """
    if not 0.0 <= options.validation_fraction < 1.0:
        raise InputError(f"validation_fraction is {options.validation_fraction}; give one from 0 to below 1")
    profile = _finished(directory, "profile", "trajectories.jsonl")
    inputs = {name: sha256_of_file(directory / name) for name in ("trajectories.jsonl", "profiles.jsonl")}
    selections: dict[str, Selection] | None = None
    selection: dict[str, Any] | None = None
    if options.turns == "pivots":
        selection = _finished(directory, "select", "profiles.jsonl").options
        selections = {row.turn_id: row for row in read_records(directory / "selection.jsonl", Selection)}
        inputs["selection.jsonl"] = sha256_of_file(directory / "selection.jsonl")
    turns = _profiled_turns(directory, profile.inputs["policy"], selections)
    if not turns:
        raise InputError(f"{directory} has no {options.turns} to export; look at `pivotrl show {directory}`")
    splits = _split(turns, options)
    secrets = _secrets(turns)
    about = _about(profile, selection, secrets)
    with _whole_folder(out) as folder:
        skipped = exporter(Pivots(splits=splits, verifier=profile.options["verifier"], about=about), folder)
        left = {turn.turn.id for turn in splits["train"]} - {skip.turn_id for skip in skipped}
        if not left:
            reasons = dict(Counter(skip.reason for skip in skipped))
            raise InputError(f"{describe(exporter)} can write none of the {len(splits['train'])} turns: {reasons}")
        if skipped:
            write_file(folder / "skipped.jsonl", "".join(f"{skip.model_dump_json()}\n" for skip in skipped))
        manifest = Manifest(
            stage="export",
            status="complete",
            options={
                **asdict(options),
                "exporter": describe(exporter),
                "profile": profile.options,
                "select": selection,
            },
            inputs={**inputs, "policy": profile.inputs["policy"]},
            counts=_counts(splits, skipped, secrets),
            versions=package_versions(),
        )
        write_file(folder / "export.manifest.json", manifest.model_dump_json(indent=2) + "\n")
    return manifest


def _finished(directory: Path, stage: str, made_from: str) -> Manifest:
    """The manifest of a stage that is complete and whose input has not changed since."""
    path = directory / f"{stage}.manifest.json"
    if not path.is_file():
        raise InputError(f"{directory} has no {stage} stage; run `pivotrl {stage} {directory}` first")
    manifest = read_manifest(path)
    if manifest.status != "complete":
        raise InputError(f"the {stage} stage of {directory} is not finished; run `pivotrl {stage} {directory}` again")
    source = directory / made_from
    if not source.is_file() or sha256_of_file(source) != manifest.inputs.get(made_from):
        raise InputError(f"{source} is not what the {stage} stage was made from; run it again with --overwrite")
    return manifest


def _profiled_turns(directory: Path, policy: str, selections: Mapping[str, Selection] | None) -> list[ProfiledTurn]:
    """In the order of the profile."""
    trajectories = {t.id: t for t in read_records(directory / "trajectories.jsonl", Trajectory)}
    found = []
    for group in read_records(directory / "profiles.jsonl", SampleGroup):
        if selections is not None and (group.turn_id not in selections or not selections[group.turn_id].selected):
            continue
        trajectory_id, _, index = group.turn_id.rpartition("#")
        turn = Turn(trajectories[trajectory_id], int(index))
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
    return splits


def _secrets(turns: Sequence[ProfiledTurn]) -> Counter[str]:
    """Keys, addresses and the like in what is about to leave the house, by kind."""
    found: Counter[str] = Counter()
    for trajectory in {one.turn.trajectory.id: one.turn.trajectory for one in turns}.values():
        found.update(finding.kind for finding in find_secrets(trajectory))
    return found


def _about(profile: Manifest, selection: dict[str, Any] | None, secrets: Mapping[str, int]) -> str:
    sampled = profile.options
    chosen = "Every profiled turn, whatever its outcome."
    if selection is not None:
        chosen = f"Pivot turns: selected by the rule `{selection['rule']}` (max_mean {selection['max_mean']})."
    lines = [
        f"{chosen} Profiled with the policy `{profile.inputs['policy'][:12]}`,",
        f"{sampled['num_samples']} samples a turn (temperature {sampled['temperature']}, top_p {sampled['top_p']}, "
        f"max_tokens {sampled['max_tokens']}), judged by",
        f"`{sampled['verifier']}`. The profile holds for that policy and that verifier:",
        "for another one, which of these turns are pivots has to be measured again.",
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
        InputError: ``out`` is a file or a folder that holds something.
    """
    target = out.resolve()
    if target.exists() and not target.is_dir():
        raise InputError(f"{out} is a file; give a folder")
    if target.exists() and any(target.iterdir()):
        raise InputError(f"{out} is not empty; export never mixes files, give an empty or a new folder")
    with atomic_folder(target) as folder:
        yield folder
