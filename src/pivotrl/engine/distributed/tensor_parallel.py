"""Tensor parallelism: every process has a part of each layer, by the plan that transformers has for the model.

All processes do all of the work in step, and exchange activations within every layer. So nothing is dealt, and each
must take the same decisions: what they draw and learn is compared after every call.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from pivotrl.engine.distributed.crew import Crew
from pivotrl.engine.distributed.keeping import load_training, save_training
from pivotrl.engine.distributed.weights import Which
from pivotrl.engine.executors import ExecutorName
from pivotrl.engine.finite import are_finite, blown_up, gives_finite
from pivotrl.engine.generation import LocalGenerator
from pivotrl.engine.learning import LocalLearner
from pivotrl.engine.loading import load_model
from pivotrl.engine.weights import Weights
from pivotrl.protocols import InputError, UpdateOptions
from pivotrl.protocols.tokens import Example, Generated
from pivotrl.records import Sampling


def require_plain(lora_rank: int, adapter: str | None, compute_dtype: str, offload: bool) -> None:
    """
    Raises:
        InputError: an option does not go with layers that are cut.
    """
    for name, given, needed in (
        ("lora_rank", lora_rank, 0),
        ("adapter", adapter, None),
        ("compute_dtype", compute_dtype, "auto"),
        ("offload", offload, False),
    ):
        if given != needed:
            raise InputError(
                f"hf(parallel='tensor') needs {name}={needed!r}, not {given!r}; leave out parallel, or give that"
            )


def load_whole(name: str, dtype: torch.dtype) -> Any:
    """The model as it was before training, in the memory of the CPU."""
    return load_model(name, torch.device("cpu"), dtype)[0]


class PartLearner(LocalLearner):
    """Learns with this process's part of the layers, while all others do.

    Args:
        load_whole: loads the whole model as it was before training, in the memory of the CPU.
    """

    def __init__(
        self,
        crew: Crew,
        weights: Weights,
        executor: ExecutorName,
        pass_tokens: int | None,
        write: Callable[..., None],
        load_whole: Callable[[], Any],
    ) -> None:
        super().__init__(weights, executor, pass_tokens, write)
        self.executor.restarts = self.reference_executor.restarts = False  # the others would not
        self._crew, self._load_whole = crew, load_whole
        if self.optimizer is not None:  # parts and whole tensors do not mix in one kernel
            trained = weights.trained().values()
            self.optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0, foreach=False)

    def _clip(self, parameters: Sequence[torch.nn.Parameter], max_norm: float) -> float:
        parts = [p for p in parameters if isinstance(p.grad, DTensor)]
        whole = [p for p in parameters if p.grad is not None and not isinstance(p.grad, DTensor)]
        squares = torch.zeros((), dtype=torch.float64)
        for some in (parts, whole):
            norm = torch.nn.utils.get_total_norm([p.grad for p in some if p.grad is not None], foreach=False)
            squares += (norm.full_tensor() if isinstance(norm, DTensor) else norm).double().cpu() ** 2
        total = squares.sqrt()
        for some in (parts, whole):
            torch.nn.utils.clip_grads_with_norm_(some, max_norm, total.to(self.weights.model.device), foreach=False)
        return float(total)

    def _require_finite(self, tokens: Sequence[int], learning_rate: float) -> None:
        assert self.optimizer is not None
        finite = are_finite(self.optimizer) and gives_finite(self.weights.model, tokens)
        if not all(self._crew.all_know(finite)):
            raise blown_up(learning_rate)

    def save(self, path: Path) -> None:
        assert self.optimizer is not None
        save_training(path, self._crew, self.weights.trained(), self.optimizer)

    def load(self, path: Path) -> None:
        assert self.optimizer is not None
        load_training(path, self._crew, self.weights.trained(), self.optimizer)

    def export(self, path: Path) -> None:
        """Written from a whole model, as by a single process."""
        tensors = {name: _whole(tensor).cpu() for name, tensor in self.weights.model.named_parameters()}
        with self._crew.apart():
            if self._crew.rank == 0:
                model = self._load_whole()
                with torch.no_grad():
                    for name, parameter in model.named_parameters():
                        parameter.copy_(tensors[name])
                self._write(path, model, folded=contextlib.nullcontext)


class InStep:
    """Where a process works in step with the others; the leader calls :meth:`lead`."""

    def __init__(self, crew: Crew, learner: PartLearner, generators: dict[Which, LocalGenerator]) -> None:
        self._crew, self._learner, self._generators = crew, learner, generators
        self._kept = contextlib.ExitStack()

    def lead(self, work: str, common: Any) -> Any:
        """The leader alone: let every process do one of the works below; what the leader found.

        Raises:
            InputError: another policy has taken this one's place.
        """
        if self._crew.site is not self:
            raise InputError(
                "several processes hold one policy at a time, and another one was made since; run this command in one "
                "process"
            )
        return self._crew.run(work, common)[0]

    @property
    def is_able(self) -> bool:
        return self._crew.is_able and self._crew.site is self

    def learn(self, common: tuple[str, tuple[Any, ...]], _: Any = None) -> Any:
        """Call a method of the learner."""
        method, given = common
        with self._short_of_memory():
            found = getattr(self._learner, method)(*given)
        return found if self._crew.rank == 0 else None

    def generate(self, common: tuple[Which, tuple[Any, ...]], _: Any = None) -> list[Generated] | None:
        """
        Raises:
            InputError: the processes have drawn different samples.
        """
        which, given = common
        with self._short_of_memory():
            found = list(self._generators[which].generate(*given))
        drawn = repr([[tuple(each.token_ids_T) for each in group.completions_G] for group in found])
        if len(set(self._crew.all_know(hashlib.sha256(drawn.encode()).hexdigest()))) > 1:
            raise InputError(
                "the processes have drawn different samples from the same numbers: their machines compute differently. "
                "Use machines of one kind, or leave out parallel='tensor'"
            )
        return found if self._crew.rank == 0 else None

    @contextlib.contextmanager
    def _short_of_memory(self) -> Iterator[None]:
        """
        Raises:
            InputError: there is no memory left. The others cannot start again with less, so the command ends.
        """
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise InputError(
                f"out of memory in process {self._crew.rank}; let fewer tokens pass at once with hf(pass_tokens=...), "
                "decode fewer samples together with hf(batch_rows=...), or use more processes"
            ) from error

    def keep(self, yes: bool, _: Any = None) -> None:
        """Begin or end to keep the episodes that are sampled."""
        self._kept.close()
        if yes:
            self._kept.enter_context(self._generators["policy"].keeping())


class LeadLearner(LocalLearner):
    """The leader's learner: each call is one of all processes."""

    def __init__(self, part: PartLearner, site: InStep) -> None:
        self.weights, self.optimizer, self._write, self._site = part.weights, part.optimizer, part._write, site
        self.executor, self.reference_executor = part.executor, part.reference_executor

    def _call(self, method: str, *given: Any) -> Any:
        return self._site.lead("learn", (method, given))

    def update(self, examples: Sequence[Example], learning_rate: float, options: UpdateOptions) -> dict[str, float]:
        metrics: dict[str, float] = self._call("update", examples, learning_rate, options)
        return metrics

    def logprobs(self, prompt: Sequence[int], answer: Sequence[int]) -> Tensor:
        found: Tensor = self._call("logprobs", prompt, answer)
        return found

    def score(
        self, prompt: Sequence[int], answer: Sequence[int], logprobs_SV: Tensor | None = None
    ) -> tuple[float, float | None]:
        scored: tuple[float, float | None] = self._call("score", prompt, answer)
        return scored

    def token_logprobs(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[list[float]]]:
        found: list[list[list[float]]] = self._call("token_logprobs", prompts, completions)
        return found

    def token_entropies(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[list[float]]]:
        found: list[list[list[float]]] = self._call("token_entropies", prompts, completions)
        return found

    def save(self, path: Path) -> None:
        self._call("save", path)

    def load(self, path: Path) -> None:
        self._call("load", path)

    def export(self, path: Path) -> None:
        self._call("export", path)


class LeadGenerator:
    """The leader's generator: all processes draw the same. See :class:`pivotrl.protocols.tokens.Generator`."""

    def __init__(self, local: LocalGenerator, which: Which, site: InStep) -> None:
        self._which, self._site = which, site
        self.identity, self.max_context = local.identity, local.max_context

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[str],
        num_samples: int,
        sampling: Sampling,
        stop_ids: frozenset[int],
        first: int = 0,
    ) -> Iterator[Generated]:
        given = list(prompts), list(keys), num_samples, sampling, stop_ids, first
        yield from self._site.lead("generate", (self._which, given))

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """See :class:`pivotrl.protocols.Sampler`."""
        self._site.lead("keep", True)
        try:
            yield
        finally:
            if self._site.is_able:
                self._site.lead("keep", False)


def in_step(
    crew: Crew, learner: PartLearner, generator: LocalGenerator, reference: LocalGenerator
) -> tuple[LeadLearner, LeadGenerator, LeadGenerator]:
    """All processes together: (learner, generator, generator of the reference); those of the leader are used."""
    crew.site = site = InStep(crew, learner, {"policy": generator, "reference": reference})
    crew.built()
    return (
        LeadLearner(learner, site),
        LeadGenerator(generator, "policy", site),
        LeadGenerator(reference, "reference", site),
    )


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor.detach()
