"""Small configurations of architectures: what tests/test_architectures.py builds and docs/limits.md lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer

from tiny import save_tiny_model

_USUAL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
}
_HEAD = {**_USUAL, "head_dim": 8}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_GATED = {"linear_num_key_heads": 1, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
_NEXT = {
    **_HEAD, **_GATED, **_EXPERTS, "shared_expert_intermediate_size": 16,
    "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
_MAMBA2 = {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 8, "expand": 2, "num_heads": 4, "head_dim": 8, "n_groups": 1}
_VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 4, "image_size": 16}

CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _USUAL),
    "mistral": ("MistralConfig", {**_USUAL, "sliding_window": 16}),
    "ministral": ("MinistralConfig", {**_HEAD, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}),
    "qwen2": ("Qwen2Config", _USUAL),
    "qwen2_moe": ("Qwen2MoeConfig", {**_USUAL, **_EXPERTS, "shared_expert_intermediate_size": 16}),
    "qwen3": ("Qwen3Config", _HEAD),
    "qwen3_moe": ("Qwen3MoeConfig", {**_HEAD, **_EXPERTS}),
    "qwen3_next": ("Qwen3NextConfig", _NEXT),
    "qwen3_5_text": ("Qwen3_5TextConfig", {**_HEAD, **_GATED, "layer_types": ["linear_attention", "full_attention"]}),
    "mixtral": ("MixtralConfig", {**_USUAL, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "gemma": ("GemmaConfig", _HEAD),
    "gemma2": ("Gemma2Config", _HEAD),
    "gemma3_text": ("Gemma3TextConfig", {**_HEAD, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}),
    "gemma3": ("Gemma3Config", {"text_config": {**_HEAD, "sliding_window": 16}, "vision_config": _VISION, "mm_tokens_per_image": 4}),
    "gemma3n_text": ("Gemma3nTextConfig", {**_HEAD, "intermediate_size": 24, "num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"], "num_kv_shared_layers": 0, "activation_sparsity_pattern": [0.0, 0.0], "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 259, "laurel_rank": 4}),
    "gemma4_text": ("Gemma4TextConfig", {**_HEAD, "global_head_dim": 8, "layer_types": ["sliding_attention", "full_attention"], "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 259, "num_kv_shared_layers": 0}),
    "phi": ("PhiConfig", _USUAL),
    "phi3": ("Phi3Config", _USUAL),
    "phimoe": ("PhimoeConfig", {**_USUAL, "num_local_experts": 4}),
    "opt": ("OPTConfig", {"hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 512, "word_embed_proj_dim": 16}),
    "opt_350m": ("OPTConfig", {"hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 512, "word_embed_proj_dim": 8, "do_layer_norm_before": False}),
    "gpt_neox": ("GPTNeoXConfig", {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 512}),
    "gpt_neo": ("GPTNeoConfig", {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]], "max_position_embeddings": 512}),
    "gpt2": ("GPT2Config", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 512}),
    "gpt_bigcode": ("GPTBigCodeConfig", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 512}),
    "gptj": ("GPTJConfig", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 512, "rotary_dim": 4}),
    "codegen": ("CodeGenConfig", {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 512, "rotary_dim": 4}),
    "openai-gpt": ("OpenAIGPTConfig", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 512}),
    "ctrl": ("CTRLConfig", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 512, "dff": 24}),
    "bloom": ("BloomConfig", {"hidden_size": 16, "n_layer": 2, "n_head": 2}),
    "mpt": ("MptConfig", {"d_model": 16, "n_layers": 2, "n_heads": 2, "max_seq_len": 512, "expansion_ratio": 2}),
    "falcon": ("FalconConfig", {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}),
    "falcon_alibi": ("FalconConfig", {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "alibi": True}),
    "mamba": ("MambaConfig", {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 8}),
    "mamba2": ("Mamba2Config", _MAMBA2),
    "falcon_mamba": ("FalconMambaConfig", {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 8}),
    "falcon_h1": ("FalconH1Config", {**_HEAD, "mamba_d_ssm": 16, "mamba_n_heads": 2, "mamba_d_head": 8, "mamba_d_state": 8}),
    "bamba": ("BambaConfig", {**_USUAL, "attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8}),
    "jamba": ("JambaConfig", {**_USUAL, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1, "num_experts": 4, "mamba_d_state": 8, "use_mamba_kernels": False}),
    "zamba2": ("Zamba2Config", {**_USUAL, "layers_block_type": ["mamba", "hybrid"], "mamba_d_state": 8, "mamba_ngroups": 1, "n_mamba_heads": 4, "mamba_headdim": 8}),
    "nemotron_h": ("NemotronHConfig", {**_HEAD, "layers_block_type": ["mamba", "attention"], "mamba_num_heads": 2, "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 1}),
    "nemotron": ("NemotronConfig", _USUAL),
    "granitemoehybrid": ("GraniteMoeHybridConfig", {**_USUAL, "layer_types": ["mamba", "attention"], "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "num_local_experts": 4, "shared_intermediate_size": 16}),
    "recurrent_gemma": ("RecurrentGemmaConfig", {**_HEAD, "lru_width": 16, "attention_window_size": 32, "block_types": ["recurrent", "attention"]}),
    "rwkv": ("RwkvConfig", {"hidden_size": 16, "num_hidden_layers": 2, "attention_hidden_size": 16, "context_length": 512}),
    "xlstm": ("xLSTMConfig", {"hidden_size": 16, "num_hidden_layers": 2, "num_heads": 2}),
    "gpt_oss": ("GptOssConfig", {**_HEAD, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "olmo": ("OlmoConfig", _USUAL),
    "olmo2": ("Olmo2Config", _USUAL),
    "olmo3": ("Olmo3Config", {**_USUAL, "sliding_window": 16}),
    "olmoe": ("OlmoeConfig", {**_USUAL, "num_experts": 4, "num_experts_per_tok": 2}),
    "cohere": ("CohereConfig", _USUAL),
    "cohere2": ("Cohere2Config", {**_USUAL, "sliding_window": 16}),
    "stablelm": ("StableLmConfig", _USUAL),
    "granite": ("GraniteConfig", {**_USUAL, "logits_scaling": 3.0}),
    "granitemoe": ("GraniteMoeConfig", {**_USUAL, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "lfm2": ("Lfm2Config", {**_USUAL, "block_ff_dim": 24, "layer_types": ["conv", "full_attention"]}),
    "starcoder2": ("Starcoder2Config", {**_USUAL, "sliding_window": 16}),
    "smollm3": ("SmolLM3Config", _USUAL),
    "glm": ("GlmConfig", {**_HEAD}),
    "glm4": ("Glm4Config", {**_HEAD}),
    "glm4_moe": ("Glm4MoeConfig", {**_HEAD, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 1}),
    "deepseek_v3": ("DeepseekV3Config", {**_USUAL, "num_key_value_heads": 2, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}),
    "llama4_text": ("Llama4TextConfig", {**_HEAD, "num_local_experts": 4, "intermediate_size_mlp": 24}),
    "ernie4_5": ("Ernie4_5Config", {**_HEAD}),
    "exaone4": ("Exaone4Config", {**_USUAL}),
    "seed_oss": ("SeedOssConfig", {**_HEAD}),
    "persimmon": ("PersimmonConfig", {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 512}),
    "xglm": ("XGLMConfig", {"d_model": 16, "ffn_dim": 24, "num_layers": 2, "attention_heads": 2, "max_position_embeddings": 512}),
    "biogpt": ("BioGptConfig", {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 512}),
    "bert": ("BertConfig", {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}),
    "modernbert-decoder": ("ModernBertDecoderConfig", {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 512}),
    "xlnet": ("XLNetConfig", {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 24}),
    "diffllama": ("DiffLlamaConfig", {**_USUAL, "num_key_value_heads": 2}),
    "minimax": ("MiniMaxConfig", {**_HEAD, "num_local_experts": 4, "layer_types": ["linear_attention", "full_attention"], "block_size": 8}),
    "qwen3_5": ("Qwen3_5Config", {"text_config": {**_HEAD, **_GATED, "layer_types": ["linear_attention", "full_attention"]}, "vision_config": {"depth": 1, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 16, "patch_size": 4}}),
    "qwen2_vl": ("Qwen2VLConfig", {"text_config": {**_USUAL, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}, "vision_config": {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "patch_size": 4}}),
    "qwen2_5_vl": ("Qwen2_5_VLConfig", {"text_config": {**_USUAL, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}, "vision_config": {"depth": 1, "hidden_size": 16, "out_hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 4}}),
    "qwen3_vl": ("Qwen3VLConfig", {"text_config": {**_HEAD, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}, "vision_config": {"depth": 1, "hidden_size": 16, "out_hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 4, "deepstack_visual_indexes": [0]}}),
    "llava": ("LlavaConfig", {"text_config": {"model_type": "llama", **_USUAL}, "vision_config": {"model_type": "clip_vision_model", **_VISION}}),
    "mistral3": ("Mistral3Config", {"text_config": {"model_type": "mistral", **_HEAD}, "vision_config": {"model_type": "pixtral", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 4, "image_size": 16, "head_dim": 8}}),
    "smolvlm": ("SmolVLMConfig", {"text_config": {"model_type": "llama", **_USUAL}, "vision_config": _VISION, "scale_factor": 2}),
    "gemma4": ("Gemma4Config", {"text_config": {**_HEAD, "global_head_dim": 8, "layer_types": ["sliding_attention", "full_attention"], "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 259, "num_kv_shared_layers": 0}, "vision_config": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "patch_size": 4}, "audio_config": None}),
    "llama4": ("Llama4Config", {"text_config": {**_HEAD, "num_local_experts": 4, "intermediate_size_mlp": 24}, "vision_config": {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 4, "image_size": 16, "vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16}}),
    "t5": ("T5Config", {"d_model": 16, "d_ff": 24, "num_layers": 2, "num_heads": 2, "d_kv": 8}),
    "bart": ("BartConfig", {"d_model": 16, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}),
    "clip": ("CLIPConfig", {}),
}


def build(name: str, folder: Path, seed: int = 0, **more: Any) -> Path:
    config_name, options = CONFIGURATIONS[name]
    save_tiny_model(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for file in folder.iterdir():
        file.unlink()
    ids = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    options = dict(options) | more
    if "text_config" in options:
        options["text_config"] = {**options["text_config"], **ids}
    config = getattr(transformers, config_name)(**{**options, **ids})
    torch.manual_seed(seed)
    auto = next(
        auto
        for auto in (
            transformers.AutoModelForSeq2SeqLM,
            transformers.AutoModelForImageTextToText,
            transformers.AutoModelForCausalLM,
            transformers.AutoModel,
        )
        if type(config) in auto._model_mapping
    )
    model = auto.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
