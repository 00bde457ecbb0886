"""Make the warm-start adapter that the Plancraft recipes begin from (about 5 minutes on 2 cores).

    python recipes/warm_start.py

SmolLM2-135M-Instruct takes no parseable action in Plancraft (0 of 48 turns), so there is nothing to reinforce.
Imitating 320 expert turns, each once, gives it the action format and a first idea of the task.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))
import crafting as setting
from pivotrl import TrainingOptions, TurnOptions, cut, train
from pivotrl.policies.hf import Policy

NUM_TURNS = 320


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/warm_start"))
    arguments = parser.parse_args()
    turns, _ = cut(setting.reader(Path("train")), TurnOptions(max_per_task=3, max_turns=NUM_TURNS))
    policy = Policy(model=setting.MODEL, style=setting.STYLE, lora_rank=8, lora_alpha=16, frozen_layers=10)
    options = TrainingOptions(
        method="sft",
        num_steps=NUM_TURNS // 8,
        turns_per_step=8,
        turns_per_trajectory=1,
        learning_rate=1e-3,
        warmup_steps=4,
        decay="linear",
    )
    train(policy, turns, setting.verifier, arguments.out, options, lambda done, total, note: print(done, total, note))
    policy.export(arguments.out / "policy")
    setting.WARM_START.mkdir(exist_ok=True)
    weights = load_file(arguments.out / "policy" / "adapter_model.safetensors")
    halved = {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}
    save_file(halved, setting.WARM_START / "adapter_model.safetensors")
    config = json.loads((arguments.out / "policy" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = setting.MODEL  # not a path of this machine
    (setting.WARM_START / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    shutil.rmtree(arguments.out / "policy")


if __name__ == "__main__":
    main()
