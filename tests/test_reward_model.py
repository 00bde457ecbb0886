"""A reward model's verdict is its own number for the very text that it should see.

Run alone: python -m pytest tests/test_reward_model.py
"""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra 'hf'")

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

from pivotrl import plugins
from pivotrl.judging.guarded import Verification
from pivotrl.plugins.describing import describe
from pivotrl.protocols import InputError, Turn
from pivotrl.records import Action, Message, ToolCall, Trajectory
from pivotrl.verifiers.reward_model import RewardModel
from tiny import save_tiny_model

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<call>{{ c.function.name }}{{ c.function.arguments | tojson }}</call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save(folder: Path, num_labels: int = 1, template: bool = True, max_positions: int = 512, **config: Any) -> Path:
    save_tiny_model(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE if template else None
    tokenizer.save_pretrained(folder)
    torch.manual_seed(num_labels)
    settings = {
        **json.loads((folder / "config.json").read_text()),
        "num_labels": num_labels,
        "max_position_embeddings": max_positions,
        "initializer_range": 0.3,
        **config,
    }
    for name in ("architectures", "model_type", "dtype", "id2label", "label2id"):
        settings.pop(name, None)
    LlamaForSequenceClassification(LlamaConfig(**settings)).save_pretrained(folder)
    return folder


def turn(question: str = "How much?") -> Turn:
    messages = (Message(role="user", content=question), Message(role="assistant", content="Five."))
    return Turn(Trajectory(id="t", task_id="t", messages=messages), 1)


@pytest.mark.parametrize("num_labels", [1, 2])
def test_the_reward_is_the_models_probability_of_prompt_and_action(tmp_path: Path, num_labels: int) -> None:
    folder = save(tmp_path / "model", num_labels)
    verifier = RewardModel(model=str(folder), style="template", device="cpu", dtype="float32")
    # Independently: the text by hand, the network's hidden states, the layer's own weights.
    model = LlamaForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rewards = []
    for said in ("Five.", "Six, or so.", "No <|im_end|> here"):
        text = f"<|im_start|>user\nHow much?<|im_end|>\n<|im_start|>assistant\n{said}"
        ids = tokenizer(text, add_special_tokens=False).input_ids
        if "<|im_end|>" in said:  # data stays data: spelled out, not the control token
            head, _, tail = text.rpartition("<|im_end|>")
            ids = [
                *tokenizer(head, add_special_tokens=False).input_ids,
                *tokenizer("<|im_end|>", add_special_tokens=False, split_special_tokens=True).input_ids,
                *tokenizer(tail, add_special_tokens=False).input_ids,
            ]
        ids.append(tokenizer.convert_tokens_to_ids("<|im_end|>"))
        with torch.no_grad():
            hidden = model.model(torch.tensor([ids])).last_hidden_state[0, -1]
            logits = hidden @ model.score.weight.T
        logit = logits[0] if num_labels == 1 else logits[1] - logits[0]
        verdict = verifier(turn(), Action(content=said))
        assert verdict.reward == pytest.approx(1 / (1 + float(torch.exp(-logit))), abs=1e-5)
        assert verdict.outcome == ("pass" if verdict.reward >= 0.5 else "fail")
        rewards.append(verdict.reward)
    assert len(set(rewards)) == 3
    if num_labels == 2:
        other = RewardModel(model=str(folder), style="template", device="cpu", dtype="float32", good_label=0)
        assert other(turn(), Action(content="Five.")).reward == pytest.approx(1 - rewards[0], abs=1e-5)


def test_threshold_and_what_it_cannot_score(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", max_positions=64)
    options = {"model": str(folder), "style": "template", "device": "cpu"}
    low, high = RewardModel(threshold=0.0, **options), RewardModel(threshold=1.0, **options)
    said = Action(content="Five.")
    assert (low(turn(), said).outcome, high(turn(), said).outcome) == ("pass", "fail")
    assert low(turn(), said).reward == high(turn(), said).reward not in (0.0, 1.0)
    assert low(turn(), Action()).reason == "empty_action"
    assert low(turn("How much? " * 20), said).reason == "context_too_long"
    broken = Action(tool_calls=(ToolCall(name="look", arguments="{oops"),))
    assert low(turn(), broken).reason == "arguments_not_json"


def test_it_runs_guarded_in_its_own_process_and_names_its_weights(tmp_path: Path) -> None:
    first, second = save(tmp_path / "a", 1), save(tmp_path / "b", 2)
    loaded = plugins.load("verifiers", f"reward_model(model={str(first)!r}, device='cpu', threshold=0.0)")
    with Verification(loaded, canaries=[turn()]) as guarded:
        assert guarded(turn(), Action(content="Six.")).outcome == "pass"
    other = RewardModel(model=str(second), device="cpu")
    assert loaded.weights in describe(loaded) and loaded.weights != other.weights
    assert len(loaded.weights) == 64


def test_what_is_no_reward_model_is_refused(tmp_path: Path) -> None:
    plain = save_tiny_model(tmp_path / "plain")  # its classifying layer would be random
    with pytest.raises(InputError, match="not a reward model: it has no weights for score"):
        RewardModel(model=str(plain), device="cpu")
    with pytest.raises(InputError, match="has 3 labels"):
        RewardModel(model=str(save(tmp_path / "three", 3)), device="cpu")
    with pytest.raises(InputError, match="there is no folder"):
        RewardModel(model=str(tmp_path / "nothing"), device="cpu")
    with pytest.raises(InputError, match="must lie in"):
        RewardModel(model=str(plain), threshold=2.0)
    pickled = save(tmp_path / "pickled")
    weights = pickled / "model.safetensors"
    torch.save({}, pickled / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(InputError, match=r"holds only pytorch_model\.bin"):
        RewardModel(model=str(pickled), device="cpu")
