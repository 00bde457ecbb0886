"""Mixtures of experts: gradients, samples, several processes, and a router that is left alone.

The oracle of the gradients is the model's own code, row by row. Run alone: python -m pytest tests/test_moe.py
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh

from architectures import save
from crews import together
from distributed_work import OPTIONS, make_examples, share_of
from pivotrl.engine.distributed.sharding import ShardOptions
from pivotrl.engine.distributed.sites import Site
from pivotrl.engine.distributed.weights import ShardedWeights
from pivotrl.engine.executors import make_executor
from pivotrl.engine.items import Item
from pivotrl.engine.objective import Batch, Objective
from pivotrl.engine.trainable import Trainable, routers
from pivotrl.engine.weights import Weights
from pivotrl.policies.hf import Policy
from pivotrl.protocols import InputError
from test_architectures import draw, drawn, plain, scored, update
from tiny import save_tiny_model
from tiny_models import make_model, random_items, weights_of

FAMILIES = ("qwen3_moe", "olmoe", "deepseek_v3", "mixtral")
OFTEN = ("qwen3_moe", "olmoe")
EACH = [pytest.param(name, marks=[] if name in OFTEN else [pytest.mark.slow]) for name in FAMILIES]
MODES = [(rank, train_router) for rank in (0, 2) for train_router in (True, False)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return functools.cache(lambda name: save(name, tmp_path_factory.mktemp("model") / "model"))


def router_names(model: Any) -> set[str]:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    found = {id(p) for layer in Trainable(base, 0).layers for p in routers(layer)}
    return {name for name, parameter in model.named_parameters() if id(parameter) in found}


def by_rows(model: Any, items: list[Item], weights_S: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradients of the weighted log-probabilities, one plain row for each completion, in the model's own code."""
    own = copy.deepcopy(model)
    base = own.get_base_model() if hasattr(own, "get_base_model") else own
    base.set_attn_implementation("eager")
    base.set_experts_implementation("eager")
    own.zero_grad(set_to_none=True)
    weights = iter(weights_S.tolist())
    for item in items:
        for completion in item.completions:
            row = torch.tensor([[*item.prompt, *completion]])
            logprobs = own(input_ids=row, use_cache=False).logits[0].log_softmax(-1)
            chosen = logprobs[len(item.prompt) - 1 : -1].gather(-1, row[0, len(item.prompt) :, None])[:, 0]
            (chosen * torch.tensor([next(weights) for _ in completion])).sum().backward()
    return {name: p.grad for name, p in own.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(("lora_rank", "train_router"), MODES)
@pytest.mark.parametrize("name", EACH)
def test_gradients_are_those_of_the_model_itself(
    name: str, lora_rank: int, train_router: bool, folder: Callable[[str], Path]
) -> None:
    policy = Policy(model=str(folder(name)), device="cpu", lora_rank=lora_rank, train_router=train_router)
    if lora_rank:  # an adapter starts as zero, and so does half of its gradient
        generator = torch.Generator().manual_seed(1)
        for parameter in policy.weights.trained().values():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    trained = router_names(policy.model) & policy.weights.trained().keys()
    assert bool(trained) == (train_router and not lora_rank)  # adapters never reach a router of these models
    items = random_items(3)
    weights_S = weights_of(items)
    expected = by_rows(policy.model, items, weights_S)
    for executor in ("split", "cache", "reference"):
        policy.model.zero_grad(set_to_none=True)
        found = make_executor(executor, policy.model, 1 << 12)
        found.score(items, 1.0, lambda scored: (scored.logprobs_S * weights_S[scored.index_S]).sum())
        scale = max(float(gradient.abs().max()) for gradient in expected.values() if gradient is not None)
        for key, parameter in policy.weights.trained().items():
            theirs = torch.zeros_like(parameter) if expected[key] is None else expected[key]
            ours = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            assert float((ours - theirs).abs().max()) < 1e-4 * scale, (executor, key)


@pytest.mark.parametrize("lora_rank", [0, 2])
@pytest.mark.parametrize("name", EACH)
def test_a_router_that_is_left_alone_comes_out_as_it_went_in(
    name: str, lora_rank: int, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    policy = Policy(model=str(folder(name)), device="cpu", lora_rank=lora_rank, train_router=False)
    assert policy.training_identity["train_router"] is False
    for seed in range(2):
        group = draw(policy, seed)
        assert drawn(group) == pytest.approx(scored(policy.model, policy, group), abs=2e-3)
        update(policy, group)
    policy.export(tmp_path / "export")
    if lora_rank:
        exported = PeftModel.from_pretrained(plain(folder(name)), tmp_path / "export").eval()
    else:
        exported = plain(tmp_path / "export")
        before, after = (load_file(place / "model.safetensors") for place in (folder(name), tmp_path / "export"))
        kept = {key for key in before if key.endswith((".gate.weight", ".router.weight"))}
        assert kept and all(torch.equal(before[key], after[key]) for key in kept)
        assert any(not torch.equal(before[key], after[key]) for key in before if "experts" in key)
    assert scored(exported, policy, group) == pytest.approx(scored(policy.model, policy, group), abs=1e-3)


def test_a_model_without_experts_has_no_router_to_leave_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train_router=False: no router is found in the model type 'llama'"):
        Policy(model=str(save_tiny_model(tmp_path / "tiny")), device="cpu", train_router=False)


def left_alone(dtype: torch.dtype, lora_rank: int) -> Weights:
    model = make_model("qwen3 moe", dtype)
    options: dict[str, Any] = {"lora_rank": lora_rank, "lora_alpha": 8, "frozen_layers": 0, "seed": 0}
    return Weights(model, trainable=True, train_router=False, **options)


def in_shards(crew: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    whole = left_alone(dtype, 0)
    ours, reference = (make_executor("split", model, 64) for model in (whole.model, whole.frozen_copy))
    weights = ShardedWeights(whole, ShardOptions(init_device_mesh("cpu", (crew.size,)), torch.device("cpu")))
    site = Site(crew, weights, ours, reference, {})
    batch = Batch.of(share_of(crew, make_examples(3)), OPTIONS)
    site.gradient(Objective(batch, OPTIONS, site._score_reference(batch, 1.0)))
    return {name: parameter.grad.full_tensor() for name, parameter in weights.trained().items()}


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one_beside_a_frozen_router() -> None:
    weights = left_alone(torch.float64, 0)
    batch = Batch.of(make_examples(3), OPTIONS)
    with weights.reference():
        reference_S = make_executor("split", weights.frozen_copy, 64).score(batch.items).logprobs_S
    Objective(batch, OPTIONS, reference_S).backward(make_executor("split", weights.model, 64))
    expected = {name: parameter.grad for name, parameter in weights.trained().items()}
    scale = max(float(gradient.abs().max()) for gradient in expected.values())
    for found in together(2, in_shards, torch.float64):
        assert found.keys() == expected.keys() and not any(".gate." in name for name in found)
        assert max(float((found[name] - expected[name]).abs().max()) for name in found) < 1e-6 * scale
