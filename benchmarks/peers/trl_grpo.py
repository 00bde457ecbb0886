"""TRL's GRPOTrainer: its own loss, log-probability path and padding, with the same completions and advantages.

The trainer pads all prompts of a batch on the left to the longest one, as its own batches are, and then cuts
micro-batches. Without Triton its LM head projects every position, on the CPU therefore the prompts too.
"""

from __future__ import annotations

import importlib
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from measuring import NotAvailable
from models import twin
from peers.common import CLIP, Advantages, Step, batches, total_scored
from pivotrl.engine.items import Item

MICRO_BATCHES = (1, 2, 4, 8)


def make_trainer(
    model: Any,
    tokenizer: Any,
    rows: Sequence[dict[str, Any]],
    group_size: int,
    num_tokens: int,
    batch_size: int,
    micro_batch: int,
    reward: Any,
) -> Any:
    """A trainer that takes prompts as token ids and samples completions of a fixed length.

    Args:
        rows: one {"prompt": token ids} per prompt.
        batch_size: completions of a whole step.

    Raises:
        NotAvailable: TRL or datasets is missing.
    """
    try:
        trl, datasets = importlib.import_module("trl"), importlib.import_module("datasets")
    except ImportError as error:
        raise NotAvailable(f"not installed: {error.name}") from error

    class IdTrainer(trl.GRPOTrainer):  # type: ignore[misc, name-defined]
        """The prompts are token ids already; everything else is the trainer's."""

        def _tokenize_prompts(self, prompts: list[Any]) -> tuple[Any, None, dict[str, Any]]:
            return prompts, None, {}

    settings = trl.GRPOConfig(
        output_dir=str(Path(tempfile.gettempdir()) / "bench-trl"),  # nothing is written there
        report_to=[],
        use_cpu=model.device.type == "cpu",
        bf16=False,  # the weights have the type that is to be measured
        fp16=False,
        activation_checkpointing=False,
        per_device_train_batch_size=micro_batch,
        steps_per_generation=max(batch_size // micro_batch, 1),
        gradient_accumulation_steps=max(batch_size // micro_batch, 1),
        num_generations=group_size,
        max_completion_length=num_tokens,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        generation_kwargs={"min_new_tokens": num_tokens},
        loss_type="dapo",  # the mean over all tokens of the step
        epsilon=CLIP,
        beta=0.0,
        scale_rewards="group",
        learning_rate=0.0,
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = IdTrainer(
            model=twin(model),
            reward_funcs=reward,
            args=settings,
            train_dataset=datasets.Dataset.from_list(list(rows)),
            processing_class=tokenizer,
        )
    trainer.model.train()
    return trainer


def prepare(model: Any, tokenizer: Any, micro_batch: int) -> Step:
    """``micro_batch``: rows per forward and backward."""
    rows = [{"prompt": [3]}] * micro_batch
    group_size = max(micro_batch, 2)
    trainer = make_trainer(model, tokenizer, rows, group_size, 1, group_size, group_size, lambda **_: [0.0])
    trainer.current_gradient_accumulation_steps = 1
    trainer.args.steps_per_generation = 1

    def step(items: Sequence[Item], advantages: Advantages) -> float:
        batch = _padded(items, advantages, tokenizer.pad_token_id, model.device)
        num_items, total = torch.tensor(total_scored(items), device=model.device), 0.0
        for indices in batches(range(len(batch["advantages"])), micro_batch):
            part = {key: tensor[indices.start : indices.stop] for key, tensor in batch.items()}
            loss = trainer._compute_loss(trainer.model, part | {"num_items_in_batch": num_items})
            trainer.accelerator.backward(loss)
            total += loss.item()
        trainer._metrics["train"].clear()
        return total

    return step


def _padded(items: Sequence[Item], advantages: Advantages, pad: int, device: torch.device) -> dict[str, torch.Tensor]:
    rows = [(item.prompt, completion) for item in items for completion in item.completions]
    longest_prompt = max(len(prompt) for prompt, _ in rows)
    longest_completion = max(len(completion) for _, completion in rows)
    prompts = torch.full((len(rows), longest_prompt), pad)
    completions = torch.full((len(rows), longest_completion), pad)
    prompt_mask, completion_mask = torch.zeros_like(prompts), torch.zeros_like(completions)
    for i, (prompt, completion) in enumerate(rows):
        prompts[i, longest_prompt - len(prompt) :] = torch.tensor(prompt)
        prompt_mask[i, longest_prompt - len(prompt) :] = 1
        completions[i, : len(completion)] = torch.tensor(completion)
        completion_mask[i, : len(completion)] = 1
    batch = {
        "prompt_ids": prompts,
        "prompt_mask": prompt_mask,
        "completion_ids": completions,
        "completion_mask": completion_mask,
        "advantages": torch.tensor([value for values in advantages for value in values]),
    }
    return {key: tensor.to(device) for key, tensor in batch.items()}
