"""What each process of a training does when the leader calls: its share of sampling, updates and checkpoints.

Every method is called in all processes at the same time, as ``method(common, share)``: ``common`` is the same in all,
``share`` is what was dealt to this one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pivotrl.engine.distributed.crew import Crew
from pivotrl.engine.distributed.keeping import load_training, save_training
from pivotrl.engine.distributed.weights import ShardedWeights, Which
from pivotrl.engine.executors import Executor, Scored
from pivotrl.engine.finite import are_finite, blown_up, gives_finite, optimizer_step
from pivotrl.engine.generation import LocalGenerator
from pivotrl.engine.objective import Batch, Objective
from pivotrl.protocols import InputError, UpdateOptions
from pivotrl.protocols.tokens import Example, Generated
from pivotrl.records import Sampling


@dataclass(frozen=True)
class Lesson:
    """An update: how to learn from the examples that were dealt.

    ``probe``: tokens of the batch that must have finite logits afterwards.
    """

    learning_rate: float
    options: UpdateOptions
    probe: Sequence[int]


@dataclass(frozen=True)
class Learned:
    """The answer to a :class:`Lesson`. Per-token numbers are those of this process's share, on the CPU."""

    first: Scored | None
    """Of the first pass; None without a share."""
    last: Scored | None
    reference_S: Tensor | None
    num_computed: int
    metrics: dict[str, float]
    """Of the steps; the same in all processes."""


@dataclass(frozen=True)
class Draw:
    """How to sample at the prompts that were dealt."""

    which: Which
    num_samples: int
    sampling: Sampling
    stop_ids: frozenset[int]
    first: int


class Site:
    """
    Args:
        executor: of the trained model.
        reference_executor: of the reference.
        generators: of both.
    """

    def __init__(
        self,
        crew: Crew,
        weights: ShardedWeights,
        executor: Executor,
        reference_executor: Executor,
        generators: dict[Which, LocalGenerator],
    ) -> None:
        self.weights, self.executor = weights, executor
        self._crew, self._reference_executor, self._generators = crew, reference_executor, generators
        executor.restarts = False  # hooks of FSDP do not survive an error in the middle of a pass
        trained = list(weights.trained().values())
        self.optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0) if trained else None
        self._kept = contextlib.ExitStack()

    def lead(self, work: str, common: Any = None, shares: Sequence[Any] | None = None) -> list[Any]:
        """The leader alone: let every process do one of the works below, see :meth:`Crew.run`.

        Raises:
            InputError: another policy has taken this one's place.
        """
        if self._crew.site is not self:
            raise InputError(
                "several processes hold one policy at a time, and another one was made since; run this command in one "
                "process"
            )
        answers: list[Any] = self._crew.run(work, common, shares)
        return answers

    @property
    def is_able(self) -> bool:
        """Whether the other processes listen to the leader."""
        return self._crew.is_able and self._crew.site is self

    @property
    def num_processes(self) -> int:
        return self._crew.size

    # --- weights --------------------------------------------------------------------------------------------------

    def gather(self, which: Which, _: Any = None) -> None:
        self.weights.gather(which)

    def release(self, which: Which, _: Any = None) -> None:
        self.weights.release(which)

    # --- sampling -------------------------------------------------------------------------------------------------

    def generate(self, draw: Draw, share: tuple[list[Sequence[int]], list[str]]) -> list[Generated]:
        """Samples at the prompts of (prompts, keys)."""
        prompts, keys = share
        self.weights.gather(draw.which)
        try:
            with self._crew.apart():
                generator, found = self._generators[draw.which], []
                if prompts:
                    sampling, ends = draw.sampling, draw.stop_ids
                    found = list(generator.generate(prompts, keys, draw.num_samples, sampling, ends, draw.first))
        finally:
            if draw.which == "policy" and self.weights.has_adapter:
                self.weights.release("policy")  # an adapter was folded into them
        return found

    def keep(self, yes: bool, _: Any = None) -> None:
        """Begin or end to keep the episodes that are sampled."""
        self._kept.close()
        if yes:
            self._kept.enter_context(self._generators["policy"].keeping())

    # --- learning -------------------------------------------------------------------------------------------------

    def update(self, lesson: Lesson, examples: Sequence[Example]) -> Learned:
        """
        Raises:
            InputError: weights or logits are not finite afterwards.
        """
        assert self.optimizer is not None, "this policy was made with trainable=False"
        options, objective, reference_S = lesson.options, None, None
        batch = Batch.of(examples, options).to(self.weights.device) if examples else None
        if not self.weights.has_adapter:
            self.weights.release("reference")  # texts may have been scored
        if options.kl_coefficient > 0:
            reference_S = self._score_reference(batch, options.temperature)
        if batch is not None:
            objective = Objective(batch, options, reference_S)
        first, metrics, num_skipped = None, dict[str, float](), 0.0
        for _ in range(options.num_epochs):
            scored = self.gradient(objective)
            first = scored if first is None else first
            loss = objective.metrics(scored)["loss/total"] if objective and scored else 0.0
            metrics = self._step(lesson, loss)
            num_skipped += metrics["update/skipped"]
        self._require_finite(lesson)
        num_computed = self.executor.num_computed if examples else 0
        metrics["update/skipped"] = float(num_skipped > 0)
        return Learned(_on_cpu(first), _on_cpu(scored), _cpu(reference_S), num_computed, metrics)

    def gradient(self, objective: Objective | None) -> Scored | None:
        """Put the gradient of the whole batch into the shards.

        Args:
            objective: of this process's share; None without one.
        """
        assert self.optimizer is not None
        self.optimizer.zero_grad(set_to_none=True)
        while (scored := self._try(objective)) == "again":
            pass
        self.weights.reduce()
        return scored

    def _try(self, objective: Objective | None) -> Scored | Literal["again"] | None:
        """A pass over this process's share. When memory ran out in any process, all start again."""
        self.weights.gather("policy")
        scored, is_short = None, False
        try:
            with self._crew.apart():
                try:
                    scored = objective.send_back(self.executor) if objective is not None else None
                except torch.OutOfMemoryError:
                    is_short = self.executor.take_less()
                    if not is_short:
                        raise
        except Exception:
            self.weights.release("policy")
            raise
        if any(self._crew.all_know(is_short)):
            self.weights.release("policy")
            return "again"
        return scored

    def _score_reference(self, batch: Batch | None, temperature: float) -> Tensor | None:
        self.weights.gather("reference")
        found = None
        with self._crew.apart(), self.weights.reference():
            if batch is not None:
                found = self._reference_executor.score(batch.items, temperature).logprobs_S
        if not self.weights.has_adapter:
            self.weights.release("reference")
        return found

    def _step(self, lesson: Lesson, loss: float) -> dict[str, float]:
        assert self.optimizer is not None
        options, parameters = lesson.options, list(self.weights.trained().values())
        found: Any = torch.nn.utils.clip_grad_norm_(parameters, options.max_gradient_norm)
        norm = float(found.full_tensor())
        is_finite = math.isfinite(norm) and math.isfinite(sum(self._crew.all_know(loss)))
        with self._crew.apart():
            if is_finite:
                for group in self.optimizer.param_groups:
                    group["lr"], group["weight_decay"] = lesson.learning_rate, options.weight_decay
                optimizer_step(self.optimizer, lesson.learning_rate)
        self.optimizer.zero_grad(set_to_none=True)
        return {
            "gradient/norm": norm,
            "update/skipped": float(not is_finite),
            "update/learning_rate": lesson.learning_rate,
        }

    def _require_finite(self, lesson: Lesson) -> None:
        assert self.optimizer is not None
        self.weights.gather("policy")
        with self._crew.apart():
            if not are_finite(self.optimizer) or not gives_finite(self.weights.model, lesson.probe):
                raise blown_up(lesson.learning_rate)

    # --- keeping --------------------------------------------------------------------------------------------------

    def save(self, path: Path, _: Any = None) -> None:
        assert self.optimizer is not None
        save_training(path, self._crew, self.weights.trained(), self.optimizer)

    def load(self, path: Path, _: Any = None) -> None:
        assert self.optimizer is not None
        load_training(path, self._crew, self.weights.trained(), self.optimizer)
        self.weights.release("policy")


def _cpu(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.cpu()


def _on_cpu(scored: Scored | None) -> Scored | None:
    if scored is None:
        return None
    return Scored(scored.index_S.cpu(), scored.logprobs_S.cpu(), scored.entropy_S.cpu())
