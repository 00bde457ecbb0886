"""What was run, in a few lines, from the manifests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivotrl.records import Manifest
from pivotrl.report.sentences import model_words, signed, training_method
from pivotrl.storage.record_files import counted

COMPARISON = "comparison.json"
"""Written into a directory by ``pivotrl compare``."""


def run_facts(manifests: Mapping[str, Manifest]) -> list[tuple[str, str]]:
    """(name, text) of what a reader wants to know first; what is unknown is left out."""
    found = {"model": model_words(manifests)}
    if "read" in manifests:
        read = manifests["read"]
        counts, source = read.counts, str(read.options.get("source"))
        parts = [f"{counts.get('heldout_trajectories', 0):,} held out"]
        if number := counts.get("train_trajectories"):
            tasks = counted(counts.get("train_tasks", 0), "task")
            parts.insert(0, f"{number:,} trajectories of {tasks} to train on")
        told = ", ".join(parts)
        found["logs"] = f"{source}: {told}" if counts else source
        found["reader"] = str(read.plugins.get("reader") or read.options.get("reader", ""))
    for stage in ("profile", "train"):
        if stage in manifests and "verifier" not in found:
            manifest = manifests[stage]
            found["verifier"] = str(manifest.plugins.get("verifier") or manifest.options.get("verifier", ""))
    if "profile" in manifests:
        found["profile"] = _profile(manifests["profile"].options)
    if "select" in manifests:
        found["pivots"] = f"rule {rule_words(manifests['select'].options)}"
    if "train" in manifests:
        found["training"] = _training(manifests["train"])
    made = [manifest for manifest in manifests.values() if manifest.started_at]
    if made:
        found["when"] = f"{made[0].started_at} to {max(m.finished_at or m.started_at for m in made)}"
        versions = made[0].versions
        found["versions"] = ", ".join(f"{name} {versions[name]}" for name in ("pivotrl", "torch") if name in versions)
    return [(name, text) for name, text in found.items() if text and text != "None"]


def rule_words(options: Mapping[str, Any]) -> str:
    """The rule of a selection, with the limit where the rule has one: ``mixed, mean reward below 0.6``.

    Args:
        options: of its manifest.
    """
    rule = str(options.get("rule", ""))
    limit = {"mixed": "mean reward below", "mean_only": "mean reward at most", "likely_mixed": "pass rate below"}.get(
        rule
    )
    return f"{rule}, {limit} {options.get('max_mean')}" if limit else rule


def _profile(options: Mapping[str, Any]) -> str:
    number = options.get("num_samples")
    told = f"up to {number} samples a turn" if options.get("adaptive") is not None else f"{number} samples a turn"
    return f"{told}, temperature {options.get('temperature')}, at most {options.get('max_tokens')} tokens each"


def _training(manifest: Manifest) -> str:
    options = manifest.options
    return ", ".join(
        filter(
            None,
            (
                training_method(manifest).title,
                f"{options.get('num_steps')} steps of {options.get('turns_per_step')} turns with "
                f"{options.get('group_size')} samples each",
                _joined(
                    ("learning rate", options.get("learning_rate")), ("KL coefficient", options.get("kl_coefficient"))
                ),
                f"seed {options.get('train_seed')}",
            ),
        )
    )


def _joined(*pairs: tuple[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in pairs
        if value is not None
    )


@dataclass(frozen=True)
class Methods:
    """What ``pivotrl compare`` found in this directory."""

    advice: str
    heads: list[str]
    rows: list[list[str]]


def methods_compared(directory: Path) -> Methods | None:
    """From ``comparison.json``; None if there is none, or if another version wrote it."""
    try:
        made = json.loads((directory / COMPARISON).read_text("utf-8"))
        score, harm = made["score"], made["harm"]
        measures = [measure for measure in (score, harm) if measure is not None]
        heads = ["method", "learning rate", "step", "seeds", "rollout turns", *measures]
        rows = [
            [
                str(row["title"]),
                "\N{EN DASH}" if row["rate"] is None else f"{row['rate']:g}",
                "\N{EN DASH}" if row["step"] is None else str(row["step"]),
                str(row["seeds"]),
                f"{row['rollout_turns']:,.0f}",
                *(_change(measure, row["gains"][measure]) for measure in measures),
            ]
            for row in made["rows"]
        ]
        return Methods(str((made.get("advice") or {}).get("sentence", "")), heads, rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _change(measure: str, gain: Mapping[str, float]) -> str:
    unit = "nats" if measure == "nll" or measure.startswith("kl/") else "share"
    mean, low, high = (signed(gain[part], unit) for part in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"
