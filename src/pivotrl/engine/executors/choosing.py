"""Choose the executor of a model: the fastest that reproduces the reference's numbers on a probe."""

from __future__ import annotations

import logging
from typing import Any

import torch

from pivotrl.engine.decoder import backbone
from pivotrl.engine.executors.cache import CacheExecutor
from pivotrl.engine.executors.chunked import ChunkedExecutor
from pivotrl.engine.executors.contract import Executor, ExecutorName, Scored
from pivotrl.engine.executors.reference import ReferenceExecutor
from pivotrl.engine.executors.split import SplitExecutor
from pivotrl.engine.items import Item
from pivotrl.engine.loading import TOLERANCE
from pivotrl.engine.memory import budget, tokens_that_fit
from pivotrl.engine.sampling import draw
from pivotrl.records import Sampling

_KINDS: dict[str, type[ChunkedExecutor]] = {
    "split": SplitExecutor,
    "cache": CacheExecutor,
    "reference": ReferenceExecutor,
}
_logger = logging.getLogger(__name__)


def make_executor(name: ExecutorName, model: Any, max_tokens: int | None = None) -> Executor:
    """By name, or with ``auto`` the first that passes a probe.

    Args:
        model: a causal LM of transformers, with or without an adapter.
        max_tokens: tokens whose activations are kept at once; None: what fits, see :mod:`pivotrl.engine.memory`.
    """
    fitting = tokens_that_fit(model, budget(model)) if max_tokens is None else 0

    def make(kind: type[ChunkedExecutor]) -> Executor:
        return kind(model, int(kind.takes * fitting) if max_tokens is None else max_tokens)

    if name != "auto":
        return make(_KINDS[name])
    for candidate in ("split", "cache"):
        executor = make(_KINDS[candidate])
        reason = why_not(executor, model)
        if reason is None:
            return executor
        _logger.warning("%s: no %s executor: %s", type(backbone(model)).__name__, candidate, reason)
    return make(ReferenceExecutor)


def why_not(executor: Executor, model: Any) -> str | None:
    """Run a small forest both ways, forward and backward; None if the results agree."""
    changing = _rope_types(backbone(model).config.get_text_config()) & {"longrope", "dynamic"}
    if changing:  # a probe would have to be as long as the context to see it
        return f"{changing.pop()} rotary angles depend on the longest sequence of a pass"
    items = _probe(int(backbone(model).config.get_text_config().vocab_size))
    parameters = list(model.parameters())
    asked = [parameter.requires_grad for parameter in parameters]
    first = _lowest_weight(model)
    kept = [parameter.grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(parameter is first)
            parameter.grad = None
        results = []
        for each in (ReferenceExecutor(model, 4096), executor):
            scored = each.score(items, loss=_mean)
            assert first.grad is not None
            results.append((scored.logprobs_S, first.grad.clone()))
            first.grad = None
    except torch.OutOfMemoryError:
        raise  # says nothing about the executor
    except (NotImplementedError, RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no gradient'}"
    finally:
        for parameter, grad, flag in zip(parameters, kept, asked, strict=True):
            parameter.grad = grad
            parameter.requires_grad_(flag)
    (expected, expected_grad), (found, found_grad) = results
    tolerance = TOLERANCE[model.dtype]
    gap = (expected - found).abs().max().item()
    if not gap <= tolerance:
        return f"log-probabilities differ by {gap:.2g} nats"
    off = ((expected_grad - found_grad).norm() / expected_grad.norm().clamp_min(1e-12)).item()
    return None if off <= max(10 * tolerance, 1e-3) else f"gradients differ by {off:.2g}"


def _lowest_weight(model: Any) -> torch.nn.Parameter:
    """A parameter whose gradient has to come through every layer and costs little memory: the first norm's weight.

    No bias: that of keys has a gradient of zero, and so nothing but rounding.
    """
    weights: list[torch.nn.Parameter] = [
        p for name, p in backbone(model).get_decoder().named_parameters() if name.endswith("weight")
    ]
    norm = next((p for p in weights if p.dim() == 1), None)
    return norm if norm is not None else min(weights[1:], key=torch.Tensor.numel)  # the first is the embedding


@torch.no_grad()
def choose_sampler(name: str, model: Any) -> str:
    """How completions are drawn: as the executor of that name shares prefixes, or the first way whose log-probabilities
    are those of plain rows.

    Raises:
        RuntimeError: none is.
    """
    faults = {}
    for way in dict.fromkeys((name, "reference", "anew")):
        items = _probe(int(backbone(model).config.get_text_config().vocab_size))
        prompts, sampling = [item.prompt[:20] for item in items], Sampling(max_tokens=3, seed=0)
        try:
            groups = draw(model, prompts, ["a", "b"], 2, sampling, frozenset(), executor=way)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # caches are as many as models
            faults[way] = f"{type(error).__name__}: {error}"
            continue
        drawn = [
            Item(prompt, [each.token_ids_T for each in group]) for prompt, group in zip(prompts, groups, strict=True)
        ]
        found = [logprob for group in groups for each in group for logprob in each.logprobs_T]
        expected = ReferenceExecutor(model, 4096).score(drawn).logprobs_S
        gap = (expected.cpu() - torch.tensor(found)).abs().max().item()
        if gap <= TOLERANCE[model.dtype]:
            return way
        faults[way] = f"log-probabilities differ by {gap:.2g} nats"
        _logger.warning("%s: sampling by %s: %s", type(backbone(model)).__name__, way, faults[way])
    raise RuntimeError(f"its samples are not those that it scores ({faults})")


def _rope_types(config: Any) -> set[str]:
    """Of all layers; they may differ by the kind of layer."""
    settings = getattr(config, "rope_parameters", None) or {}
    each = [settings] if "rope_type" in settings else [each for each in settings.values() if isinstance(each, dict)]
    return {str(one.get("rope_type", "default")) for one in each}


def _mean(scored: Scored) -> torch.Tensor:
    return scored.logprobs_S.sum() / 100


def _probe(vocabulary: int) -> list[Item]:
    """Two nested prompts with diverging branches, long enough to be shared."""
    tokens = [(7 * i * i + 3 * i + 5) % vocabulary for i in range(96)]
    ends = (40, 96)
    return [
        Item(tokens[:end], [[(end + 11 * branch + i) % vocabulary for i in range(3 + branch)] for branch in range(3)])
        for end in ends
    ]
