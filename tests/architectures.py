"""Architectures with a small configuration each and what is expected of them.

tests/test_architectures.py tries them, and recipes/limits_page.py lists them in docs/limits.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import transformers
from transformers import AutoTokenizer

from tiny import save_tiny_model

EXPERTS = "LoRA does not train the experts and the gated layers beside them"
STATES = "LoRA does not train `out_proj` and `dt_proj` of state-space layers"
TEXT_ONLY = "text only; the vision tower is never trained"
NO_TOWER = "text only; the vision tower is not loaded"


class Architecture(NamedTuple):
    """What is built, and what must come out."""

    config: str
    options: dict[str, Any]
    sharing: Literal["split", "cache", "reference"] = "split"
    """The executor that ``auto`` must choose."""
    sampling: str = ""
    """How samples are drawn, where that differs."""
    note: str = ""
    in_part: bool = False
    """LoRA does not reach all layers."""
    refused: str = ""
    """Part of the sentence that refuses it; "" when it works."""
    untrained: tuple[str, ...] = ()
    """Parts of the names of weights that never get a gradient in the library's own code."""
    rare: bool = False
    """Tried by make test-slow only."""


_USUAL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
}
_HEAD = {**_USUAL, "head_dim": 8}
_PLAIN = {name: value for name, value in _USUAL.items() if name != "num_key_value_heads"}
_GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 512}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_SLIDING = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
_GATED = {
    "linear_num_key_heads": 1,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
_ROUTED = {**_EXPERTS, "n_routed_experts": 4, "first_k_dense_replace": 1}
_MAMBA = {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 8}
_MAMBA_HEADS = {"mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 8}
_OPT = {
    "hidden_size": 16,
    "ffn_dim": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 512,
    "word_embed_proj_dim": 16,
}
_PER_LAYER = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 259, "num_kv_shared_layers": 0}
_GEMMA4 = {**_HEAD, **_SLIDING, **_PER_LAYER, "global_head_dim": 8}
_LLAMA4 = {**_HEAD, "num_local_experts": 4, "intermediate_size_mlp": 24}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 4,
    "image_size": 16,
}
_QWEN_VISION = {"depth": 1, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 4}
_MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}
_LATER = "reads tokens that come later"

ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture("LlamaConfig", _USUAL),
    "mistral": Architecture("MistralConfig", {**_USUAL, "sliding_window": 16}),
    "ministral": Architecture("MinistralConfig", {**_HEAD, **_SLIDING}, rare=True),
    "mixtral": Architecture("MixtralConfig", {**_USUAL, **_LOCAL_EXPERTS}, note=EXPERTS, in_part=True),
    "qwen2": Architecture("Qwen2Config", _USUAL),
    "qwen2_moe": Architecture(
        "Qwen2MoeConfig",
        {**_USUAL, **_EXPERTS, "shared_expert_intermediate_size": 16},
        note=EXPERTS,
        in_part=True,
        rare=True,
    ),
    "qwen3": Architecture("Qwen3Config", _HEAD),
    "qwen3_moe": Architecture("Qwen3MoeConfig", {**_HEAD, **_EXPERTS}, note=EXPERTS, in_part=True),
    "qwen3_next": Architecture(
        "Qwen3NextConfig",
        {**_HEAD, **_GATED, **_EXPERTS, "shared_expert_intermediate_size": 16},
        "cache",
        note=EXPERTS,
        in_part=True,
    ),
    "qwen3_5_text": Architecture("Qwen3_5TextConfig", {**_HEAD, **_GATED}, "cache"),
    "qwen3_5": Architecture(
        "Qwen3_5Config",
        {"text_config": {**_HEAD, **_GATED}, "vision_config": {**_QWEN_VISION, "out_hidden_size": 16}},
        "cache",
        note=NO_TOWER,
    ),
    "qwen2_vl": Architecture(
        "Qwen2VLConfig",
        {
            "text_config": {**_USUAL, **_MROPE},
            "vision_config": {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "patch_size": 4},
        },
        note=TEXT_ONLY,
    ),
    "qwen2_5_vl": Architecture(
        "Qwen2_5_VLConfig",
        {"text_config": {**_USUAL, **_MROPE}, "vision_config": {**_QWEN_VISION, "out_hidden_size": 16}},
        note=TEXT_ONLY,
        rare=True,
    ),
    "qwen3_vl": Architecture(
        "Qwen3VLConfig",
        {
            "text_config": {**_HEAD, **_MROPE},
            "vision_config": {**_QWEN_VISION, "out_hidden_size": 16, "deepstack_visual_indexes": [0]},
        },
        note=TEXT_ONLY,
    ),
    "gemma": Architecture("GemmaConfig", _HEAD, rare=True),
    "gemma2": Architecture("Gemma2Config", _HEAD, "cache"),
    "gemma3_text": Architecture("Gemma3TextConfig", {**_HEAD, **_SLIDING}),
    "gemma3": Architecture(
        "Gemma3Config",
        {"text_config": {**_HEAD, **_SLIDING}, "vision_config": _VISION, "mm_tokens_per_image": 4},
        note=TEXT_ONLY,
    ),
    "gemma3n_text": Architecture(
        "Gemma3nTextConfig",
        {**_HEAD, **_SLIDING, **_PER_LAYER, "activation_sparsity_pattern": [0.0, 0.0], "laurel_rank": 4},
        rare=True,
        untrained=("per_layer",),
    ),
    "gemma4_text": Architecture("Gemma4TextConfig", _GEMMA4),
    "gemma4": Architecture(
        "Gemma4Config",
        {
            "text_config": _GEMMA4,
            "vision_config": {**_VISION, "num_key_value_heads": 1, "head_dim": 8},
            "audio_config": None,
        },
        note=TEXT_ONLY,
        rare=True,
    ),
    "phi": Architecture("PhiConfig", _USUAL),
    "phi3": Architecture("Phi3Config", _USUAL),
    "phimoe": Architecture(
        "PhimoeConfig",
        {**_USUAL, "num_local_experts": 4},
        note=EXPERTS,
        in_part=True,
        rare=True,
        untrained=("router",),
    ),
    "opt": Architecture("OPTConfig", _OPT),
    "opt, projected embeddings": Architecture(
        "OPTConfig", {**_OPT, "word_embed_proj_dim": 8, "do_layer_norm_before": False}, rare=True
    ),
    "gpt_neox": Architecture("GPTNeoXConfig", _PLAIN),
    "gpt_neo": Architecture(
        "GPTNeoConfig",
        {
            "hidden_size": 16,
            "num_layers": 2,
            "num_heads": 2,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": 512,
        },
        "cache",
        rare=True,
    ),
    "gpt2": Architecture("GPT2Config", _GPT2),
    "gpt_bigcode": Architecture("GPTBigCodeConfig", _GPT2, rare=True),
    "gptj": Architecture("GPTJConfig", {**_GPT2, "rotary_dim": 4}, "cache"),
    "codegen": Architecture("CodeGenConfig", {**_GPT2, "n_head": 4, "rotary_dim": 4}, "cache", rare=True),
    "openai-gpt": Architecture("OpenAIGPTConfig", _GPT2, "reference", "anew", rare=True),
    "ctrl": Architecture("CTRLConfig", {**_GPT2, "dff": 24}, rare=True),
    "bloom": Architecture("BloomConfig", {"hidden_size": 16, "n_layer": 2, "n_head": 2}, "cache"),
    "mpt": Architecture(
        "MptConfig", {"d_model": 16, "n_layers": 2, "n_heads": 2, "max_seq_len": 512, "expansion_ratio": 2}, "cache"
    ),
    "falcon": Architecture(
        "FalconConfig", {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}, "cache"
    ),
    "falcon, alibi": Architecture(
        "FalconConfig",
        {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "alibi": True},
        "cache",
        rare=True,
    ),
    "mamba": Architecture("MambaConfig", _MAMBA, "reference", "anew", STATES, in_part=True),
    "mamba2": Architecture(
        "Mamba2Config",
        {**_MAMBA, "expand": 2, "num_heads": 4, "head_dim": 8, "n_groups": 1, "chunk_size": 8},
        "reference",
        "anew",
        STATES,
        in_part=True,
    ),
    "falcon_mamba": Architecture("FalconMambaConfig", _MAMBA, "reference", "anew", STATES, in_part=True, rare=True),
    "falcon_h1": Architecture(
        "FalconH1Config",
        {**_HEAD, **_MAMBA_HEADS, "mamba_d_ssm": 16, "mamba_n_heads": 2},
        "cache",
        note=STATES,
        in_part=True,
    ),
    "bamba": Architecture(
        "BambaConfig",
        {**_USUAL, **_MAMBA_HEADS, "attn_layer_indices": [1]},
        "reference",
        "anew",
        STATES,
        in_part=True,
    ),
    "jamba": Architecture(
        "JambaConfig",
        {
            **_USUAL,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "num_experts": 4,
            "mamba_d_state": 8,
            "use_mamba_kernels": False,
        },
        "reference",
        note=f"{STATES}; {EXPERTS}",
        in_part=True,
        rare=True,
    ),
    "zamba2": Architecture(
        "Zamba2Config",
        {
            **_USUAL,
            "layers_block_type": ["mamba", "hybrid"],
            "mamba_d_state": 8,
            "mamba_ngroups": 1,
            "n_mamba_heads": 4,
            "mamba_headdim": 8,
            "chunk_size": 8,
        },
        "cache",
        note=STATES,
        in_part=True,
        rare=True,
    ),
    "nemotron_h": Architecture(
        "NemotronHConfig",
        {
            **_HEAD,
            "layers_block_type": ["mamba", "attention"],
            "mamba_num_heads": 2,
            "mamba_head_dim": 8,
            "ssm_state_size": 8,
            "n_groups": 1,
        },
        "cache",
        note=STATES,
        in_part=True,
    ),
    "nemotron": Architecture("NemotronConfig", _USUAL, "cache", rare=True),
    "granite": Architecture("GraniteConfig", {**_USUAL, "logits_scaling": 3.0}),
    "granitemoe": Architecture("GraniteMoeConfig", {**_USUAL, **_LOCAL_EXPERTS}, note=EXPERTS, in_part=True, rare=True),
    "granitemoehybrid": Architecture(
        "GraniteMoeHybridConfig",
        {
            **_USUAL,
            **_MAMBA_HEADS,
            "layer_types": ["mamba", "attention"],
            "num_local_experts": 4,
            "shared_intermediate_size": 16,
        },
        "cache",
        note=f"{STATES}; {EXPERTS}",
        in_part=True,
        rare=True,
    ),
    "recurrent_gemma": Architecture(
        "RecurrentGemmaConfig",
        {**_HEAD, "lru_width": 16, "attention_window_size": 32, "block_types": ["recurrent", "attention"]},
        "reference",
        "anew",
        rare=True,
    ),
    "rwkv": Architecture(
        "RwkvConfig",
        {"hidden_size": 16, "num_hidden_layers": 2, "attention_hidden_size": 16, "context_length": 512},
        "reference",
        "anew",
        rare=True,
    ),
    "xlstm": Architecture(
        "xLSTMConfig",
        {"hidden_size": 16, "num_hidden_layers": 2, "num_heads": 2, "chunk_size": 16},
        "reference",
        "anew",
        rare=True,
    ),
    "gpt_oss": Architecture("GptOssConfig", {**_HEAD, **_LOCAL_EXPERTS}, "cache", note=EXPERTS, in_part=True),
    "olmo": Architecture("OlmoConfig", _USUAL, rare=True),
    "olmo2": Architecture("Olmo2Config", _USUAL),
    "olmo3": Architecture("Olmo3Config", {**_USUAL, "sliding_window": 16}, rare=True),
    "olmoe": Architecture(
        "OlmoeConfig", {**_USUAL, "num_experts": 4, "num_experts_per_tok": 2}, note=EXPERTS, in_part=True, rare=True
    ),
    "cohere": Architecture("CohereConfig", _USUAL),
    "cohere2": Architecture("Cohere2Config", {**_USUAL, "sliding_window": 16}, rare=True),
    "stablelm": Architecture("StableLmConfig", _USUAL, "cache"),
    "starcoder2": Architecture("Starcoder2Config", {**_USUAL, "sliding_window": 16}),
    "smollm3": Architecture("SmolLM3Config", _USUAL, rare=True),
    "lfm2": Architecture(
        "Lfm2Config", {**_USUAL, "block_ff_dim": 24, "layer_types": ["conv", "full_attention"]}, "cache"
    ),
    "glm": Architecture("GlmConfig", _HEAD, rare=True),
    "glm4": Architecture("Glm4Config", _HEAD, rare=True),
    "glm4_moe": Architecture("Glm4MoeConfig", {**_HEAD, **_ROUTED}, note=EXPERTS, in_part=True),
    "deepseek_v3": Architecture(
        "DeepseekV3Config",
        {
            **_USUAL,
            **_ROUTED,
            "num_key_value_heads": 2,
            "n_group": 2,
            "topk_group": 1,
            "kv_lora_rank": 8,
            "q_lora_rank": 8,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 4,
            "v_head_dim": 8,
        },
        note=EXPERTS,
        in_part=True,
    ),
    "llama4_text": Architecture("Llama4TextConfig", _LLAMA4, "reference", note=EXPERTS, in_part=True, rare=True),
    "llama4": Architecture(
        "Llama4Config",
        {
            "text_config": _LLAMA4,
            "vision_config": {
                **_VISION,
                "intermediate_size": 64,
                "vision_output_dim": 16,
                "projector_input_dim": 16,
                "projector_output_dim": 16,
            },
        },
        "reference",
        note=f"{NO_TOWER}; {EXPERTS}",
        in_part=True,
    ),
    "llava": Architecture(
        "LlavaConfig",
        {
            "text_config": {"model_type": "llama", **_USUAL},
            "vision_config": {"model_type": "clip_vision_model", **_VISION},
        },
        note=TEXT_ONLY,
    ),
    "mistral3": Architecture(
        "Mistral3Config",
        {
            "text_config": {"model_type": "mistral", **_HEAD},
            "vision_config": {"model_type": "pixtral", **_VISION, "head_dim": 8},
        },
        note=TEXT_ONLY,
        rare=True,
    ),
    "smolvlm": Architecture(
        "SmolVLMConfig",
        {"text_config": {"model_type": "llama", **_USUAL}, "vision_config": _VISION, "scale_factor": 2},
        note=TEXT_ONLY,
        rare=True,
    ),
    "ernie4_5": Architecture("Ernie4_5Config", _HEAD, rare=True),
    "exaone4": Architecture("Exaone4Config", _USUAL, rare=True),
    "seed_oss": Architecture("SeedOssConfig", _HEAD, rare=True),
    "persimmon": Architecture("PersimmonConfig", _PLAIN, rare=True),
    "xglm": Architecture(
        "XGLMConfig",
        {"d_model": 16, "ffn_dim": 24, "num_layers": 2, "attention_heads": 2, "max_position_embeddings": 512},
        "cache",
        rare=True,
    ),
    "biogpt": Architecture("BioGptConfig", _PLAIN, rare=True),
    "diffllama": Architecture("DiffLlamaConfig", {**_USUAL, "num_key_value_heads": 2}, "split", "reference", rare=True),
    "minimax": Architecture(
        "MiniMaxConfig",
        {**_HEAD, "num_local_experts": 4, "layer_types": ["linear_attention", "full_attention"], "block_size": 8},
        "reference",
        "anew",
        EXPERTS,
        in_part=True,
        rare=True,
    ),
    "modernbert-decoder": Architecture("ModernBertDecoderConfig", _PLAIN, refused="no 2 layers are found"),
    "bert": Architecture("BertConfig", _PLAIN, refused=_LATER),
    "xlnet": Architecture("XLNetConfig", {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 24}, refused=_LATER),
    "t5": Architecture(
        "T5Config", {"d_model": 16, "d_ff": 24, "num_layers": 2, "num_heads": 2, "d_kv": 8}, refused="encoder-decoder"
    ),
    "bart": Architecture(
        "BartConfig",
        {
            "d_model": 16,
            "encoder_ffn_dim": 24,
            "decoder_ffn_dim": 24,
            "encoder_layers": 1,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
        },
        refused="encoder-decoder",
    ),
    "vit": Architecture("ViTConfig", {**_VISION}, refused="does not generate text"),
}


def save(name: str, folder: Path, seed: int = 0, **more: Any) -> Path:
    """A model of random weights far from uniform outputs, so that a wrong mask or position shows.

    Args:
        more: options of the configuration.
    """
    architecture = ARCHITECTURES[name]
    save_tiny_model(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for file in folder.iterdir():
        file.unlink()
    ids = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    options = {**architecture.options, **more}
    if "text_config" in options:
        options["text_config"] = {**options["text_config"], **ids}
    config = getattr(transformers, architecture.config)(**{**options, **ids})
    torch.manual_seed(seed)
    classes = (
        transformers.AutoModelForSeq2SeqLM,
        transformers.AutoModelForImageTextToText,
        transformers.AutoModelForCausalLM,
        transformers.AutoModel,
    )
    model = next(each for each in classes if type(config) in each._model_mapping).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
