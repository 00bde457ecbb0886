"""Make the micro model: its tokenizer and its weights, from seeded text (minutes on one core).

    python recipes/evidence/micro/pretrain.py

It writes `recipes/evidence/micro/model`, a plain folder for transformers; `measure.py` says how it does. The loss is on
the answers alone.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parent))
import population

MODEL = Path(__file__).parent / "model"
SPECIAL = ["<|end|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VOCABULARY = 500
RATE = 1e-3
BATCH_TOKENS = 1500
"""Of one step, padding included."""
TOGETHER = 1500
"""So many texts are drawn at once and sorted by length."""

Row = tuple[list[int], list[int]]
"""Token ids of (prompt, answer)"""
Batch = tuple[torch.Tensor, torch.Tensor]


def make_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sample = itertools.islice(population.texts(seed), 4_000)
    whole = (f"user\n{text.prompt}\nassistant\n{text.answer}" for pair in sample for text in pair.values())
    tokenizer.train_from_iterator(whole, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",  # noqa: S106
        pad_token="<|end|>",  # noqa: S106
        chat_template=TEMPLATE,
    )


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.06,  # the usual 0.02 is for wider models; from it this one starts to copy much later
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


class Phase(NamedTuple):
    num_steps: int
    shares: dict[str, float]
    """Of each kind of text, see `population.texts`."""
    last_rate: float
    """Where the learning rate ends, as a share; it falls in a straight line."""


PHASES = (
    Phase(600, {"copying": 1.0}, 1.2),
    Phase(4000, {"question": 0.45, "best": 0.55}, 0.6),
    Phase(800, {"question": 0.3, "errands": 0.7}, 0.02),
)
"""Copying comes first, as all the rest needs it. Then the model learns the game from clean moves, which takes a
fraction of the steps that it takes from the population; the population comes last and decides how the model plays."""


def batches(tokenizer: PreTrainedTokenizerFast, seed: int, phase: Phase) -> Iterator[Batch]:
    """(token ids, labels), each [B, T]; labels are -100 outside the answers. Texts of like length are together."""
    start, middle, end = (
        tokenizer(part, add_special_tokens=False).input_ids
        for part in ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>")
    )
    found, generator, num_made = population.texts(seed), random.Random(seed), 0  # noqa: S311
    while num_made < phase.num_steps:
        drawn = itertools.islice(found, TOGETHER)
        several = [texts[generator.choices(list(phase.shares), phase.shares.values())[0]] for texts in drawn]
        prompts = tokenizer([text.prompt for text in several], add_special_tokens=False).input_ids
        answers = tokenizer([text.answer for text in several], add_special_tokens=False).input_ids
        rows = [
            (prompt, answer + end) if text.plain else (start + prompt + middle, answer + end)
            for text, prompt, answer in zip(several, prompts, answers, strict=True)
        ]
        rows.sort(key=lambda row: len(row[0]) + len(row[1]))
        made: list[list[Row]] = [[]]
        for row in rows:
            if (len(made[-1]) + 1) * (len(row[0]) + len(row[1])) > BATCH_TOKENS:
                made.append([])
            made[-1].append(row)
        generator.shuffle(made)
        num_made += len(made)
        yield from (_padded(batch, tokenizer.pad_token_id) for batch in made)


def _padded(rows: list[Row], pad: int) -> Batch:
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids_BT = torch.full((len(rows), width), pad)
    labels_BT = torch.full((len(rows), width), -100)
    for number, (prompt, answer) in enumerate(rows):
        size = len(prompt) + len(answer)
        ids_BT[number, :size] = torch.tensor(prompt + answer)
        labels_BT[number, len(prompt) : size] = torch.tensor(answer)
    return ids_BT, labels_BT


def make_optimizer(model: LlamaForCausalLM) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    optimizer: torch.optim.Optimizer,
    seed: int,
    phase: Phase,
    rate: float,
) -> float:
    """The rate at the end."""
    last = RATE * phase.last_rate
    began, losses = time.process_time(), list[float]()
    found = itertools.islice(batches(tokenizer, seed, phase), phase.num_steps)
    for step, (ids_BT, labels_BT) in enumerate(found):
        for group in optimizer.param_groups:
            group["lr"] = rate + (last - rate) * step / phase.num_steps
        loss = model(input_ids=ids_BT, labels=labels_BT).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if len(losses) == 100:
            print(f"step {step + 1}: loss {sum(losses) / 100:.3f}, {time.process_time() - began:.0f} s", flush=True)
            losses.clear()
    return last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=MODEL)
    parser.add_argument("--last-phase-from", type=Path, help="a model after the first phases")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.last_phase_from:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(arguments.last_phase_from)
        model = LlamaForCausalLM.from_pretrained(arguments.last_phase_from)
    else:
        tokenizer = make_tokenizer(arguments.seed)
        model = make_model(tokenizer, arguments.seed)
        optimizer, rate = make_optimizer(model), 0.1 * RATE
        for number, phase in enumerate(PHASES[:-1]):
            rate = train(model, tokenizer, optimizer, arguments.seed + number, phase, rate)
        model.save_pretrained(arguments.out.with_name(f"{arguments.out.name}_before"))
        tokenizer.save_pretrained(arguments.out.with_name(f"{arguments.out.name}_before"))
    train(model, tokenizer, make_optimizer(model), arguments.seed + len(PHASES) - 1, PHASES[-1], 0.6 * RATE)
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    print(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters in {arguments.out}")


if __name__ == "__main__":
    main()
