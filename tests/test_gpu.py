"""The same code on CUDA: run by `make test-gpu` where there is a GPU, deselected (and counted) elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pivotrl import cut, train
from pivotrl.engine.executors import make_executor
from pivotrl.engine.items import Item
from pivotrl.engine.sampling import draw
from pivotrl.policies.hf import Policy
from pivotrl.protocols import TrainingGroup, UpdateOptions
from pivotrl.records import Sampling
from test_training import SMALL, even_length, logs
from tiny import save_tiny_model
from tiny_models import SPLIT, make_model, random_items, weights_of

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def gradients(model, executor_name: str, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """(log-probabilities, gradients), on the CPU in fp32."""
    items = random_items(seed)
    weights_S = weights_of(items).to(model.device)
    model.zero_grad(set_to_none=True)
    scored = make_executor(executor_name, model, 40).score(
        items, loss=lambda part: (weights_S[part.index_S] * part.logprobs_S).sum()
    )
    found = {name: p.grad.float().cpu() for name, p in model.named_parameters() if p.grad is not None}
    return scored.logprobs_S.float().cpu(), found


def error(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    off = sum(float((found[name] - gradient).pow(2).sum()) for name, gradient in expected.items())
    return (off / sum(float(gradient.pow(2).sum()) for gradient in expected.values())) ** 0.5


@pytest.mark.parametrize("family", SPLIT)
def test_split_on_cuda_has_the_gradient_of_rows(family: str) -> None:
    """fp32 goes through the written-out kernel, bf16 through flash attention: no further off than naive bf16."""
    exact = make_model(family)
    for seed in range(4):
        logprobs_S, expected = gradients(exact, "reference", seed)
        single = make_model(family).cuda()
        torch.testing.assert_close(gradients(single, "split", seed)[0], logprobs_S, rtol=0.0, atol=1e-3)
        assert error(gradients(single, "split", seed)[1], expected) < 1e-3
    errors = {"reference": 0.0, "split": 0.0}
    half = make_model(family, torch.bfloat16).cuda()
    for seed in range(10, 18):
        _, expected = gradients(exact, "reference", seed)
        for name in errors:
            errors[name] += error(gradients(half, name, seed)[1], expected)
    assert errors["split"] < 1.2 * errors["reference"]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_sampler_on_cuda_reports_its_own_probabilities(family: str, dtype: torch.dtype) -> None:
    network = make_model(family, dtype).cuda()
    prompts = [list(range(3, 3 + length)) for length in (30, 12, 13, 1)]
    with torch.no_grad():
        drawn = draw(network, prompts, [f"t{i}" for i in range(4)], 8, Sampling(max_tokens=40), frozenset({2}))
    items = [Item(prompt, [one.token_ids_T for one in group]) for prompt, group in zip(prompts, drawn, strict=True)]
    expected = make_executor("reference", network).score(items).logprobs_S.float().cpu()
    sampled = torch.tensor([logprob for group in drawn for one in group for logprob in one.logprobs_T])
    assert (sampled - expected).abs().mean() < (1e-3 if dtype == torch.float32 else 0.05)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("tiny")))


def test_cuda_samples_and_gradients_are_those_of_the_cpu(model: str) -> None:
    turns, _ = cut(logs())
    norms = {}
    drawn = {}
    for device in ("cpu", "cuda"):
        policy = Policy(model=model, lora_rank=0, dtype="float32", device=device)
        groups = list(policy.sample(turns, 4, Sampling(max_tokens=12)))
        drawn[device] = [c.token_ids_T for g in groups for c in g.completions_G]
        batch = [TrainingGroup(t, g.completions_G, [1.0, -1.0, 1.0, -1.0]) for t, g in zip(turns, groups, strict=True)]
        norms[device] = policy.update(batch, 1e-3, UpdateOptions())["gradient/norm"]
    same = sum(a == b for a, b in zip(drawn["cpu"], drawn["cuda"], strict=True))
    assert same >= len(drawn["cpu"]) - 1  # rounding may tip one token in a rare case
    assert norms["cuda"] == pytest.approx(norms["cpu"], rel=0.05)


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_training_runs_in_bf16_and_resumes(model: str, tmp_path: Path, lora_rank: int) -> None:
    policy = Policy(model=model, lora_rank=lora_rank, device="cuda")
    assert policy.model.dtype == torch.bfloat16
    rows = train(policy, cut(logs())[0], even_length, tmp_path, SMALL)
    assert len(rows) == SMALL.num_steps
    again = Policy(model=model, lora_rank=lora_rank, device="cuda")
    assert train(again, cut(logs())[0], even_length, tmp_path, SMALL) == rows
