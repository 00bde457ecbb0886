"""What a run remembers: the options that its stages were made with, so that later commands need only the directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pivotrl.plugins import parse_spec
from pivotrl.protocols import InputError
from pivotrl.records import Manifest
from pivotrl.runs.layout import STAGES
from pivotrl.runs.manifest import find_manifest

SHARED = ("policy", "model", "adapter", "verifier", "environments", "retention", "retention_texts", "domain")
"""What one stage takes from another: who acts, who judges, and what is measured."""


def remembered(directory: Path, stage: str) -> dict[str, Any]:
    """Option -> value, as the manifests of a run hold them.

    Of the stage itself every option, so that it goes on as it began, and of one of the same kind, so that a second
    training or evaluation differs in what it is told alone; of other stages what is in :data:`SHARED`. None is left
    out.

    Args:
        stage: name of a stage (:mod:`pivotrl.runs.layout`), or ``run`` for a whole run.

    Raises:
        InputError: a manifest is damaged.
    """
    found: dict[str, Any] = {}
    for name in STAGES:
        manifest = find_manifest(directory, name)
        if manifest is None:
            continue
        options = options_of(manifest)
        takes_all = stage == "run" or _kind(stage) == _kind(name)
        found |= {option: value for option, value in options.items() if takes_all or option in SHARED}
    own = find_manifest(directory, stage) if stage != "run" else None
    return found | (options_of(own) if own else {})


def _kind(stage: str) -> str:
    folder = stage.partition("/")[0]
    return "train" if folder == "trainings" else folder


def options_of(manifest: Manifest) -> dict[str, Any]:
    """The options of a stage, its policy and its plugins, by the names that the command line gives them.

    What is None is left out, and so is what cannot be named, such as a function typed in by hand, and a learning rate
    that nobody chose: the usual one depends on what is trained.
    """
    acting = {key: manifest.policy.get(key) for key in ("policy", "model", "adapter")}
    found = {**manifest.options, **acting, **manifest.plugins}
    if found.get("learning_rate") == manifest.counts.get("usual_learning_rate"):
        found["learning_rate"] = None
    if played := found.get("environments"):
        specs = [spec.removeprefix("environments:") for spec in ([played] if isinstance(played, str) else played)]
        found["environments"] = specs if all(map(_is_spec, specs)) else None
    for kind in ("reader", "verifier"):
        if kind in found and kind not in manifest.plugins and not _is_spec(found[kind]):  # of older versions
            found[kind] = None
    return {option: value for option, value in found.items() if value is not None}


def _is_spec(text: Any) -> bool:
    if not isinstance(text, str) or "<" in text or text.startswith("__main__:"):
        return False
    try:
        parse_spec(text)
    except InputError:
        return False
    return True


def differing(known: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Option -> (what the run was made with, what is given now), of those in :data:`SHARED` that differ."""
    return {
        option: (known[option], given[option])
        for option in SHARED
        if option in known and given.get(option) is not None and _text(known[option]) != _text(given[option])
    }


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
