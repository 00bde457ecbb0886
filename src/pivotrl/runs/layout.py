"""Where each stage of a run writes. The path of its manifest identifies a stage: ``train``, ``evaluations/after``."""

from __future__ import annotations

import re
from pathlib import Path

from pivotrl.protocols import InputError

STAGES = ("read", "profile", "select", "evaluations/before", "train", "evaluations/after")
"""The stages of a whole run, in order. Further selections, trainings and evaluations have names."""
PILOT = "plan/pilot"
"""The stage that samples a few turns for `pivotrl plan`."""
BENCH = "bench"
"""The folder of the benchmarks; the stage ``bench/tau2/after`` is one player at one of them."""
LABELS = ".labels.jsonl"
"""How the file ends that keeps the labels of a selection."""
REPLACED = "replaced"
"""Where ``--overwrite`` moves what it replaces."""

_NAME = re.compile(r"\w[\w-]{0,63}\Z")
_RESERVED = {"selections": ("default",), "trainings": ("default",), "evaluations": (), "plan": (), BENCH: ()}


def selection_stage(name: str | None = None) -> str:
    """The stage that makes a selection; without a name, the run's own.

    Raises:
        InputError: the name is not valid.
    """
    return "select" if name is None else _named("selections", name)


def training_stage(name: str | None = None) -> str:
    """As :func:`selection_stage`, of a training."""
    return "train" if name is None else _named("trainings", name)


def of_seed(name: str | None, seed: int) -> str:
    """Name of one of several trainings that differ in their seed: ``seed0``, ``wider-seed0``."""
    return f"seed{seed}" if name is None else f"{name}-seed{seed}"


def evaluation_stage(name: str) -> str:
    """As :func:`selection_stage`, of an evaluation; it always has a name."""
    return _named("evaluations", name)


def bench_stage(name: str, player: str) -> str:
    """The stage of a player at a benchmark.

    Raises:
        InputError: one of the names is not valid.
    """
    return f"{_named(BENCH, name)}/{_named(BENCH, player).removeprefix(f'{BENCH}/')}"


def _named(folder: str, name: str) -> str:
    if not _NAME.match(name) or name in _RESERVED[folder]:
        taken = f" other than {', '.join(_RESERVED[folder])}" if _RESERVED[folder] else ""
        raise InputError(f"{name!r} cannot be a name; give one of letters, digits, - and _, at most 64{taken}")
    return f"{folder}/{name}"


def outputs(stage: str) -> tuple[str, ...]:
    """Files and folders that a stage may write, by their path in the run directory."""
    folder, _, _ = stage.rpartition("/")
    if folder == "selections":
        return (f"{stage}.jsonl", f"{stage}{LABELS}")
    if folder == "evaluations":
        return tuple(
            f"{stage}.{kind}.jsonl" for kind in ("turns", "turns.lost", "progress", "episodes", "retention", "answers")
        )
    if folder.startswith(f"{BENCH}/"):
        return f"{stage}.trials.jsonl", stage
    if folder == "trainings" or stage == "train":
        parts = ("groups.jsonl", "episodes.jsonl", "metrics.jsonl", "checkpoints", "policy", "drawn")
        return tuple(f"{stage}/{part}" for part in parts)
    if stage == PILOT:
        return tuple(f"{stage}/{part}.jsonl" for part in ("groups", "groups.lost", "times", "skipped"))
    return {
        "read": ("trajectories.jsonl", "heldout.jsonl", "dropped.jsonl", "refused.jsonl"),
        "profile": ("profiles.jsonl", "profiles.lost.jsonl", "demonstrations.jsonl", "skipped.jsonl"),
        "select": ("selection.jsonl", f"selection{LABELS}"),
    }.get(stage, ())


def known_stages(directory: Path) -> list[str]:
    """The stages that have a manifest: the unnamed ones first, then the others by name."""
    folders = (*(f"{folder}/" for folder in _RESERVED), f"{BENCH}/*/")
    found = [
        f"{path.parent.relative_to(directory).as_posix()}/{path.name}".removeprefix("./").removesuffix(".manifest.json")
        for pattern in ("*.manifest.json", *(f"{folder}*.manifest.json" for folder in folders))
        for path in sorted(directory.glob(pattern))
    ]
    own = [stage for stage in found if "/" in stage or stage in STAGES]
    return sorted(own, key=lambda stage: (STAGES.index(stage) if stage in STAGES else len(STAGES), stage))
