"""An adapter that peft saved, perhaps altered, put into a model.

    {"lora": {...}, "model": {...}, ...} -> merged as it was trained, or refused with the words in "words"

``lora``: settings of peft.LoraConfig, beside ``r`` 4, ``lora_alpha`` 8 and ``q_proj``, ``v_proj``. ``model``: options
of the tiny Llama's configuration. ``dtype``: of its weights.

Alterations of the file, in this order: ``rename`` [from, to] in the names of tensors; ``keep`` those with this in their
names; ``add`` {name: shape}; ``reshape`` {name: shape}; ``number`` {name: value of its first entry}; ``config``
{setting: value}, null removes it; ``as_bin`` saves with torch; ``cut`` so many bytes of the file are left; ``onto``
options of the model that it is put into, where that is another one.
"""

import json
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from pivotrl.engine.adapter_files import read_adapter
from pivotrl.engine.adapters import merge_adapter, quiet
from pivotrl.protocols import InputError

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
}
TOKENS = torch.tensor([[5, 6, 7, 8, 9]])


def network(options: dict[str, Any], dtype: str = "float32") -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**SIZES, **options})).to(getattr(torch, dtype)).eval()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(TOKENS).logits.float()


def save_adapter(model: Any, settings: dict[str, Any], folder: Path) -> torch.Tensor:
    """The logits of the model with the adapter, whose numbers are random."""
    if "trainable_token_indices" not in settings:
        settings = {"target_modules": ["q_proj", "v_proj"], **settings}
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", **settings})
    with quiet():
        adapted = peft.get_peft_model(model, config).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    with quiet():
        adapted.save_pretrained(folder)
    return logits(adapted)


def alter(case: dict[str, Any], folder: Path) -> None:
    file, settings = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    tensors = load_file(file)
    if "rename" in case:
        tensors = {name.replace(*case["rename"]): tensor for name, tensor in tensors.items()}
    tensors = {name: tensor for name, tensor in tensors.items() if case.get("keep", "") in name}
    for name, shape in (case.get("add", {}) | case.get("reshape", {})).items():
        tensors[name] = torch.ones(shape)
    for name, number in case.get("number", {}).items():
        tensors[name].view(-1)[0] = float(number)
    save_file(tensors, file)
    if case.get("as_bin"):
        file.unlink()
        torch.save(tensors, folder / "adapter_model.bin")
    if "cut" in case:
        file.write_bytes(file.read_bytes()[: case["cut"]])
    changed = json.loads(settings.read_text()) | case.get("config", {})
    settings.write_text(json.dumps({key: value for key, value in changed.items() if value is not None}))


def run(case: dict[str, Any], folder: Path) -> None:
    model, dtype = case.get("model", {}), case.get("dtype", "float32")
    wanted = save_adapter(network(model, dtype), case.get("lora", {}), folder)
    alter(case, folder)
    try:
        merged = merge_adapter(network(case.get("onto", model), dtype), read_adapter(folder)).model
    except InputError as error:
        told = str(error)
        assert "words" in case, f"refused: {told}"
        assert str(folder) in told and "\n" not in told, told
        assert all(word in told for word in case["words"]), told
        return
    assert "words" not in case, "merged, and nothing is said"
    allowed = (1e-5 if dtype == "float32" else 0.05) * wanted.abs().max()
    assert (logits(merged) - wanted).abs().max() <= allowed
    merged.save_pretrained(folder / "merged")
    again = LlamaForCausalLM.from_pretrained(folder / "merged", dtype=merged.dtype)
    assert (logits(again) - wanted).abs().max() <= allowed, "once it is saved it is another model"
