"""Our loss and gradient against TRL's GRPOTrainer, over random batches through a real (tiny) network."""

from __future__ import annotations

import random
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from pivotrl.engine.executors.split import SplitExecutor
from pivotrl.engine.items import Item
from pivotrl.engine.objective import Batch, Objective
from pivotrl.protocols import UpdateOptions
from pivotrl.protocols.tokens import token_weights
from tiny import save_tiny_model

trl = pytest.importorskip("trl", reason="TRL is not installed")
datasets = pytest.importorskip("datasets", reason="datasets is not installed")

CLIP_LOW, CLIP_HIGH, KL = 0.2, 0.28, 0.3
VOCABULARY = 250


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def make_trainer(folder: Path, output: Path, loss_type: str) -> Any:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings = trl.GRPOConfig(
        output_dir=str(output),
        report_to=[],
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=2,
        num_generations=2,
        loss_type=loss_type,
        beta=KL,
        epsilon=CLIP_LOW,
        epsilon_high=CLIP_HIGH,
        temperature=1.0,
        use_bias_correction_kl=False,  # by default TRL multiplies the KL term by the importance ratio
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = trl.GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder).double(),
            reward_funcs=lambda **_: [0.0],
            args=settings,
            train_dataset=datasets.Dataset.from_list([{"prompt": "a"}, {"prompt": "b"}]),
            processing_class=AutoTokenizer.from_pretrained(folder),
        )
    trainer.model.eval()  # one batch is one step
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def random_case(generator: random.Random) -> list[Item]:
    def tokens(length: int) -> list[int]:
        return [generator.randrange(3, VOCABULARY) for _ in range(length)]

    trunk = tokens(12)
    return [
        Item(
            trunk[: generator.randint(1, 12)], [tokens(generator.randint(1, 6)) for _ in range(generator.randint(1, 3))]
        )
        for _ in range(generator.randint(1, 3))
    ]


def padded(items: list[Item], per_token: dict[str, torch.Tensor], advantages: list[float]) -> dict[str, torch.Tensor]:
    """As TRL holds a batch: prompts padded on the left, completions on the right, where NaN must not matter."""
    rows = [(item.prompt, completion) for item in items for completion in item.completions]
    width, length = max(len(p) for p, _ in rows), max(len(c) for _, c in rows)
    batch = {name: torch.zeros(len(rows), width, dtype=torch.long) for name in ("prompt_ids", "prompt_mask")}
    batch |= {name: torch.zeros(len(rows), length, dtype=torch.long) for name in ("completion_ids", "completion_mask")}
    batch |= {name: torch.zeros(len(rows), length, dtype=torch.float64) for name in per_token}
    place = 0
    for row, (prompt, completion) in enumerate(rows):
        batch["prompt_ids"][row, width - len(prompt) :] = torch.tensor(prompt)
        batch["prompt_mask"][row, width - len(prompt) :] = 1
        batch["completion_ids"][row, : len(completion)] = torch.tensor(completion)
        batch["completion_mask"][row, : len(completion)] = 1
        for name, values_S in per_token.items():
            batch[name][row, : len(completion)] = values_S[place : place + len(completion)]
        place += len(completion)
    return {**batch, "advantages": torch.tensor(advantages, dtype=torch.float64)}


@pytest.mark.parametrize(("loss_type", "level"), [("grpo", "sequence"), ("bnpo", "token")])
def test_150_random_batches_have_trls_loss_and_gradient(
    folder: Path, tmp_path: Path, loss_type: str, level: str
) -> None:
    trainer = make_trainer(folder, tmp_path, loss_type)
    from transformers import AutoModelForCausalLM

    from pivotrl.engine.split_attention import NAME

    ours = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=NAME).double().eval()
    executor = SplitExecutor(ours, max_tokens=30)
    generator = random.Random(loss_type)
    options = UpdateOptions(clip_low=CLIP_LOW, clip_high=CLIP_HIGH, kl_coefficient=KL, loss_level=level)  # type: ignore[arg-type]
    num_clipped = 0.0
    for _ in range(150):
        items = random_case(generator)
        lengths = [len(completion) for item in items for completion in item.completions]
        advantages = [generator.choice([0.0, generator.gauss(0.0, 1.5)]) for _ in lengths]
        with torch.no_grad():
            now_S = executor.score(items).logprobs_S
        noise = [generator.gauss(0.0, generator.choice([0.01, 0.3])) for _ in range(2 * len(now_S))]
        old_S, reference_S = now_S + torch.tensor(noise[::2]), now_S + torch.tensor(noise[1::2])

        trainer.model.zero_grad(set_to_none=True)
        inputs = padded(items, {"old_per_token_logps": old_S, "ref_per_token_logps": reference_S}, advantages)
        expected = trainer._compute_loss(trainer.model, inputs)
        expected.backward()

        repeats = torch.tensor(lengths)
        batch = Batch(
            items,
            torch.tensor(advantages, dtype=torch.float64).repeat_interleave(repeats),
            torch.tensor(token_weights(lengths, options.loss_level), dtype=torch.float64).repeat_interleave(repeats),
            now_S,
        )
        objective = Objective(batch, options, reference_S)
        objective._old_S = old_S
        ours.zero_grad(set_to_none=True)
        metrics = objective.backward(executor)
        num_clipped += metrics["ratio/clipped_fraction"] > 0
        assert metrics["loss/total"] == pytest.approx(expected.item(), rel=1e-6, abs=1e-6)
        theirs = {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}
        scale = max(gradient.abs().max() for gradient in theirs.values())
        for name, parameter in ours.named_parameters():
            # Norms, rotations and TRL's log-softmax are single precision whatever the model is.
            assert (parameter.grad - theirs[name]).abs().max() <= max(1e-5 * scale, 1e-6), name
    assert num_clipped > 30
