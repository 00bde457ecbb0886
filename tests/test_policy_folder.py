"""Every export, loaded by plain transformers and peft in a process of its own, is the policy in memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from pivotrl import Message, Trajectory
from pivotrl.policies.hf import Policy
from pivotrl.protocols import InputError, Turn
from pivotrl.records import Action, Tool, ToolCall
from pivotrl.rendering import Renderer
from tiny import save_tiny_model

STRANGER = """
import json, sys
import torch
from pathlib import Path
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

folders, ids, out = Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
found = {}
for folder in sorted(folders.iterdir()):
    settings = folder / "adapter_config.json"
    if settings.is_file():
        base = json.loads(settings.read_text())["base_model_name_or_path"]
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder)
    AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        found[folder.name] = model(torch.tensor([ids])).logits.float()
assert "pivotrl" not in sys.modules
save_file(found, out)
"""
IDS = [40, 41, 1, 99, 2, 77, 200, 13]

ADAPTERS: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": ["q_proj", "v_proj"]},
    "other modules": {"target_modules": ["up_proj", "down_proj"], "layers_to_transform": [1]},
    "rslora": {"target_modules": ["q_proj", "o_proj"], "use_rslora": True},
    "patterns": {
        "target_modules": ["q_proj", "k_proj", "gate_proj"],
        "rank_pattern": {"k_proj": 2, "layers.1.mlp.gate_proj": 9},
        "alpha_pattern": {"q_proj": 3},
    },
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "dora": {"target_modules": ["q_proj"], "use_dora": True},
    "saved": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
    "bias": {"target_modules": ["q_proj"], "bias": "all"},
    "tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [40, 77]},
}

WAYS: dict[str, tuple[str, str | None, dict[str, Any], str]] = {
    "lora": ("tied", None, {}, "adapter"),
    "lora, untied": ("untied", None, {}, "adapter"),
    "lora, upper layers": ("tied", None, {"frozen_layers": 1}, "adapter"),
    "lora, other scaling": ("tied", None, {"lora_rank": 3, "lora_alpha": 7}, "adapter"),
    "lora on lora": ("tied", "plain", {}, "adapter"),
    "lora on lora, untied": ("untied", "plain", {}, "adapter"),
    "lora on other modules": ("tied", "other modules", {"frozen_layers": 1}, "adapter"),
    "lora on upper layers": ("tied", "other modules", {}, "adapter"),
    "lora on rslora": ("tied", "rslora", {}, "adapter"),
    "lora on patterns": ("tied", "patterns", {"frozen_layers": 1}, "adapter"),
    "lora on head": ("untied", "head", {}, "adapter"),
    "lora on tied head": ("tied", "head", {}, "model"),
    "lora on dora": ("tied", "dora", {}, "model"),
    "lora on saved": ("untied", "saved", {}, "model"),
    "lora on saved, tied": ("tied", "saved", {}, "model"),
    "lora on embeddings": ("tied", "embeddings", {}, "model"),
    "lora on biases": ("biased", "bias", {}, "model"),
    "lora on tokens": ("tied", "tokens", {}, "model"),
    "merged": ("tied", None, {"export": "merged"}, "model"),
    "merged, untied": ("untied", "plain", {"export": "merged", "frozen_layers": 1}, "model"),
    "full": ("tied", None, {"lora_rank": 0}, "model"),
    "full, untied": ("untied", None, {"lora_rank": 0}, "model"),
    "full, upper layers": ("tied", None, {"lora_rank": 0, "frozen_layers": 1}, "model"),
    "full on lora": ("tied", "plain", {"lora_rank": 0}, "model"),
    "full on tied head": ("tied", "head", {"lora_rank": 0}, "model"),
}
"""(model, adapter that training begins with, options of the policy, what is written)"""


def shake(parameters: Any, size: float = 0.1) -> None:
    """As if they had been trained."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn_like(parameter) * size)


def make_policy(base: Path, adapter: Path | None, **options: Any) -> Policy:
    settings = {"lora_rank": 4, "device": "cpu", "executor": "reference", **options}
    return Policy(model=str(base), adapter=str(adapter) if adapter else None, **settings)


@torch.no_grad()
def logits(policy: Policy) -> torch.Tensor:
    return policy.model(torch.tensor([IDS])).logits.float()


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    return {
        "tied": save_tiny_model(root / "tied", initializer_range=0.1),
        "untied": save_tiny_model(root / "untied", initializer_range=0.1, tie_word_embeddings=False),
        "biased": save_tiny_model(root / "biased", initializer_range=0.1, attention_bias=True),
    }


def make_adapter(base: Path, folder: Path, options: dict[str, Any]) -> Path:
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 6, "task_type": "CAUSAL_LM", **options})
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    shake(parameter for parameter in model.parameters() if parameter.requires_grad)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(
    bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """(the exports' folder, logits of the policies in memory, logits of the exports in another process)"""
    root = tmp_path_factory.mktemp("exports")
    wanted = {}
    for way, (base, first, options, _) in WAYS.items():
        adapter = make_adapter(bases[base], root / "adapters" / way, ADAPTERS[first]) if first else None
        policy = Policy(
            model=str(bases[base]),
            adapter=str(adapter) if adapter else None,
            **{"lora_rank": 4, "device": "cpu", **options},
        )
        shake(policy.weights.trained().values())
        wanted[way] = logits(policy)
        policy.export(root / "exports" / way)
        assert torch.equal(logits(policy), wanted[way]), "writing the policy changed it"
    without_first = root / "exports" / "hostile twin"  # what was exported once: the second adapter on the plain base
    policy = make_policy(bases["tied"], None)
    shake(policy.weights.trained().values())
    policy.export(without_first)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", STRANGER, str(root / "exports"), json.dumps(IDS), str(root / "logits.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    assert "missing" not in done.stderr.lower() and "newly initialized" not in done.stderr, done.stderr
    return root / "exports", wanted, load_file(root / "logits.safetensors")


@pytest.mark.parametrize("way", WAYS)
def test_an_export_is_the_policy(way: str, loaded: Any) -> None:
    folder, wanted, found = loaded
    assert (found[way] - wanted[way]).abs().max() < 1e-3
    kind = "adapter" if (folder / way / "adapter_config.json").is_file() else "model"
    assert kind == WAYS[way][3]


def test_an_export_without_the_first_adapter_is_another_policy(loaded: Any) -> None:
    _, wanted, found = loaded
    assert (found["hostile twin"] - wanted["lora on lora"]).abs().max() > 0.1
    assert (wanted["lora on lora"] - wanted["lora"]).abs().max() > 0.1


def test_nothing_of_a_half_written_folder_is_left(loaded: Any) -> None:
    folder, _, _ = loaded
    assert sorted(path.name for path in folder.iterdir()) == sorted([*WAYS, "hostile twin"])


@pytest.mark.parametrize("way", ["lora on lora", "merged", "full", "lora on dora"])
def test_the_lines_of_the_readme_load_the_policy(way: str, loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, wanted, _ = loaded
    text = (folder / way / "README.md").read_text()
    lines = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert lines is not None
    names: dict[str, Any] = {}
    exec(lines[1].replace("FOLDER", str(folder / way)), names)  # noqa: S102
    with torch.no_grad():
        found = names["model"](torch.tensor([IDS])).logits
    assert (found - wanted[way]).abs().max() < 1e-3
    assert "vllm serve" in text and "ChatML" in text and "<|im_start|>assistant" in text


def test_bfloat16_weights_are_written_as_they_act(bases: dict[str, Path], tmp_path: Path) -> None:
    adapter = make_adapter(bases["tied"], tmp_path / "first", ADAPTERS["plain"])
    for export in ("adapter", "merged"):
        policy = make_policy(bases["tied"], adapter, dtype="bfloat16", export=export)
        shake(policy.weights.trained().values())
        policy.export(tmp_path / export)
        with policy.weights.folded():
            wanted = logits(policy)
        if export == "merged":
            model = AutoModelForCausalLM.from_pretrained(tmp_path / export)
            assert model.dtype == torch.bfloat16
        else:
            base = AutoModelForCausalLM.from_pretrained(bases["tied"], dtype=torch.bfloat16)
            model = peft.PeftModel.from_pretrained(base, tmp_path / export)
        with torch.no_grad():
            found = model(torch.tensor([IDS])).logits.float()
        assert (found - wanted).abs().max() <= (0.0 if export == "merged" else 0.05) * wanted.abs().max()


def test_the_base_is_named_by_a_path_that_works_everywhere(
    bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bases["tied"].parent)
    Policy(model="tied", lora_rank=2, device="cpu").export(tmp_path / "policy")
    settings = json.loads((tmp_path / "policy" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(bases["tied"].resolve())


def test_an_exported_adapter_goes_in_again(bases: dict[str, Path], tmp_path: Path) -> None:
    adapter = make_adapter(bases["tied"], tmp_path / "first", ADAPTERS["patterns"])
    policy = make_policy(bases["tied"], adapter)
    shake(policy.weights.trained().values())
    policy.export(tmp_path / "policy")
    again = Policy(model=str(bases["tied"]), adapter=str(tmp_path / "policy"), trainable=False, device="cpu")
    assert (logits(again) - logits(policy)).abs().max() < 1e-4


def test_a_checkpoint_goes_on_where_the_export_was_made(bases: dict[str, Path], tmp_path: Path) -> None:
    adapter = make_adapter(bases["tied"], tmp_path / "first", ADAPTERS["plain"])
    policies = [make_policy(bases["tied"], adapter, export=export) for export in ("adapter", "merged")]
    assert policies[0].identity == policies[1].identity
    assert policies[0].training_identity == policies[1].training_identity
    shake(policies[0].weights.trained().values())
    policies[0].save(tmp_path / "checkpoint")
    policies[1].load(tmp_path / "checkpoint")
    for number, policy in enumerate(policies):
        policy.export(tmp_path / str(number))
    assert (tmp_path / "0" / "adapter_model.safetensors").is_file() and (tmp_path / "1" / "model.safetensors").is_file()
    assert torch.equal(logits(policies[0]), logits(policies[1]))


def test_the_scaling_of_an_adapter_is_part_of_the_identity(bases: dict[str, Path], tmp_path: Path) -> None:
    adapter = make_adapter(bases["tied"], tmp_path / "first", ADAPTERS["plain"])
    options = {"model": str(bases["tied"]), "adapter": str(adapter), "trainable": False, "device": "cpu"}
    before = Policy(**options).identity
    settings = adapter / "adapter_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"revision": "main"}))
    assert Policy(**options).identity == before
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"lora_alpha": 12}))
    assert Policy(**options).identity != before


@pytest.mark.parametrize("rank", [0, 4])
def test_weights_that_are_not_finite_are_never_written(rank: int, bases: dict[str, Path], tmp_path: Path) -> None:
    policy = Policy(model=str(bases["tied"]), lora_rank=rank, device="cpu")
    policy.export(tmp_path / "policy")
    before = {path.name: path.read_bytes() for path in (tmp_path / "policy").iterdir()}
    with torch.no_grad():
        next(iter(policy.weights.trained().values())).view(-1)[0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        policy.export(tmp_path / "policy")
    assert {path.name: path.read_bytes() for path in (tmp_path / "policy").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


def test_what_to_export_is_one_of_two(bases: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="'adapter' or 'merged'"):
        Policy(model=str(bases["tied"]), export="gguf")  # type: ignore[arg-type]


def conversation() -> Turn:
    tools = tuple(
        Tool(name=name, description=f"To {name} “things”", parameters={"type": "object", "properties": {"q": {}}})
        for name in ("look", "take")
    )
    call = ToolCall(name="look", arguments='{"q": "é", "n": [1, 2.5, null, true]}', id="c1")
    messages = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="What is there?\n  <b>\\n</b>"),
        Message(role="assistant", content="I look.", tool_calls=(call, call), reasoning="Hmm."),
        Message(role="tool", content='{"found": "a lamp"}', tool_call_id="c1"),
        Message(role="assistant", content=None, tool_calls=(call,)),
        Message(role="tool", content="", tool_call_id="c1"),
        Message(role="assistant", content="A lamp."),
    )
    return Turn(Trajectory(id="a", task_id="t", messages=messages, tools=tools), 6)


@pytest.mark.parametrize("with_tools", [True, False])
@pytest.mark.parametrize("with_system", [True, False])
def test_the_exported_chat_template_writes_our_chatml(
    with_tools: bool, with_system: bool, bases: dict[str, Path], loaded: Any
) -> None:
    policy = Policy(model=str(bases["tied"]), trainable=False, style="chatml", device="cpu")
    whole = conversation().trajectory
    kept = whole.messages if with_system else whole.messages[1:]
    whole = whole.model_copy(update={"messages": kept, "tools": whole.tools if with_tools else ()})
    tokenizer = AutoTokenizer.from_pretrained(loaded[0] / "lora")
    messages = [
        {
            "role": message.role,
            "content": message.content,
            "tool_calls": [
                {"type": "function", "function": {"name": call.name, "arguments": json.loads(call.arguments)}}
                for call in message.tool_calls
            ],
        }
        for message in whole.messages[:-1]
    ]
    tools = [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
        }
        for tool in whole.tools
    ]
    found = tokenizer.apply_chat_template(messages, tools=tools or None, add_generation_prompt=True)["input_ids"]
    assert tokenizer.decode(found) == tokenizer.decode(policy.renderer.prompt(Turn(whole, len(kept) - 1)))
    assert list(found) == list(policy.renderer.prompt(Turn(whole, len(kept) - 1)))


def test_pivotrl_itself_reads_the_exported_chat_template(bases: dict[str, Path], loaded: Any) -> None:
    turn, ours = conversation(), Policy(model=str(bases["tied"]), trainable=False, device="cpu").renderer
    again = Renderer(AutoTokenizer.from_pretrained(loaded[0] / "lora"), "template")
    assert again.prompt(turn) == ours.prompt(turn) and again.stop_ids == ours.stop_ids
    action = turn.trajectory.messages[2]
    called = Action(content=action.content, tool_calls=action.tool_calls)
    assert again.encode_action(called, turn) == ours.encode_action(called, turn)
    assert again.parse(ours.decode(ours.encode_action(called)), turn) == ours.parse(
        ours.decode(ours.encode_action(called)), turn
    )


def test_a_policy_that_uses_its_own_template_says_so(tmp_path: Path) -> None:
    base = save_tiny_model(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = (
        "{{ strftime_now('%Y') }}{% for m in messages %}<|im_start|>{{ m['role'] }}: {{ m['content'] }}<|im_end|>"
        "{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"
    )
    tokenizer.save_pretrained(base)
    policy = make_policy(base, None, style="template", variables={"enable_thinking": False}, export="merged")
    policy.export(tmp_path / "policy")
    text = (tmp_path / "policy" / "README.md").read_text()
    assert "the chat template of its tokenizer" in text and "enable_thinking=False" in text and "2024-07-26" in text
    assert AutoTokenizer.from_pretrained(tmp_path / "policy").chat_template == tokenizer.chat_template
    ends = json.loads((tmp_path / "policy" / "generation_config.json").read_text())["eos_token_id"]
    assert set(ends) == set(policy.renderer.stop_ids)


def test_a_template_that_knows_no_tools_leaves_with_our_chatml_for_those_turns(tmp_path: Path) -> None:
    base = save_tiny_model(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}: {{ m['content'] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"
    )
    tokenizer.save_pretrained(base)
    policy = make_policy(base, None)
    policy.export(tmp_path / "policy")
    exported = AutoTokenizer.from_pretrained(tmp_path / "policy")
    tool = Tool(name="look", description="Look.", parameters={"type": "object", "properties": {}})
    messages = (Message(role="user", content="Go"), Message(role="assistant", content="I go."))
    for tools in ((), (tool,)):
        turn = Turn(Trajectory(id="a", task_id="t", messages=messages, tools=tools), 1)
        given = [{"type": "function", "function": tool.model_dump()} for tool in tools]
        found = exported.apply_chat_template(
            [{"role": "user", "content": "Go"}], tools=given or None, add_generation_prompt=True
        )["input_ids"]
        assert exported.decode(found) == exported.decode(policy.renderer.prompt(turn))
    assert "ChatML wherever tools are given" in (tmp_path / "policy" / "README.md").read_text()
