"""NeMo RL's configuration for rows that NeMo Gym serves. Names as of its repository on 22 August 2026."""

from __future__ import annotations

from collections.abc import Iterable

from pivotrl.rows.settings import Settings, differences, yaml_text

_MODEL, _PROMPT = "your/model", 8192


def configuration(name: str, server: str, splits: Iterable[str], settings: Settings) -> str:
    """YAML, on top of NeMo RL's own example for dense models.

    Args:
        name: of Gym's configuration.
        server: Gym's, which serves the rows.
        splits: that have rows.
    """
    training, data = settings.training, f"3rdparty/Gym-workspace/Gym/resources_servers/{server}/data/{name}"
    length = (settings.max_prompt_tokens or _PROMPT) + training.train_max_tokens
    adapter = {"enabled": settings.lora_rank > 0, "dim": max(1, settings.lora_rank), "alpha": settings.lora_alpha}
    values = {
        "defaults": "../configs/grpo_math_1B.yaml",
        "grpo": {
            "num_prompts_per_step": training.turns_per_step,
            "num_generations_per_prompt": training.group_size,
            "max_rollout_turns": 1,
            "max_num_epochs": training.num_steps,  # max_num_steps ends it
            "max_num_steps": training.num_steps,
            "normalize_rewards": True,
            "use_leave_one_out_baseline": training.advantage == "leave_one_out",
            "val_period": training.checkpoint_every,
            "seed": training.train_seed,
        },
        "loss_fn": {
            "reference_policy_kl_penalty": training.kl_coefficient,
            "reference_policy_kl_type": "k3",
            "ratio_clip_min": training.clip_low,
            "ratio_clip_max": training.clip_high,
            "token_level_loss": training.loss_level == "token",
        },
        "checkpointing": {"save_period": training.checkpoint_every},
        "policy": {
            "model_name": settings.model or _MODEL,
            "train_global_batch_size": training.turns_per_step * training.group_size,
            "train_micro_batch_size": 1,
            "logprob_batch_size": 1,
            "max_total_sequence_length": length,
            "dtensor_cfg": {"lora_cfg": adapter},
            "max_grad_norm": training.max_gradient_norm,
            "optimizer": {"kwargs": {"lr": settings.learning_rate, "weight_decay": training.weight_decay}},
            "generation": {
                "max_new_tokens": training.train_max_tokens,
                "temperature": training.train_temperature,
                "vllm_cfg": {
                    "async_engine": True,
                    "expose_http_server": True,
                    "skip_tokenizer_init": False,
                    "max_model_len": length,
                    "http_server_serving_chat_kwargs": {"enable_auto_tools": True, "tool_parser": "hermes"},
                },
            },
        },
        "data": {
            "_override_": True,  # nothing of the example's own data set
            "max_input_seq_length": None,
            "shuffle": True,
            "num_workers": 0,
            "use_multiple_dataloader": False,
            "train": {"data_path": f"{data}/train.jsonl"},
            "validation": {"data_path": f"{data}/{'validation' if 'validation' in splits else 'train'}.jsonl"},
            "default": {
                "dataset_name": "NemoGymDataset",
                "env_name": "nemo_gym",
                "prompt_file": None,
                "system_prompt_file": None,
                "processor": "nemo_gym_data_processor",
            },
        },
        "env": {
            "_override_": True,
            "should_use_nemo_gym": True,
            "nemo_gym": {
                "config_paths": [
                    "responses_api_models/vllm_model/configs/vllm_model_for_training.yaml",
                    f"resources_servers/{server}/configs/{name}.yaml",
                ]
            },
        },
    }
    return "# Written by pivotrl, for NeMo RL's examples/nemo_gym\n" + yaml_text(values)


def unsaid(settings: Settings) -> str:
    """Markdown: what the configuration cannot say."""
    training, found = settings.training, []
    if training.warmup_steps or training.decay != "constant":
        found.append("the learning rate: NeMo RL's own schedule; pivotrl's is not written")
    if training.num_epochs > 1:
        found.append(f"each batch is used once; pivotrl used it {training.num_epochs} times")
    found += [f"there is nothing like `{flag}`" for flag in settings.changed]
    found.append("turns are drawn at random, without pivotrl's order of tasks, and nothing ends a collapsed training")
    found.append("`tool_parser` is that of Qwen and Hermes models; other models need another")
    if settings.model is None:
        found.append(f"the model: put yours in place of `{_MODEL}`")
    return differences(found)
