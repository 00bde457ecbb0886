"""A model of transformers on this machine as a generator: see :class:`pivotrl.protocols.tokens.Generator`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from pivotrl.engine.conversation_trunks import ConversationTrunks
from pivotrl.engine.episode_trunks import EpisodeTrunks
from pivotrl.engine.live_sampling import LiveBatch
from pivotrl.engine.memory import rows_that_fit, trunk_bytes
from pivotrl.engine.products import Products, computing_by
from pivotrl.engine.sampling import draw, num_prefilled
from pivotrl.protocols.tokens import Generated
from pivotrl.records import Sampling


class LocalGenerator:
    """Draws from prefix forests: a prefix that the prompts of a call share is computed once.

    Args:
        acting: context manager that gives the model that draws: :meth:`pivotrl.engine.weights.Weights.folded` or
            :meth:`~pivotrl.engine.weights.Weights.reference`.
        trained: the model in training, whose gradients and moments also take memory.
        way: how prompts are shared, see :func:`pivotrl.engine.executors.choosing.choose_sampler`.
        batch_rows: samples that decode together; None takes as many as fit.
        trunks: keys and values of running episodes; they are dropped when other weights draw.
        products: how the linear layers compute, resolved.
    """

    def __init__(
        self,
        acting: Callable[[], AbstractContextManager[Any]],
        trained: Any,
        *,
        identity: Mapping[str, Any],
        max_context: int,
        way: str,
        batch_rows: int | None = None,
        trunks: EpisodeTrunks | None = None,
        products: Products = "plain",
    ) -> None:
        self._acting, self._trained = acting, trained
        self.trunks = trunks or EpisodeTrunks(trunk_bytes(trained))
        self.identity, self.max_context = identity, max_context
        self.way, self.batch_rows, self.products = way, batch_rows, products

    def drawing_from(self, acting: Callable[[], AbstractContextManager[Any]]) -> LocalGenerator:
        """The same generator over other weights of the same model, such as its reference."""
        return LocalGenerator(
            acting,
            self._trained,
            identity=self.identity,
            max_context=self.max_context,
            way=self.way,
            batch_rows=self.batch_rows,
            trunks=self.trunks,
            products=self.products,
        )

    def keeping(self) -> AbstractContextManager[None]:
        """See :class:`pivotrl.protocols.Sampler`."""
        return self.trunks.keeping()

    def live(self) -> LiveBatch | None:
        """For a server, whose requests come and go; None if only whole rows give the model's own numbers. The weights
        must not be in training."""
        with self._acting() as model:
            trunks = ConversationTrunks(trunk_bytes(self._trained))
            return LiveBatch(model, trunks, self.batch_rows) if self.way == "split" else None

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[str],
        num_samples: int,
        sampling: Sampling,
        stop_ids: frozenset[int],
        first: int = 0,
    ) -> Iterator[Generated]:
        rows = self.batch_rows or rows_that_fit(self._trained, sampling.max_tokens)
        with self._acting() as model, computing_by(self.products, model):
            groups = draw(
                model,
                prompts,
                keys,
                num_samples,
                sampling,
                stop_ids,
                executor=self.way,
                max_rows=rows,
                first=first,
                trunks=self.trunks,
            )
        computed = self.trunks.num_prefilled or num_prefilled(prompts, self.way, num_samples)
        for group, prefilled in zip(groups, computed, strict=True):
            yield Generated(group, prefilled)
