"""Only process 0 reads the weights: the others build the same model without memory, and get their shards from it."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from architectures import ARCHITECTURES, save
from crews import together
from pivotrl.engine.decoder import backbone
from pivotrl.engine.distributed.crew import Failed
from pivotrl.engine.distributed.filling import layout_of
from pivotrl.engine.distributed.sharding import ShardedModel
from pivotrl.engine.loading import load_empty_model, load_model
from pivotrl.engine.weights import Weights
from pivotrl.policies.hf import Policy
from pivotrl.protocols import InputError
from tiny import save_tiny_model

OFTEN = ("llama", "gpt2", "gemma3", "qwen3_moe", "mamba2")
WORKING = [
    pytest.param(name, marks=[] if name in OFTEN else [pytest.mark.slow])
    for name, each in ARCHITECTURES.items()
    if not each.refused
]


@pytest.mark.parametrize("name", WORKING)
def test_a_model_without_memory_has_the_same_parts(name: str, tmp_path: Path) -> None:
    folder = str(save(name, tmp_path / "model"))
    loaded, _, _ = load_model(folder, torch.device("cpu"), torch.float32)
    is_tied = loaded.get_input_embeddings().weight is loaded.get_output_embeddings().weight
    empty = load_empty_model(folder, torch.float32, is_tied)
    assert layout_of(empty) == layout_of(loaded)
    assert {n: b.shape for n, b in empty.named_buffers()} == {n: b.shape for n, b in loaded.named_buffers()}
    assert all(tensor.is_meta for tensor in (*empty.parameters(), *empty.buffers()))
    for rank in (2, 0):
        given = {"trainable": True, "lora_rank": rank, "lora_alpha": 4, "frozen_layers": 1, "seed": 0}
        ours = Weights(loaded, **given)
        theirs = Weights(empty, **given, names=ours.names)
        assert layout_of(backbone(theirs.model)) == layout_of(backbone(ours.model))
        assert list(theirs.trained()) == list(ours.trained())
        loaded, _, _ = load_model(folder, torch.device("cpu"), torch.float32)
        empty = load_empty_model(folder, torch.float32, is_tied)


def scored(crew, given: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the policy and of its reference in this process."""
    if crew.rank > 0:  # what it does when the leader builds a policy
        dist.broadcast_object_list([None], src=0, group=crew.group)
    Policy(**given, dtype="float32", device="cpu")
    weights, tokens, found = crew.site.weights, torch.arange(5, 25)[None], []
    with torch.no_grad():
        for which, model in (("policy", weights.model), ("reference", weights.frozen_copy or weights.model)):
            weights.gather(which)
            found.append(model(input_ids=tokens, use_cache=False).logits.clone())
            weights.release(which)
    return found[0], found[1]


@pytest.mark.parametrize("rank", [2, 0])
@pytest.mark.parametrize(
    "name", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("llama", "qwen3_moe")), "gemma3"]
)
def test_every_process_has_the_leaders_weights(name: str, rank: int, tmp_path: Path) -> None:
    folder = save(name, tmp_path / "model")
    expected = logits_of(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
    for logits in together(2, scored, {"model": str(folder), "lora_rank": rank}):
        for each in logits:
            torch.testing.assert_close(each, expected, rtol=1e-5, atol=1e-5)


def test_an_adapter_that_is_merged_first_is_read_by_the_leader_alone(tmp_path: Path) -> None:
    """This one gives the output layer weights of its own, which were those of the embedding."""
    folder = save_tiny_model(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    config = LoraConfig(r=2, target_modules=["q_proj", "lm_head"], init_lora_weights=False, task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    adapted.save_pretrained(tmp_path / "adapter")
    expected = logits_of(adapted.eval())
    given = {"model": str(folder), "adapter": str(tmp_path / "adapter"), "lora_rank": 2}
    for logits in together(2, scored, given):
        torch.testing.assert_close(logits[0], expected, rtol=1e-4, atol=1e-4)


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=torch.arange(5, 25)[None], use_cache=False).logits
    return logits


def other_files(crew, folders: list[str]) -> str:
    try:
        scored(crew, {"model": folders[crew.rank], "lora_rank": 2})
    except (InputError, Failed) as error:
        return str(error)
    return ""


def test_a_machine_with_other_files_is_named(tmp_path: Path) -> None:
    folders = [str(save(name, tmp_path / name)) for name in ("llama", "qwen3")]
    told = together(2, other_files, folders)[0]
    assert "process 1 of 2" in told and "has other parameters here than in process 0" in told


def grown(crew, folder: str) -> float:
    """Bytes that this process took at most until its weights were in shards."""
    peaks = []

    def note(model: ShardedModel) -> None:
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    ShardedModel._forward_once = note
    with contextlib.suppress(AssertionError):
        scored(crew, {"model": folder, "lora_rank": 2, "executor": "reference"})
    return peaks[0] - before


@pytest.mark.slow
def test_a_process_that_does_not_lead_never_holds_a_whole_copy(tmp_path: Path) -> None:
    """A model of 16 equal layers, 270 MB. Half of it is the shard; on top comes a tensor, and what Python itself takes
    meanwhile."""
    folder = save_tiny_model(tmp_path / "model")
    config = LlamaConfig(
        **{
            **AutoConfig.from_pretrained(folder).to_dict(),
            "hidden_size": 512,
            "intermediate_size": 2048,
            "num_hidden_layers": 16,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "head_dim": 64,
        }
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    size = sum(parameter.nbytes for parameter in model.parameters())
    leader, other = together(2, grown, str(folder))
    assert size > 250e6 and leader > size, "it reads the files"
    print(f"of {size:,} bytes: {other / size:.2f}, process 0: {leader / size:.2f}")
    assert other < 0.75 * size
