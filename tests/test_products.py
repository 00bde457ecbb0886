"""Products through oneDNN: those of PyTorch, forward and backward, whatever the layout."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model

from pivotrl.engine import products
from pivotrl.engine.executors import make_executor
from pivotrl.engine.sampling import draw
from pivotrl.policies.hf import Policy
from pivotrl.records import Sampling
from tiny import save_tiny_model
from tiny_models import SPLIT, make_model, random_items, weights_of

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this PyTorch has no oneDNN products"
)


def both(x, weight, bias, asked):
    """(output, gradients of those asked for) of PyTorch's product and of ours."""
    results = []
    for product in (torch.nn.functional.linear, products.linear):
        pairs = zip((x, weight, bias), asked, strict=True)
        leaves = [None if t is None else t.detach().clone().requires_grad_(bool(asks)) for t, asks in pairs]
        output = product(*leaves)
        if any(asked):
            (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
        results.append([output.detach(), *(leaf.grad for leaf in leaves if leaf is not None)])
    return results


@pytest.mark.parametrize("asked", [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 0)])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (1, 1), (2, 3, 7), (0, 4)])
def test_outputs_and_gradients_are_those_of_pytorch(shape, with_bias, asked):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, 33, generator=generator)
    weight, bias = torch.randn(17, 33, generator=generator), torch.randn(17, generator=generator) if with_bias else None
    for expected, found in zip(*both(x, weight, bias, asked), strict=True):
        assert (expected is None) == (found is None)
        if expected is not None:
            assert found.shape == expected.shape and found.dtype == expected.dtype
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_any_layout_will_do():
    x, weight = torch.randn(4, 33, 9).transpose(1, 2), torch.randn(33, 17).t()
    torch.testing.assert_close(products.linear(x, weight), torch.nn.functional.linear(x, weight), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_left_to_pytorch(dtype):
    x, weight = torch.randn(3, 8, dtype=dtype), torch.randn(5, 8, dtype=dtype)
    assert torch.equal(products.linear(x, weight), torch.nn.functional.linear(x, weight))


def test_a_frozen_weight_keeps_no_input():
    x, weight = torch.randn(3, 8, requires_grad=True), torch.randn(5, 8)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t.detach(), lambda t: t):
        products.linear(x, weight)
    assert kept == [weight.shape]


@pytest.mark.parametrize("family", SPLIT)
def test_a_whole_model_gives_the_same_gradients_and_samples(family):
    stock = make_model(family)
    faster = copy.deepcopy(stock)
    products.use_faster(faster)
    assert list(faster.state_dict()) == list(stock.state_dict())
    assert any(isinstance(module, products.Linear) for module in faster.modules())
    items = random_items(0)
    found = []
    for model in (stock, faster):
        weights_S = weights_of(items)
        scored = make_executor("split", model, 4096).score(
            items, loss=lambda part, w=weights_S: (w[part.index_S] * part.logprobs_S).sum()
        )
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        drawn = draw(model, [[3, 4, 5]], ["t"], 4, Sampling(max_tokens=9), frozenset({2}))
        found.append((scored.logprobs_S, gradient, [one.token_ids_T for one in drawn[0]]))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=0.0, atol=1e-4)
    assert (found[1][1] - found[0][1]).norm() < 1e-4 * found[0][1].norm()
    assert found[1][2] == found[0][2]


def test_adapters_and_their_folding_work_on_them():
    model = make_model("llama")
    products.use_faster(model)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    items = random_items(1)
    make_executor("split", adapted, 4096).score(items, loss=lambda part: part.logprobs_S.sum())
    assert all((p.grad is not None) == p.requires_grad for p in adapted.parameters())
    assert type(adapted.base_model.model.model.layers[0].self_attn.q_proj.base_layer) is products.Linear


def test_a_policy_takes_them_where_they_are_faster(tmp_path, monkeypatch):
    folder = str(save_tiny_model(tmp_path))
    for faster in (True, False):
        monkeypatch.setattr(products, "are_faster", lambda f=faster: f)
        policy = Policy(model=folder, lora_rank=0)
        assert any(isinstance(module, products.Linear) for module in policy.model.modules()) == faster


@pytest.mark.parametrize(
    ("vendor", "capability", "faster"),
    [
        ("AuthenticAMD", "AVX512", True),
        ("GenuineIntel", "AVX512", False),  # MKL takes AVX-512 there
        ("AuthenticAMD", "AVX2", False),
        (None, "AVX512", False),  # not Linux
    ],
)
def test_they_are_taken_for_avx512_without_intels_name(monkeypatch, vendor, capability, faster):
    def read_text(self):
        if vendor is None:
            raise FileNotFoundError(self)
        return f"vendor_id\t: {vendor}\n"

    monkeypatch.setattr("pathlib.Path.read_text", read_text)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    products.are_faster.cache_clear()
    assert products.are_faster() == faster
    products.are_faster.cache_clear()
