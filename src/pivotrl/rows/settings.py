"""How the run trained, or would: what a configuration of another stack is written from."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pivotrl.plugins import parse_spec
from pivotrl.records import SampleGroup
from pivotrl.training_options import TrainingOptions

_POLICY_GRADIENT = "pivotrl"
_RATES = {True: 5e-5, False: 1e-6}
"""Whether there is an adapter -> the usual learning rate of the policy gradient, see TrainingOptions.learning_rate."""
_LORA_RANK, _LORA_ALPHA = 16, 32
_IDS = {"smollm2-135m-instruct": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Names of ours -> Hugging Face ids."""
_MARGIN, _ROUND_UP = 1.25, 256


@dataclass(frozen=True)
class Settings:
    """What another stack needs to train alike.

    Attributes:
        training: the options of the run's training, or the defaults.
        model: as the run names it; None if no model of transformers was profiled.
        learning_rate: the one of the training, or the usual one.
        lora_rank: 0: all weights are trained.
        max_prompt_tokens: a quarter more than the longest exported prompt has here, because other stacks write it in
            other tokens, rounded up to a multiple of 256; 0 if unknown.
    """

    training: TrainingOptions = field(default_factory=TrainingOptions)
    model: str | None = None
    learning_rate: float = _RATES[True]
    lora_rank: int = _LORA_RANK
    lora_alpha: int = _LORA_ALPHA
    max_prompt_tokens: int = 0

    @property
    def changed(self) -> list[str]:
        """Options of the training, other than the default, that no other stack has, as flags."""
        ours = ("turns_per_trajectory", "average_over", "importance_cap")
        defaults = TrainingOptions()
        return [
            f"--{name.replace('_', '-')} {getattr(self.training, name)}"
            for name in ours
            if getattr(self.training, name) != getattr(defaults, name)
        ]


def settings_of(remembered: Mapping[str, Any], groups: Sequence[SampleGroup]) -> Settings:
    """
    Args:
        remembered: option -> value of the run's stages (:func:`pivotrl.runs.memory.remembered`).
        groups: of the exported turns.
    """
    names = {field.name for field in dataclasses.fields(TrainingOptions)}
    options = {name: value for name, value in remembered.items() if name in names}
    if parse_spec(options.get("method", _POLICY_GRADIENT))[0] != _POLICY_GRADIENT:
        options = {}  # another method's batch and rate say nothing about a policy gradient
    training = TrainingOptions(**options)
    policy, arguments = parse_spec(remembered.get("policy") or "hf")
    rank = int(arguments.get("lora_rank", _LORA_RANK))
    longest = max((group.num_prompt_tokens for group in groups), default=0)
    return Settings(
        training=training,
        model=_found(remembered.get("model") or arguments.get("model")) if policy in ("hf", "vllm") else None,
        learning_rate=training.learning_rate or _RATES[rank > 0],
        lora_rank=rank,
        lora_alpha=int(arguments.get("lora_alpha", _LORA_ALPHA)),
        max_prompt_tokens=math.ceil(longest * _MARGIN / _ROUND_UP) * _ROUND_UP,
    )


def _found(model: str | None) -> str | None:
    """As another program finds it, started anywhere."""
    if model is None or model in _IDS:
        return _IDS.get(model or "")
    return str(Path(model).resolve()) if Path(model).is_dir() else model


def yaml_text(values: Mapping[str, Any], indent: str = "") -> str:
    """Mappings as blocks, everything else as JSON, which YAML takes."""
    lines = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            lines.append(f"{indent}{name}:\n{yaml_text(value, indent + '  ')}")
        else:
            lines.append(f"{indent}{name}: {_scalar(value)}\n")
    return "".join(lines)


def _scalar(value: Any) -> str:
    if isinstance(value, float):
        text = repr(value)
        return text if "." in text else text.replace("e", ".0e")  # YAML 1.1 takes 5e-05 for a text
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def differences(lines: Sequence[str]) -> str:
    """Markdown: what the configuration cannot say."""
    if not lines:
        return ""
    return "\nWhat differs from pivotrl's own training:\n\n" + "".join(f"- {line}\n" for line in lines)
