"""What to serve: the policy of a run before and after training, a model, or an adapter."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pivotrl import plugins
from pivotrl.options import refuse
from pivotrl.protocols import InputError
from pivotrl.records import Manifest
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import known_stages, training_stage
from pivotrl.runs.memory import options_of, remembered
from pivotrl.templates.chatml_template import CHATML_TEMPLATE

BEFORE, AFTER = "before", "after"
_ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class Choice:
    """One model to serve.

    Attributes:
        options: those of the policy ``hf``.
    """

    name: str
    model: str
    adapter: Path | None
    options: dict[str, Any]

    @property
    def root(self) -> str:
        return f"{self.model} with {self.adapter}" if self.adapter else self.model


def choose(
    target: str,
    *,
    before: bool = False,
    both: bool = False,
    training: str | None = None,
    policy: str | None = None,
    name: str | None = None,
) -> list[Choice]:
    """
    Args:
        target: a run, a model (folder or name), or a folder with an adapter.
        before, both, training, policy, name: the options of ``pivotrl serve``.

    Raises:
        InputError: the run is damaged or not trained, its policy cannot be served, or the options do not fit.
    """
    folder = Path(target)
    if before and both:
        refuse("before", "", "and --both contradict each other; give one")
    if both and name is not None:
        refuse("name", name, "names one model, but --both serves two: before and after")
    if folder.is_dir() and known_stages(folder):
        given = _named(policy)[1] if policy else {}
        chosen = [_before(folder, training)] if before or both else []
        chosen += [] if before else [_after(folder, training)]
        found = [replace(choice, options={**choice.options, **given}) for choice in chosen]
    else:
        for option, value in (("before", before), ("both", both), ("training", training)):
            if value:
                shown = value if isinstance(value, str) else ""
                refuse(option, shown, f"is for a run, and {target} is none: it has no manifest of a stage")
        found = [_adapter(folder, policy) if (folder / _ADAPTER).is_file() else _model(target, policy)]
    return [replace(found[0], name=name)] if name else found


def _after(folder: Path, training: str | None) -> Choice:
    stage = training_stage(training)
    manifest = RunFiles(folder).finished(stage)
    acting = _acting(manifest, f"the training {stage} of {folder}")
    _, options = _named(acting["policy"])
    weights = folder / stage / "policy"
    if (weights / _ADAPTER).is_file():
        return Choice(AFTER, acting.get("model") or options.pop("model", _DEFAULT), weights, _how(options))
    if not (weights / "config.json").is_file():
        raise InputError(f"{weights} holds no policy; run `pivotrl train {folder} --overwrite` again")
    return Choice(AFTER, str(weights), None, _how(options))


_DEFAULT = "smollm2-135m-instruct"


def _before(folder: Path, training: str | None) -> Choice:
    known = remembered(folder, "run", training_stage(training))
    if "policy" not in known:
        raise InputError(f"{folder} names no policy, as nothing was sampled in it; give the model instead")
    _, options = _named(known["policy"])
    model = known.get("model") or options.pop("model", _DEFAULT)
    adapter = known.get("adapter") or options.pop("adapter", None)
    return Choice(BEFORE, model, Path(adapter) if adapter else None, _how(options))


def _acting(manifest: Manifest, place: str) -> dict[str, Any]:
    found = options_of(manifest)
    if "policy" not in found:
        raise InputError(f"{place} does not name its policy; give the folder of the policy instead")
    return found


def _named(policy: str) -> tuple[str, dict[str, Any]]:
    """
    Raises:
        InputError: it is not the policy that has a language model.
    """
    name, options = plugins.parse_spec(policy)
    if name != "hf":
        raise InputError(f"the policy {policy} has no language model to serve; only hf has")
    return name, options


def _how(options: dict[str, Any]) -> dict[str, Any]:
    """Options that say how the model acts; those of its training are left out."""
    acts = ("dtype", "device", "style", "reasoning", "actions", "variables", "batch_rows", "executor")
    return {name: options[name] for name in acts if name in options}


def _adapter(folder: Path, policy: str | None) -> Choice:
    _, options = _named(policy or "hf")
    model = options.get("model")
    if model is None:
        try:
            model = json.loads((folder / _ADAPTER).read_bytes()).get("base_model_name_or_path")
        except (ValueError, AttributeError) as error:
            raise InputError(f"{folder / _ADAPTER} is not a JSON object ({error}); save the adapter again") from error
    if not isinstance(model, str) or not model:
        raise InputError(f"{folder / _ADAPTER} names no base model; give it with --policy \"hf(model='...')\"")
    template = folder / "chat_template.jinja"
    if template.is_file() and template.read_text(encoding="utf-8") == CHATML_TEMPLATE:
        options = {"style": "chatml", **options}
    return Choice(folder.name or "adapter", model, folder, _how(options))


def _model(target: str, policy: str | None) -> Choice:
    _, options = _named(policy or "hf")
    adapter = options.get("adapter")
    return Choice(Path(target).name or target, target, Path(adapter) if adapter else None, _how(options))
