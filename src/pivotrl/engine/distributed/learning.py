"""The learner and the generator of the leader: they deal the work, and every process does its share."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from pivotrl.engine.distributed.dealing import deal_examples, deal_prompts
from pivotrl.engine.distributed.sites import Draw, Learned, Lesson, Site
from pivotrl.engine.distributed.weights import ShardedWeights, Which
from pivotrl.engine.executors import Scored
from pivotrl.engine.generation import LocalGenerator
from pivotrl.engine.learning import LocalLearner
from pivotrl.engine.objective import Batch, Objective, with_gradient
from pivotrl.protocols import UpdateOptions
from pivotrl.protocols.tokens import Example, Generated
from pivotrl.records import Sampling


class ShardedLearner(LocalLearner):
    """A :class:`~pivotrl.engine.learning.LocalLearner` whose weights are in shards.

    Updates are dealt to all processes. What scores texts without learning runs here alone, with whole weights.

    Args:
        local: the learner of the weights before they were cut; its executors were probed with them.
        site: where this process does its share.
    """

    weights: ShardedWeights

    def __init__(self, local: LocalLearner, site: Site) -> None:
        self._site, self.weights, self.optimizer, self._write = site, site.weights, site.optimizer, local._write
        self.executor, self.reference_executor = local.executor, local.reference_executor
        self._width = _width(site)

    def update(self, examples: Sequence[Example], learning_rate: float, options: UpdateOptions) -> dict[str, float]:
        kept = with_gradient(examples, options)
        shares = deal_examples(kept, self._site.num_processes, self._width)
        probe = [*kept[0].prompt, *kept[0].completions_G[0].token_ids_T]
        learned: list[Learned] = self._site.lead("update", Lesson(learning_rate, options, probe), shares)
        batch = Batch.of(list(itertools.chain(*shares)), options)
        return {
            **_metrics(batch, options, learned),
            **learned[0].metrics,
            "tokens/trained": float(len(batch.weights_S)),
            "tokens/computed": float(sum(each.num_computed for each in learned)),
            "tokens/unshared": float(sum(len(c) + len(i.prompt) for i in batch.items for c in i.completions)),
        }

    def logprobs(self, prompt: Sequence[int], answer: Sequence[int]) -> torch.Tensor:
        self._site.lead("gather", "policy")
        return super().logprobs(prompt, answer)

    def score(
        self, prompt: Sequence[int], answer: Sequence[int], logprobs_SV: torch.Tensor | None = None
    ) -> tuple[float, float | None]:
        if self.weights.has_reference:
            self._site.lead("gather", "reference")
        return super().score(prompt, answer, logprobs_SV)

    def token_logprobs(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[list[float]]]:
        self._site.lead("gather", "policy")
        return super().token_logprobs(prompts, completions)

    def token_entropies(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[list[float]]]:
        self._site.lead("gather", "policy")
        return super().token_entropies(prompts, completions)

    def save(self, path: Path) -> None:
        self._site.lead("save", path)

    def load(self, path: Path) -> None:
        self._site.lead("load", path)

    def export(self, path: Path) -> None:
        self._site.lead("gather", "policy")
        try:
            super().export(path)
        finally:
            self._site.lead("release", "policy")  # an adapter may have been folded into them


def _metrics(batch: Batch, options: UpdateOptions, learned: Sequence[Learned]) -> dict[str, float]:
    """Of the whole batch, from what each process scored; in the order of the processes."""
    first, last = _joined([each.first for each in learned]), _joined([each.last for each in learned])
    references = [each.reference_S for each in learned if each.reference_S is not None]
    reference_S = torch.cat(references) if references else None
    return Objective(batch, options, reference_S, first.logprobs_S).metrics(last)


def _joined(parts: Sequence[Scored | None]) -> Scored:
    found = [part for part in parts if part is not None]
    logprobs_S = torch.cat([part.logprobs_S for part in found])
    entropy_S = torch.cat([part.entropy_S for part in found])
    return Scored(torch.arange(len(logprobs_S)), logprobs_S, entropy_S)


class SharedGenerator:
    """Samples in all processes: whole trajectories are dealt. See :class:`pivotrl.protocols.tokens.Generator`.

    Args:
        local: the generator of this process.
        which: whose weights draw.
        site: where this process does its share.
    """

    def __init__(self, local: LocalGenerator, which: Which, site: Site) -> None:
        self._which, self._site, self._width = which, site, _width(site)
        self._owners: dict[str, int] | None = None
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
        owners = {} if self._owners is None else self._owners
        num_sampled = num_samples * sampling.max_tokens
        dealt = deal_prompts(prompts, keys, num_sampled, self._site.num_processes, self._width, owners)
        shares = [([prompts[i] for i in mine], [keys[i] for i in mine]) for mine in dealt]
        draw = Draw(self._which, num_samples, sampling, stop_ids, first)
        found = self._site.lead("generate", draw, shares)
        answers = {i: each for mine, made in zip(dealt, found, strict=True) for i, each in zip(mine, made, strict=True)}
        yield from (answers[i] for i in range(len(prompts)))

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """See :class:`pivotrl.protocols.Sampler`. A trajectory stays with its process."""
        if self._owners is not None:
            yield
            return
        self._site.lead("keep", True)
        self._owners = {}
        try:
            yield
        finally:
            self._owners = None
            if self._site.is_able:
                self._site.lead("keep", False)


def _width(site: Site) -> int:
    return int(site.weights.model.config.get_text_config().hidden_size)
