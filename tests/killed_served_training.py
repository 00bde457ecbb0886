"""A training that samples on a server, as a program of its own, to be killed.

Arguments: folder of the model, address, folder of the training, and "ahead" or "not".
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from pivotrl import cut, train
from pivotrl.policies.vllm import Policy
from test_training import even_length, logs
from test_vllm_policy import LORA, options

if __name__ == "__main__":
    torch.set_num_threads(1)
    model, url, folder, ahead = sys.argv[1:]
    policy = Policy(base_url=url, served="m", policy=LORA, model=model, choices="single", max_in_flight=1)
    train(policy, cut(logs(3, 2))[0], even_length, Path(folder), options(num_steps=6, sample_ahead=ahead == "ahead"))
    policy.save(Path(folder) / "end")
