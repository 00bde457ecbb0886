"""The products of sampling on the CPU: the same numbers, bounded memory, and a record where they are rounded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pivotrl import InputError, Message, Trajectory, cut
from pivotrl.engine.executors import make_executor
from pivotrl.engine.items import Item
from pivotrl.engine.products import computing_by
from pivotrl.policies.hf import Policy
from pivotrl.protocols import TrainingGroup
from pivotrl.records import SampleGroup, Sampling
from pivotrl.training_options import TrainingOptions, update_options, with_policy_defaults
from test_sampling import FAMILIES, nested_prompts, sample
from tiny import save_tiny_model
from tiny_models import CACHE, make_model

TURNS = cut(
    [
        Trajectory(
            id="log",
            task_id="log",
            messages=(
                Message(role="user", content="one"),
                Message(role="assistant", content="two"),
                Message(role="user", content="three"),
                Message(role="assistant", content="four"),
            ),
        )
    ]
)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"), initializer_range=0.2)


def make_policy(folder: Path, products: Any, **options: Any) -> Policy:
    return Policy(model=str(folder), lora_rank=4, device="cpu", products=products, **options)


def gap(model: Any, drawn: Any, prompts: Any) -> float:
    """Largest difference between what samples carry and what plain rows give, in nats."""
    items = [Item(prompt, [each.token_ids_T for each in group]) for prompt, group in zip(prompts, drawn, strict=True)]
    with torch.no_grad():
        expected = make_executor("reference", model, 1 << 20).score(items).logprobs_S
    return (
        (torch.tensor([x for group in drawn for each in group for x in each.logprobs_T]) - expected).abs().max().item()
    )


@pytest.mark.parametrize("rows", [1, 3, 64, 65, 511, 512, 513, 1100])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_a_layer_computes_its_product_at_every_number_of_rows(rows: int, bias: bool) -> None:
    layer, hidden = torch.nn.Linear(48, 80, bias=bias), torch.randn(2, rows, 48)
    exact = torch.nn.functional.linear(hidden.double(), layer.weight.double(), layer.bias.double() if bias else None)
    for products, tolerance in (("packed", 1e-5), ("bfloat16", 3e-2)):
        with computing_by(products, _Bare(layer)):
            found = layer(hidden)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), exact, atol=tolerance, rtol=tolerance)


class _Bare(torch.nn.Module):
    """A model of one layer without an output layer."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def get_output_embeddings(self) -> None:
        return None


@pytest.mark.parametrize(
    ("family", "way"), [*((family, "split") for family in FAMILIES), *((family, "cache") for family in CACHE)]
)
def test_samples_of_packed_products_carry_the_probabilities_of_plain_rows(family: str, way: str) -> None:
    model, prompts = make_model(family), nested_prompts(1)
    with computing_by("packed", model):
        drawn = sample(model, prompts, way=way)
    assert gap(model, drawn, prompts) <= 1e-4
    with computing_by("bfloat16", model):
        rounded = sample(model, prompts, way=way)
    assert gap(model, rounded, prompts) > 1e-4  # the twin: rounding shows


def test_afterwards_the_model_computes_as_before_to_the_bit() -> None:
    model, prompts = make_model("llama"), nested_prompts(2)
    before = sample(model, prompts)
    with pytest.raises(KeyError), computing_by("packed", model):
        sample(model, prompts)
        raise KeyError
    assert sample(model, prompts) == before


def test_packed_weights_follow_the_trained_ones(folder: Path) -> None:
    """The copy is of the weights of the call, adapter included, and of the reference without it."""
    policies = [make_policy(folder, products) for products in ("plain", "packed")]
    for policy in policies:
        torch.manual_seed(5)
        with torch.no_grad():
            for parameter in policy.weights.trained().values():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    options = Sampling(max_tokens=16, seed=3)
    for actors in (policies, [policy.reference for policy in policies]):
        plain, packed = (list(actor.sample(TURNS, 4, options)) for actor in actors)
        assert texts(plain) == texts(packed)
    assert texts(list(policies[0].sample(TURNS, 4, options))) != texts(plain)  # the adapter counts


def texts(groups: list[SampleGroup]) -> list[str]:
    return [completion.text for group in groups for completion in group.completions_G]


def test_only_rounded_samples_have_another_identity(folder: Path) -> None:
    plain, packed, rounded = (make_policy(folder, products).identity for products in ("plain", "packed", "bfloat16"))
    assert plain == packed
    assert rounded == {**plain, "products": "bfloat16"}


def test_only_rounded_samples_are_off_and_weighed(folder: Path) -> None:
    def gap_and_cap(products: str, **given: Any) -> tuple[float, float | None]:
        policy = make_policy(folder, products)
        options = with_policy_defaults(TrainingOptions(**given), policy)
        groups = [
            TrainingGroup(turn, group.completions_G, [1.0, -0.5, 0.25, -0.75], group.prompt_sha256)
            for turn, group in zip(TURNS, policy.sample(TURNS, 4, Sampling(max_tokens=16, seed=3)), strict=True)
        ]
        metrics = policy.update(groups, 1e-3, update_options(options, "policy_gradient"))
        return metrics["policy/sampler_gap"], options.importance_cap

    rounded, cap = gap_and_cap("bfloat16")
    assert rounded > 1e-4 and cap == 2.0
    assert gap_and_cap("bfloat16", importance_cap=1.0)[1] == 1.0
    packed, cap = gap_and_cap("packed")  # the twin: without rounding, without weights
    assert packed < 1e-4 and cap is None


def test_packed_products_are_refused_for_other_dtypes(folder: Path) -> None:
    with pytest.raises(InputError, match="products='packed' needs float32 weights on a CPU"):
        make_policy(folder, "packed", dtype="bfloat16")
    assert make_policy(folder, "auto", dtype="bfloat16").generator.products == "plain"


def run(code: str, given: str = "", **environment: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", code],
        input=given,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    return finished.stdout.strip()


_CHOICE = """
import torch
from pivotrl.engine import products
model = torch.nn.Linear(8, 8)
model.device, model.dtype = torch.device("cpu"), torch.float32
print(products.resolve_products("auto", model))
"""


@pytest.mark.skipif(not torch.cpu._is_avx2_supported(), reason="MKL can be slowed down only on x86")
def test_auto_takes_packed_weights_where_the_own_products_are_slow() -> None:
    """MKL's most compatible code is as slow as MKL on a processor that it does not know."""
    assert run(_CHOICE, MKL_CBWR="COMPATIBLE") == "packed"


_GROWTH = """
import random, sys, torch
from pivotrl.engine import products
if sys.stdin.read() == "unpadded":
    products._SIZES = tuple(range(1, 513))
def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) // 1024
layer = products._Product(torch.nn.Linear(576, 192), torch.float32)
hidden, shapes = torch.randn(512, 576), random.Random(0).sample(range(1, 513), 250)
with torch.no_grad():
    layer(hidden)
    before = resident()
    for rows in shapes:
        layer(hidden[:rows])
print(resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads the memory of a process from /proc")
def test_many_shapes_keep_little_memory() -> None:
    padded, unpadded = (int(run(_GROWTH, name)) for name in ("padded", "unpadded"))
    assert padded <= 40  # MB
    assert unpadded > 2 * padded  # the twin: oneDNN keeps memory for every shape
