"""Memory and time by formula: against transformers' own weights, counted tensors, and arithmetic by hand.

Run alone: python -m pytest tests/test_plan_hardware.py
"""

import dataclasses
import json
import math
import sys
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from architectures import ARCHITECTURES
from live_memory import LiveMemory
from pivotrl.engine.anatomy import anatomy_of_config
from pivotrl.engine.learning import LocalLearner
from pivotrl.engine.memory import cached_bytes_per_token, kept_bytes_per_token
from pivotrl.engine.split_attention import NAME
from pivotrl.engine.weights import Weights
from pivotrl.options import InputError
from pivotrl.protocols import UpdateOptions
from pivotrl.protocols.tokens import Drawn, Example
from pivotrl.report.planning.hardware import HardwareOptions, Load, hardware_plan, here, sharded_memory
from pivotrl.report.planning.processes import GIB, Batch, Device, Way, fewest, process_memory, ways_of
from pivotrl.report.planning.shapes import dense, shape_of, shape_of_model
from tiny import save_tiny_model

SHAPE = dense("tiny", 4, 96, 6, 2, 16, 256, 512, False)


def model_of(dtype=torch.float32):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=SHAPE.vocabulary, hidden_size=SHAPE.width, num_attention_heads=6,
        num_key_value_heads=2, head_dim=16, intermediate_size=256,
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
    counted = dataclasses.asdict(anatomy_of_config(Path("/"), model_of().config, "tiny"))
    norms = SHAPE.parameters - SHAPE.layers * SHAPE.layer_parameters
    assert counted.pop("active_layers") - SHAPE.active_layers == 2 * SHAPE.width * SHAPE.layers and norms > 0
    assert {name: getattr(SHAPE, name) for name in counted if name != "context"} == {
        name: number for name, number in counted.items() if name != "context"
    }


COUNTED = ("llama", "qwen2", "qwen3", "gemma3_text", "gpt2", "falcon", "qwen3_moe", "mixtral", "deepseek_v3", "gpt_oss")


@pytest.mark.parametrize("name", COUNTED)
def test_parameters_are_those_that_transformers_makes(name):
    """Of the whole model, of full fine-tuning and of an adapter, against those that are really made."""
    each = ARCHITECTURES[name]
    config = getattr(transformers, each.config)(vocab_size=259, **each.options)
    counted = anatomy_of_config(Path("/"), config, name)
    made = AutoModelForCausalLM.from_config(config)
    assert counted.parameters == sum(parameter.numel() for parameter in made.parameters())
    for rank in (0, 2):
        weights = Weights(made, trainable=True, lora_rank=rank, lora_alpha=4, frozen_layers=0, seed=0)
        trained = sum(parameter.numel() for parameter in weights.trained().values())
        assert trained == (rank * counted.adapter_width if rank else counted.trained)
        if rank:
            with weights.folded():
                pass
            assert counted.adapted == sum(weight.numel() for weight in weights._folded._frozen)
        made = AutoModelForCausalLM.from_config(config)
    assert (counted.active < counted.parameters) == (counted.chosen_experts > 0) == ("LoRA does" in each.note)


def test_a_large_mixture_of_experts_is_counted_as_its_page_says():
    """Qwen3-30B-A3B: 30.5 B parameters, 3.3 B of them active."""
    config = transformers.Qwen3MoeConfig(
        hidden_size=2048, intermediate_size=6144, num_hidden_layers=48, num_attention_heads=32, num_key_value_heads=4,
        head_dim=128, num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768, vocab_size=151_936,
    )  # fmt: skip
    found = anatomy_of_config(Path("/"), config, "a")
    assert (found.parameters, found.active) == pytest.approx((30.5e9, 3.35e9), rel=2e-3)


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
    for file in folder.iterdir():  # config.json suffices
        if file.name != "config.json":
            file.unlink()
    assert shape_of(str(folder)) == shape
    config = json.loads((folder / "config.json").read_text())
    for change, told in (
        ({"model_type": "t5", "is_encoder_decoder": True}, "encoder-decoder"),
        ({"hidden_size": "wide"}, "config.json is not valid"),
        ({"model_type": "unheard_of"}, "does not know the model type"),
    ):
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(InputError, match=told):
            shape_of_model(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"no config\.json"):
        shape_of_model(str(folder))
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
    with weights.folded():  # the copy is made for the first sample
        pass
    given += sum(weight.nbytes for weight in weights._folded._frozen) if lora_rank else 0
    with LiveMemory() as memory:
        for _ in range(2):  # the second update begins with moments in memory
            learner.update([example], 1e-4, UpdateOptions())
    return given + memory.peak


@pytest.mark.parametrize("lora_rank", [0, 8])
@pytest.mark.parametrize("sizes", [(300, 8, 20), (40, 2, 4), (500, 32, 40)])
def test_training_memory_is_within_15_percent_of_what_is_measured(lora_rank, sizes):
    prompt, completions, tokens = sizes
    batch = Batch(prompt, tokens, completions, 1)
    told = here(SHAPE, lora_rank=lora_rank, is_half=False, batch=batch, machine_bytes=1e12).learning
    assert told == pytest.approx(measured(lora_rank, *sizes), rel=0.15)


def test_what_is_chunked_is_not_kept_at_once():
    batch = Batch(1_000, 10, 8, 10_000)
    small, large = (here(SHAPE, lora_rank=8, is_half=False, batch=batch, machine_bytes=size) for size in (4e8, 4e9))
    assert small.activations <= 1e8 < large.activations <= 1e9


def test_an_8b_model_by_hand():
    """docs/scale.md, "Memory": in bf16 with shards in fp32, on eight GPUs."""
    shape, batch, device = shape_of("8B"), Batch(4_000, 200, 16, 64, 8192), Device(80 * GIB)
    ways = {way.name: way for way in ways_of(16, 2.0)}
    mixed = process_memory(shape, ways["all, mixed"], 8, batch, device)
    size = 8.03e9
    assert mixed.weights == pytest.approx(4 * size / 8 + 2 * size, rel=1e-3)
    assert (mixed.reference, mixed.gradients, mixed.moments) == pytest.approx((size / 2, 4 * size, size), rel=1e-3)
    away = process_memory(shape, ways["all, mixed, offload"], 8, batch, device)
    assert (away.weights, away.reference, away.moments) == pytest.approx((2 * size, 0, 0), rel=1e-3)
    alone = process_memory(shape, ways["all"], 1, batch, device)
    assert (alone.weights, alone.reference, alone.gradients, alone.moments) == pytest.approx(
        (2 * size, 2 * size, 2 * size, 4 * size), rel=1e-3
    )
    assert fewest(shape, ways["all"], batch, device) == 2 and alone.peak > 80 * GIB
    assert fewest(shape, ways["LoRA"], batch, device) == 1
    assert fewest(shape_of("70B"), ways["all, offload"], batch, device) is None  # whole weights must fit on each
    split = sharded_memory(shape, HardwareOptions(gpus=8), is_adapter=False, shards=8)
    assert split.gradients + split.moments == pytest.approx(16 * size / 8, rel=1e-3)


@pytest.mark.parametrize("way", ways_of(16, 2.0), ids=lambda way: way.name)
def test_more_processes_never_need_more_and_longer_prompts_never_less(way):
    shape, device = shape_of("8B"), Device(80 * GIB)
    peaks = [process_memory(shape, way, n, Batch(4_000, 200, 16, 64, 8192), device).learning for n in (2, 4, 8, 64)]
    assert peaks == sorted(peaks, reverse=True)
    lengths = [
        process_memory(shape, way, 8, Batch(n, 200, 16, 8, 8192), device).learning for n in (2_000, 32_000, 128_000)
    ]
    assert lengths == sorted(lengths)


def test_a_trunk_of_32k_keeps_its_keys_values_and_the_inputs_of_its_layers():
    way, shape = Way("all", "", 0, 2.0, 2.0), shape_of("8B")
    found = process_memory(shape, way, 8, Batch(32_000, 200, 16, 8, 8192), Device(400 * GIB))
    stays = 32_000 * (32 * 4096 * 2 + 65_536 * 2 + 65_536 * 4)
    again = 32_000 * shape.kept_bytes(2.0)
    assert found.activations == pytest.approx(stays + max(again, 3_200 * 32 * shape.kept_bytes(2.0)), rel=0.05)
    assert found.cache > 32_000 * 65_536 * 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [6, 7, 14])
def test_resident_memory_of_processes_is_within_15_percent_of_the_formula(number, tmp_path):
    """All rows: python benchmarks/bench_memory.py."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    import bench_memory

    row = bench_memory.ROWS[number]
    peaks = bench_memory.measure(row, tmp_path)
    assert abs(bench_memory.compared(row, bench_memory.folder_of(row.model, tmp_path), peaks)["error"]) < 0.15


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


def test_a_prompt_beyond_the_context_is_refused():
    shape = dataclasses.replace(SHAPE, context=4_096)
    assert hardware_plan(shape, HardwareOptions(), LOAD)
    with pytest.raises(InputError, match="longer than the context of tiny, 4,096 tokens"):
        hardware_plan(shape, HardwareOptions(), dataclasses.replace(LOAD, prompt_length=4_000))


def test_weights_that_do_not_fit_one_gpu_are_sampled_from_several():
    plan = hardware_plan(shape_of("70B"), HardwareOptions(gpus=8), LOAD)
    assert plan.gpus_per_replica == 4 and plan.rows > 1
    assert 2 * plan.shape.parameters / 4 + plan.cache <= 80 * GIB
    assert math.isfinite(sum(work.seconds for work in plan.works))
