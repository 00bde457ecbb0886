"""The command that continues a run, built from its manifests."""

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
from pivotrl.runs.memory import options_of
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
    """The ``pivotrl run`` command that continues this run, without options at their defaults.

    The user must fill in words in capitals, which the manifests do not contain: reference texts (only their hash is
    stored), and a policy, reader or verifier that has no name.
    """
    made: dict[str, Any] = {}
    known: dict[str, Any] = {}
    for stage in STAGES:
        if stage in manifests:
            made |= manifests[stage].options
            known |= options_of(manifests[stage])
    defaults = {field.name: field.default for options in _OPTIONS for field in dataclasses.fields(options)}
    flags: dict[str, str | list[str]] = {"out": str(directory), **_policy(known)}
    for name in ("reader", "verifier", "heldout", "environments", "train_environments", "retention", "answers"):
        if made.get(name) is not None:
            flags[name] = known.get(name, name.upper())
    flags |= {
        name: list(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in known.items()
        if name in defaults and value != defaults[name]
    }
    start = shlex.join(["pivotrl", "run", str(known.get("source", "SOURCE"))])
    lines = [shlex.join(_flag(name, value)) for name, value in flags.items()]
    return " \\\n    ".join([start, *lines, "--resume"])


def _policy(known: Mapping[str, Any]) -> dict[str, str]:
    named = {name: str(known[name]) for name in ("policy", "model", "adapter") if name in known}
    return named or {"policy": "POLICY"}


def _flag(name: str, value: str | list[str]) -> list[str]:
    option = name.replace("_", "-")
    if isinstance(value, list):
        return [f"--{option}", *value]
    if value in ("True", "False"):
        return [f"--{option}" if value == "True" else f"--no-{option}"]
    return [f"--{option}", value]
