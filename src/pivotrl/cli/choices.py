"""The policy and the held-out measurements named on the command line, made into objects as late as possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pivotrl import plugins
from pivotrl.evaluation import load_questions, load_retention
from pivotrl.evaluation.questions import Question
from pivotrl.options import AtLeast1, Positive, check, refuse
from pivotrl.plugins.shapes import require_policy, require_sampler
from pivotrl.protocols import InputError, MakeEnvironments
from pivotrl.protocols.observing import SILENT, Observer, at_work


@dataclass(frozen=True)
class Price:
    """What the machine costs."""

    price_per_hour: Positive | None = None
    """In any currency: tells costs in money too."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class PolicyChoice:
    """Which policy acts and learns."""

    policy: str = "hf"
    """Policy plugin with options, such as hf(lora_rank=16, frozen_layers=10) or tabular."""
    model: str | None = None
    """For hf: a Hugging Face id, a model folder, or smollm2-135m-instruct (the default)."""
    adapter: str | None = None
    """For hf: a LoRA adapter folder to merge into the weights first."""

    def load_late(
        self,
        needs: Callable[[Any], None] = require_sampler,
        seed: int | None = None,
        observer: Observer = SILENT,
    ) -> Any:
        """The policy, loaded on first use.

        Args:
            needs: refuses the loaded policy if it lacks something that the command needs.
            seed: of the weights that training adds, where the policy has such (``seeds_adapter``).
            observer: is told when it is loaded.

        Raises:
            InputError: the plugin or its option does not exist.
        """
        given = self._named()
        plugins.require_options("policies", self.policy, **given)
        return _LatePolicy(self.policy, given, needs, seed, observer)

    def make(self, seed: int, observer: Observer = SILENT) -> Any:
        """A fresh policy of a seed, for a comparison. A policy without the option ``seed`` is the same for every seed.

        Raises:
            InputError: the plugin or its option does not exist, or it is no policy.
        """
        given = self._named()
        if "seed" in plugins.options_of(plugins.find("policies", plugins.parse_spec(self.policy)[0])):
            given["seed"] = seed
        with at_work(observer, _loading(self.policy, given)):
            policy = plugins.load("policies", self.policy, **given)
        require_policy(policy)
        return policy

    def _named(self) -> dict[str, Any]:
        named = {"model": self.model, "adapter": self.adapter}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class SamplerChoice(PolicyChoice):
    """Who acts: a policy, or a sampler that cannot be trained."""

    sampler: str | None = None
    """Sampler plugin that acts instead of a policy, such as scripted(script='answers.json')."""

    def load_late(
        self,
        needs: Callable[[Any], None] = require_sampler,
        seed: int | None = None,
        observer: Observer = SILENT,
    ) -> Any:
        """Like :meth:`PolicyChoice.load_late`, but a sampler is loaded at once.

        Raises:
            InputError: as there.
        """
        if self.sampler is None:
            return super().load_late(needs, seed, observer)
        with at_work(observer, f"loading the sampler {plugins.parse_spec(self.sampler)[0]}"):
            sampler = plugins.load("samplers", self.sampler)
        needs(sampler)
        return sampler


class _LatePolicy:
    """Loads the policy on first use, so that faults in files, options or verifier are reported before a model loads."""

    def __init__(
        self, spec: str, given: dict[str, Any], needs: Callable[[Any], None], seed: int | None, observer: Observer
    ) -> None:
        self._spec, self._given, self._needs, self._seed, self._observer = spec, given, needs, seed, observer

    @cached_property
    def loaded(self) -> Any:
        given = self._given
        if self._seed is not None:
            name, options = plugins.parse_spec(self._spec)
            if getattr(plugins.find("policies", name), "seeds_adapter", False):
                if "seed" in options:
                    raise InputError(f"--seeds gives every training a seed of its own; leave it out of {self._spec}")
                given = {**given, "seed": self._seed}
        with at_work(self._observer, _loading(self._spec, given)):
            policy = plugins.load("policies", self._spec, **given)
        self._needs(policy)
        return policy

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loaded, name)

    @property
    def description(self) -> dict[str, Any]:
        """The policy's own description, plus the plugin and options that named it."""
        return {**getattr(self.loaded, "description", {}), "policy": self._spec, **self._given}


@dataclass(frozen=True)
class TrainedIn:
    """Environments to train in, for a method that plays."""

    train_environments: tuple[str, ...] | None = None
    """Environment plugins with options, for `--method episodes` or `own_states`: plancraft(split='train')."""

    def __post_init__(self) -> None:
        _require_different("train_environments", self.train_environments)

    def make_environments(self) -> dict[str, MakeEnvironments] | None:
        """As :meth:`HeldOut.make_environments`."""
        return _makers(self.train_environments)


@dataclass(frozen=True)
class HeldOut:
    """What to evaluate on besides held-out turns."""

    environments: tuple[str, ...] | None = None
    """Environment plugins with options for held-out episodes, such as plancraft(split='test')."""
    retention: Path | None = None
    """JSON Lines file of reference texts outside the task (fields id, source, prompt, answer)."""
    retention_texts: AtLeast1 | None = None
    """How many reference texts to use, from the first; None uses all."""
    answers: Path | None = None
    """JSON Lines file of questions outside the task whose answers can be checked (fields id, source, prompt, and one of
    answer, answer with options, instructions, reasoning_gym)."""

    def __post_init__(self) -> None:
        check(self)
        _require_different("environments", self.environments)

    def make_environments(self) -> dict[str, MakeEnvironments] | None:
        """The maker of each environment, by the text that named it."""
        return _makers(self.environments)

    def questions(self) -> Sequence[Question]:
        return load_questions(self.answers) if self.answers else ()

    def texts(self) -> Sequence[dict[str, str]]:
        return load_retention(self.retention, self.retention_texts) if self.retention else ()


def _loading(spec: str, given: Mapping[str, Any]) -> str:
    return f"loading the model {given['model']}" if "model" in given else f"loading the policy {spec}"


def _require_different(name: str, specs: tuple[str, ...] | None) -> None:
    if specs is not None and len(set(specs)) != max(1, len(specs)):
        refuse(name, " ".join(specs), "must name one or more environments, each once")


def _makers(specs: tuple[str, ...] | None) -> dict[str, MakeEnvironments] | None:
    return None if specs is None else {spec: plugins.load("environments", spec) for spec in specs}
