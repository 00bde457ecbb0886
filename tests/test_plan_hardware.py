"""Memory and time by formula: against transformers' own weights, counted tensors, and arithmetic by hand.

Run alone: python -m pytest tests/test_plan_hardware.py
"""

import dataclasses
import json
import math

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from live_memory import LiveMemory
from pivotrl.engine.learning import LocalLearner
from pivotrl.engine.memory import cached_bytes_per_token, kept_bytes_per_token
from pivotrl.engine.split_attention import NAME
from pivotrl.engine.weights import Weights
from pivotrl.options import InputError
from pivotrl.protocols import UpdateOptions
from pivotrl.protocols.tokens import Drawn, Example
from pivotrl.report.planning.hardware import GIB, HardwareOptions, Load, hardware_plan, here, training_memory
from pivotrl.report.planning.shapes import ModelShape, shape_of
from tiny import save_tiny_model

SHAPE = ModelShape("tiny", 4, 96, 6, 2, 16, 256, 512, False)


def model_of(dtype=torch.float32):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=SHAPE.vocabulary, hidden_size=SHAPE.width, num_attention_heads=SHAPE.heads,
        num_key_value_heads=SHAPE.key_heads, head_dim=SHAPE.head_size, intermediate_size=SHAPE.inner,
        num_hidden_layers=SHAPE.layers, max_position_embeddings=4096,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, attn_implementation=NAME, dtype=dtype).eval()


def weights_of(lora_rank, dtype=torch.float32):
    return Weights(model_of(dtype), trainable=True, lora_rank=lora_rank, lora_alpha=16, frozen_layers=0, seed=0)


# --- shapes -----------------------------------------------------------------------------------------------------------


def test_parameters_and_caches_are_those_of_the_model():
    assert SHAPE.parameters == sum(parameter.numel() for parameter in model_of().parameters())
    assert SHAPE.lora_parameters(8) == sum(parameter.numel() for parameter in weights_of(8).trained().values())
    assert SHAPE.cached_bytes(4) == cached_bytes_per_token(model_of())


@pytest.mark.parametrize(
    ("size", "billions"), [("0.5B", 0.494), ("8b", 8.03), ("7B", 7.62), ("14B", 14.77), ("32B", 32.76), ("70B", 70.55)]
)
def test_a_size_stands_for_a_model_of_that_size(size, billions):
    """What the models' own pages say, without the biases of Qwen2.5."""
    assert shape_of(size).parameters / 1e9 == pytest.approx(billions, rel=2e-3)


@pytest.mark.parametrize("size", [200e6, 300e6, 2e9, 20e9, 110e9, 400e9])
def test_other_sizes_get_the_layers_they_need(size):
    assert shape_of(f"{size / 1e6:.0f}M").parameters == pytest.approx(size, rel=0.1)
    assert shape_of(f"{size / 1e6:.0f}M").layers >= 1


def test_a_folder_gives_its_own_shape_and_an_odd_one_is_refused(tmp_path):
    folder = save_tiny_model(tmp_path / "tiny")
    shape = shape_of(str(folder))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    config = json.loads((folder / "config.json").read_text())
    for change in ({"num_experts": 8}, {"intermediate_size": None}, {"hidden_size": "wide"}):
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(InputError, match="does not describe a dense decoder"):
            shape_of(str(folder))
    for wrong in ("8C", "20M", "9999B"):
        with pytest.raises(InputError, match="--model-size"):
            shape_of(wrong)


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lora_rank", [0, 8])
def test_activations_are_those_that_the_model_keeps(dtype, lora_rank):
    size = dtype.itemsize
    counted = kept_bytes_per_token(weights_of(lora_rank, dtype).model)
    assert SHAPE.layers * SHAPE.kept_bytes(size, lora_rank) + 2 * size * SHAPE.width == pytest.approx(counted, rel=0.08)


def measured(lora_rank, prompt, completions, tokens):
    """Bytes of every tensor of an update at its peak: weights, reference, gradients, moments, activations."""
    weights = weights_of(lora_rank)
    learner = LocalLearner(weights, "split", 1 << 20, write=lambda *_, **__: None)
    ids = [(5 * i * i + i) % 500 + 3 for i in range(prompt)]
    drawn = [
        Drawn(token_ids_T=[(7 * g + i) % 500 + 3 for i in range(tokens)], logprobs_T=[-1.0] * tokens, stopped=False)
        for g in range(completions)
    ]
    advantages = [(-1.0) ** g for g in range(completions)]
    example = Example(ids, drawn, advantages, [1 / completions / tokens] * completions)
    held = [weights.model, *([weights.frozen_copy] if weights.frozen_copy else [])]
    given = sum(parameter.nbytes for model in held for parameter in model.parameters())
    with LiveMemory() as memory:
        for _ in range(2):  # the second update begins with moments in memory
            learner.update([example], 1e-4, UpdateOptions())
    return given + memory.peak


@pytest.mark.parametrize("lora_rank", [0, 8])
@pytest.mark.parametrize("sizes", [(300, 8, 20), (40, 2, 4), (500, 32, 40)])
def test_training_memory_is_within_15_percent_of_what_is_measured(lora_rank, sizes):
    prompt, completions, tokens = sizes
    update_tokens = prompt + completions * tokens
    told = here(SHAPE, lora_rank=lora_rank, is_half=False, update_tokens=update_tokens, machine_bytes=1e12).total
    assert told == pytest.approx(measured(lora_rank, *sizes), rel=0.15)


def test_what_is_chunked_is_not_kept_at_once():
    small, large = (
        here(SHAPE, lora_rank=8, is_half=False, update_tokens=1e7, machine_bytes=size) for size in (4e8, 4e9)
    )
    assert small.activations <= 1e8 < large.activations <= 1e9


def test_an_8b_model_by_hand():
    shape, options = shape_of("8B"), HardwareOptions(gpus=8)
    whole = training_memory(shape, options, is_adapter=False, shards=1)
    assert (whole.weights, whole.reference, whole.states) == pytest.approx((16.06e9, 16.06e9, 128.5e9), rel=1e-3)
    split = training_memory(shape, options, is_adapter=False, shards=8)
    assert split.states == whole.states / 8 and split.activations == whole.activations
    assert whole.total > 80 * GIB > split.total
    kept = dataclasses.replace(options, checkpointing=False)
    assert training_memory(shape, kept, is_adapter=True, shards=1).activations > 20 * whole.activations / 2


# --- time -------------------------------------------------------------------------------------------------------------

LOAD = Load(1_000, 8, 2_000, 100, 10, 32, 8)


def works(**changes):
    plan = hardware_plan(shape_of("8B"), HardwareOptions(**changes), LOAD)
    return {work.name: work for work in plan.works}, plan


def test_time_by_operations_and_bandwidth_by_hand():
    found, plan = works()
    prompts = found["profile: prompts"]
    assert prompts.tokens == 2e6
    # 2 operations a parameter of the layers (6.98 B), and 4 L H D a pair of tokens
    assert prompts.seconds == pytest.approx(2e6 * (2 * 6.98e9 + 4 * 32 * 4096 * 1000) / (989e12 * 0.5), rel=5e-3)
    actions = found["profile: actions"]
    moved = 2 * 8.03e9 / plan.rows + 2 * 2 * 32 * 1024 * 2050
    assert actions.tokens == 8e5
    assert actions.seconds == pytest.approx(8e5 * moved / (3350e9 * 0.5), rel=5e-3)
    shared, plain = found["updates, LoRA, prompts shared"], found["updates, LoRA, plain rows"]
    assert (shared.tokens, plain.tokens) == (320 * (2_000 + 800), 320 * 8 * 2_100)
    assert plain.seconds / shared.seconds == pytest.approx(plain.tokens / shared.tokens, rel=0.1)


def test_more_gpus_and_better_ones_take_less_time():
    one, many, fast = (works(**changes)[0] for changes in ({}, {"gpus": 8}, {"gpu_tflops": 1978.0}))
    for name, work in one.items():
        assert many[name].seconds == pytest.approx(work.seconds / 8, rel=0.01)
        assert fast[name].seconds <= work.seconds
    assert fast["training: prompts"].seconds == pytest.approx(one["training: prompts"].seconds / 2)


def test_weights_that_do_not_fit_one_gpu_are_sampled_from_several():
    plan = hardware_plan(shape_of("70B"), HardwareOptions(gpus=8), LOAD)
    assert plan.gpus_per_replica == 4 and plan.rows > 1
    assert 2 * plan.shape.parameters / 4 + plan.cache <= 80 * GIB
    assert math.isfinite(sum(work.seconds for work in plan.works))
