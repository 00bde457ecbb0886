"""The options that a run's stages were made with, so that later commands need only the directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pivotrl.plugins import parse_spec
from pivotrl.protocols import InputError
from pivotrl.records import Manifest
from pivotrl.runs.layout import PILOT, STAGES
from pivotrl.runs.manifest import find_manifest

SHARED = ("policy", "model", "adapter", "verifier", "environments", "retention", "retention_texts", "answers", "domain")
"""Options that one stage takes from another: who acts, who judges, and what is measured."""
_OWN = ("checkpoint", "as_given", "profile_may_differ_in")
"""Options that belong to one evaluation or training alone."""
_WHO_ACTS = ("policy", "model", "adapter")


def remembered(directory: Path, stage: str, training: str | None = None) -> dict[str, Any]:
    """Option -> value, from the manifests of a run.

    All options of the stage itself are taken, so that it continues as it began, and all of stages of the same kind, so
    that a second training or evaluation differs only in the options given. Other stages contribute the options in
    :data:`SHARED`. A profile and its pilot share all. Values of None are left out.

    Args:
        stage: name of a stage (:mod:`pivotrl.runs.layout`), or ``run`` for a whole run.
        training: stage name of the training that is measured: its policy, which may have begun from another
            training's, comes before the run's.

    Raises:
        InputError: a manifest is damaged.
    """
    found: dict[str, Any] = {}
    for name in (PILOT, *STAGES):
        manifest = find_manifest(directory, name)
        if manifest is None:
            continue
        options = options_of(manifest)
        if "policy" in options:  # a model belongs to its policy
            found = {option: value for option, value in found.items() if option not in _WHO_ACTS}
        takes_all = stage == "run" or _kind(stage) == _kind(name) or {stage, name} == {PILOT, "profile"}
        found |= {
            option: value for option, value in options.items() if (takes_all and option not in _OWN) or option in SHARED
        }
    measured = find_manifest(directory, training) if training else None
    if measured:
        found |= {option: value for option, value in options_of(measured).items() if option in _WHO_ACTS}
    own = find_manifest(directory, stage) if stage != "run" else None
    return found | (options_of(own) if own else {})


def unnamed_verifier(directory: Path) -> str | None:
    """The verifier that judged in this run, if the command line cannot name any, such as an interactively typed one."""
    found: str | None = None
    for manifest in filter(None, (find_manifest(directory, stage) for stage in STAGES)):
        if "verifier" in options_of(manifest):
            return None
        found = found or manifest.options.get("verifier")
    return found


def _kind(stage: str) -> str:
    folder = stage.partition("/")[0]
    return "train" if folder == "trainings" else folder


def options_of(manifest: Manifest) -> dict[str, Any]:
    """The options of a stage, its policy and its plugins, under their command-line names.

    Left out are None, plugins that cannot be named, such as an interactively typed function, and a learning rate that
    nobody chose, since the default depends on the trained weights.
    """
    acting = {key: manifest.policy.get(key) for key in ("policy", "model", "adapter")}
    found = {**manifest.options, **acting, **manifest.plugins}
    if found.get("learning_rate") == manifest.counts.get("usual_learning_rate"):
        found["learning_rate"] = None
    for name in ("environments", "train_environments"):
        if played := found.get(name):
            specs = [spec.removeprefix("environments:") for spec in ([played] if isinstance(played, str) else played)]
            found[name] = specs if all(map(_is_spec, specs)) else None
    for kind in ("reader", "verifier"):
        if kind in found and kind not in manifest.plugins and not _is_spec(found[kind]):  # from older versions
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
    """Option -> (the run's value, the value given now), for options in :data:`SHARED` that differ."""
    return {
        option: (known[option], given[option])
        for option in SHARED
        if option in known and given.get(option) is not None and as_text(known[option]) != as_text(given[option])
    }


def as_text(value: Any) -> str:
    """A value as on the command line."""
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
