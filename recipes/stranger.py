"""Load an exported policy as anyone would, with transformers and peft alone, and let it act.

    python recipes/stranger.py runs/quickstart/train/policy < conversations.jsonl > answers.jsonl

A conversation is a JSON object with ``messages``, ``tools``, ``max_tokens``, ``temperature``, ``num_samples``,
``eos_token_id``, and ``token_ids``: an answer to score. For each one a line comes back: ``prompt`` and ``samples``
(token ids), and ``logprobs`` of the answer's tokens.

`recipes/check_export.py` compares them with what pivotrl recorded.
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


def load(folder: str, dtype: str = "float32"):
    settings = Path(folder, "adapter_config.json")
    base = json.loads(settings.read_text())["base_model_name_or_path"] if settings.is_file() else folder
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    if settings.is_file():
        model = PeftModel.from_pretrained(model, folder).merge_and_unload()
    return model.eval(), AutoTokenizer.from_pretrained(folder)


@torch.no_grad()
def act(model, tokenizer, row: dict) -> dict:
    prompt = tokenizer.apply_chat_template(
        row["messages"], tools=row["tools"] or None, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    start, temperature, answer = prompt["input_ids"].shape[1], row["temperature"], torch.tensor([row["token_ids"]])
    logits = model(torch.cat([prompt["input_ids"], answer], dim=1)).logits[0, start - 1 : -1].float()
    logprobs = torch.log_softmax(logits / (temperature or 1.0), dim=-1).gather(-1, answer.T)[:, 0]
    chance = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    torch.manual_seed(0)
    samples = model.generate(
        **prompt,
        **(chance if temperature else {"do_sample": False}),
        num_return_sequences=row["num_samples"] if temperature else 1,
        max_new_tokens=row["max_tokens"],
        eos_token_id=row["eos_token_id"],
        pad_token_id=tokenizer.pad_token_id,
    )
    return {
        "prompt": prompt["input_ids"][0].tolist(),
        "logprobs": logprobs.tolist(),
        "samples": samples[:, start:].tolist(),
    }


if __name__ == "__main__":
    policy, reader = load(sys.argv[1])
    for line in sys.stdin:
        print(json.dumps(act(policy, reader, json.loads(line))), flush=True)
