"""The same code on CUDA: run by `make test-gpu` where there is a GPU, deselected (and counted) elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pivotrl import cut, train
from pivotrl.policies.hf import Policy
from pivotrl.protocols import TrainingGroup, UpdateOptions
from pivotrl.records import Sampling
from test_training import SMALL, even_length, logs
from tiny import save_tiny_model

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


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
