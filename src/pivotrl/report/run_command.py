"""The command that goes on with a run, made from what its manifests hold."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pivotrl.evaluation import EvaluationOptions
from pivotrl.judging.guarded import VerificationOptions
from pivotrl.judging.lint import CheckOptions
from pivotrl.profiling import ProfileOptions
from pivotrl.reading.importing import ReadOptions
from pivotrl.records import Manifest
from pivotrl.runs.layout import STAGES
from pivotrl.selection import SelectionOptions
from pivotrl.training import TrainingOptions
from pivotrl.turns import TurnOptions

_OPTIONS = (
    ReadOptions,
    TurnOptions,
    CheckOptions,
    VerificationOptions,
    ProfileOptions,
    SelectionOptions,
    TrainingOptions,
    EvaluationOptions,
)


def resume_command(directory: Path, manifests: Mapping[str, Manifest]) -> str:
    """The ``pivotrl run`` that goes on with this run; options at their defaults are left out.

    What cannot be told from the manifests stands in capitals, for the user to fill in: reference texts, of which they
    hold a hash, and a policy, reader or verifier that cannot be named.
    """
    known: dict[str, Any] = {}
    for stage in STAGES:
        if stage in manifests:
            known |= manifests[stage].options
    defaults = {field.name: field.default for options in _OPTIONS for field in dataclasses.fields(options)}
    flags: dict[str, str | list[str]] = {"out": str(directory), **_policy(manifests)}
    for name in ("reader", "verifier", "heldout", "environments"):
        if known.get(name) is not None:
            given = known[name] if isinstance(known[name], list) else [known[name]]
            flags[name] = [_nameable(str(spec).removeprefix("environments:"), name) for spec in given]
    flags |= {name: str(value) for name, value in known.items() if name in defaults and value != defaults[name]}
    if any(manifest.counts.get("retention_texts") for manifest in manifests.values()):
        flags["retention"] = "RETENTION"
    start = shlex.join(["pivotrl", "run", str(known.get("source", "SOURCE"))])
    lines = [shlex.join(_flag(name, value)) for name, value in flags.items()]
    return " \\\n    ".join([start, *lines, "--resume"])


def _policy(manifests: Mapping[str, Manifest]) -> dict[str, str]:
    described = [manifests[stage].policy for stage in ("profile", "train") if stage in manifests]
    found: dict[str, Any] = next(filter(None, described), {})
    named = {name: str(found[name]) for name in ("policy", "model", "adapter") if found.get(name)}
    return named or {"policy": "POLICY"}


def _nameable(spec: str, name: str) -> str:
    """The plugin's name; the option's own in capitals where it cannot be imported."""
    return name.upper() if "<" in spec or spec.startswith("__main__:") else spec


def _flag(name: str, value: str | list[str]) -> list[str]:
    option = name.replace("_", "-")
    if isinstance(value, list):
        return [f"--{option}", *value]
    if value in ("True", "False"):
        return [f"--{option}" if value == "True" else f"--no-{option}"]
    return [f"--{option}", value]
