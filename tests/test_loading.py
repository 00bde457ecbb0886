"""No code that comes with a model runs; a name that leads nowhere fails at once; every named end token ends a sample.

Run alone: python -m pytest tests/test_loading.py
"""

from __future__ import annotations

import ast
import builtins
import http.server
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers import dynamic_module_utils as dynamic

import pivotrl
from architectures import save
from chat_tokenizers import small_tokenizer, source, tokenizer_for
from pivotrl import cli
from pivotrl.engine import locating
from pivotrl.engine.loading import load_model
from pivotrl.engine.tokenizers import load_tokenizer
from pivotrl.policies.hf import Policy
from pivotrl.protocols import InputError
from pivotrl.verifiers.reward_model import RewardModel

ROOT = Path(pivotrl.__file__).parent
CODE = """
from pathlib import Path
Path({marker!r}).write_text("ran")
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast
class OwnConfig(LlamaConfig):
    model_type = {kind!r}
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
class OwnScorer(LlamaForSequenceClassification):
    config_class = OwnConfig
class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""
MAP = {
    "AutoConfig": "own.OwnConfig",
    "AutoModelForCausalLM": "own.OwnModel",
    "AutoModelForSequenceClassification": "own.OwnScorer",
    "AutoTokenizer": ["own.OwnTokenizer", "own.OwnTokenizer"],
    "AutoProcessor": "own.OwnTokenizer",
}


def change(file: Path, **values: Any) -> None:
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | values))


# --- code that comes with a model ------------------------------------------------------------------------------------


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What was asked; everything is answered with yes, as by ``yes y |`` or at a terminal."""
    asked: list[str] = []
    monkeypatch.setattr(builtins, "input", lambda question="": (asked.append(question), "y")[1])
    monkeypatch.setattr(dynamic, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    return asked


def hostile(folder: Path, part: str) -> Path:
    """A model whose ``part`` has code of its own, which leaves a marker behind."""
    save("llama", folder)
    kind = "tomorrow" if part.startswith("unknown type") else "llama"
    (folder / "own.py").write_text(CODE.format(marker=str(folder / "marker"), kind=kind))
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(f"open({str(folder / 'marker')!r}, 'w')")
    if "type" in part:
        change(folder / "config.json", auto_map=MAP, model_type=kind)
    if "tokenizer" in part:
        change(folder / "tokenizer_config.json", auto_map=MAP, tokenizer_class="OwnTokenizer")
    if "processor" in part:
        change(folder / "processor_config.json", auto_map=MAP, processor_class="OwnTokenizer")
        change(folder / "preprocessor_config.json", auto_map=MAP)
    return folder


PARTS = (
    "unknown type",
    "known type",
    "tokenizer",
    "unknown type and tokenizer",
    "known type and tokenizer",
    "processor",
)


@pytest.mark.parametrize("part", PARTS)
def test_no_code_that_comes_with_a_model_runs(
    part: str, tmp_path: Path, questions: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = hostile(tmp_path / "model", part)
    log = tmp_path / "log.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "a"}]} for i in range(4)
    ]
    log.write_text("\n".join(map(json.dumps, rows)))
    run = str(tmp_path / "run")
    cli.main(["read", str(log), "-o", run])
    sampled = ["--num-samples", "2", "--max-tokens", "4", "--policy", "hf(lora_rank=2, device='cpu')"]
    commands = [
        ["run", str(log), "-o", str(tmp_path / "other"), "--model", str(folder), *sampled],
        ["profile", run, "--model", str(folder), *sampled],
        ["show", run, "log#0", "--model", str(folder), "--tokens"],
        ["profile", run, "--policy", "tabular", "--verifier", f"reward_model(model={str(folder)!r}, device='cpu')"],
    ]
    for command in commands:
        try:
            cli.main(command)
        except SystemExit as stopped:
            assert stopped.code in (2, 3)
        assert "Traceback" not in capsys.readouterr().err
    if part.startswith("unknown type"):
        with pytest.raises(InputError, match="code of its own, which never runs here"):
            load_model(str(folder), torch.device("cpu"), torch.float32)
    elif "tokenizer" in part:
        with pytest.raises(InputError, match="tokenizer of .* code of its own, which never runs here"):
            load_tokenizer(str(folder))
    else:  # the library's own class is used
        model, tokenizer, _ = load_model(str(folder), torch.device("cpu"), torch.float32)
        assert type(model) is transformers.LlamaForCausalLM
        assert type(tokenizer).__module__.startswith("transformers.")
    assert questions == [] and not (folder / "marker").exists()


@pytest.mark.parametrize("part", PARTS[:-1])
def test_the_same_code_runs_where_it_is_trusted(part: str, tmp_path: Path, questions: list[str]) -> None:
    """The marker above is no dud."""
    folder = hostile(tmp_path / "model", part)
    loader = AutoConfig if "type" in part else AutoTokenizer
    loader.from_pretrained(str(folder), trust_remote_code=True)
    assert (folder / "marker").exists()


def test_a_reward_model_with_code_of_its_own_is_refused(tmp_path: Path, questions: list[str]) -> None:
    folder = hostile(tmp_path / "model", "unknown type")
    change(folder / "config.json", architectures=["OwnScorer"])
    with pytest.raises(InputError, match="code of its own, which never runs here"):
        RewardModel(model=str(folder), device="cpu")
    assert questions == [] and not (folder / "marker").exists()


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_call_that_could_load_code_says_no(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner = ast.unparse(node.func.value)
        if node.func.attr in ("from_pretrained", "from_config") and not owner.startswith("Peft"):  # peft loads none
            said = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert said.get("trust_remote_code") == "False", f"{path.name}:{node.lineno}"


# --- names that lead nowhere ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["./nomodel", "../nomodel", "/no/such/model", "~/nomodel", "models/x", "a/b/c", "models/", ""]
)
def test_a_folder_that_is_not_there_is_said_to_be_missing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locating, "_fetch", None)  # the hub is not asked
    with pytest.raises(InputError, match="there is no folder|no config.json"):
        load_tokenizer(name)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("")
    with pytest.raises(InputError, match="is a file; give the folder"):
        load_tokenizer(str(tmp_path / "model.gguf"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[int | None], list[str]]]:
    """A hub that answers every request with a status, or with None never; gives the list of requests."""
    servers = []

    def start(status: int | None) -> list[str]:
        requests: list[str] = []
        done = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if "some/model" in self.path:
                    requests.append(self.path)
                if status is None:
                    done.wait(30)
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append((server, done))
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        return requests

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield start
    for server, done in servers:
        done.set()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [401, 404, 429, 503, None])
def test_an_id_that_cannot_be_fetched_fails_after_one_try(
    status: int | None, hub: Callable[[int | None], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locating, "_SECONDS", 0.5)
    requests, began = hub(status), time.monotonic()
    with pytest.raises(
        InputError, match=r"there is no folder 'some/model', and .*HF_HOME.*HF_HUB_OFFLINE=1"
    ) as refusal:
        load_tokenizer("some/model")
    assert len(str(refusal.value).splitlines()) == 1
    assert len(requests) == 1 and time.monotonic() - began < 10


def test_without_a_network_the_cache_is_used(
    tmp_path: Path, hub: Callable[[int | None], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub(503)
    cache = tmp_path / "hub" / "models--some--model"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("a" * 40)
    made = save("llama", tmp_path / "model")
    shutil.copytree(made, cache / "snapshots" / ("a" * 40))
    model, _, identity = load_model("some/model", torch.device("cpu"), torch.float32)
    assert model.config.name_or_path == "some/model"
    assert identity == load_model(str(made), torch.device("cpu"), torch.float32)[2]


# --- end tokens -------------------------------------------------------------------------------------------------------

ENDS = {
    "glm4moe": ("<|endoftext|>", "<|user|>", "<|observation|>"),
    "llama3_1": ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
    "qwen2_5": ("<|im_end|>", "<|endoftext|>"),
    "gemma3": ("<eos>", "<end_of_turn>"),
    "gptoss": ("<|return|>", "<|endoftext|>", "<|call|>"),
    "phi3": ("<|endoftext|>", "<|assistant|>", "<|end|>"),
}


def chat_model(folder: Path, template: str, ends: tuple[str, ...]) -> tuple[Path, list[int]]:
    tokenizer = tokenizer_for(template)
    missing = tuple(text for text in ends if text not in tokenizer.get_vocab())
    if missing:
        own = tuple(tokenizer.added_tokens_decoder[i].content for i in sorted(tokenizer.added_tokens_decoder))
        tokenizer = small_tokenizer(source(template), (*own, *missing), tokenizer.eos_token)
    save("llama", folder)
    config = AutoConfig.from_pretrained(folder)
    config.vocab_size, config.eos_token_id = len(tokenizer), None
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    return folder, [tokenizer.convert_tokens_to_ids(text) for text in ends]


@pytest.mark.parametrize("place", ["generation_config.json", "config.json"])
@pytest.mark.parametrize("template", ENDS)
def test_every_end_token_that_a_model_names_ends_a_sample(template: str, place: str, tmp_path: Path) -> None:
    folder, ids = chat_model(tmp_path / "model", template, ENDS[template])
    change(folder / place, eos_token_id=ids)
    policy = Policy(model=str(folder), lora_rank=2, device="cpu")
    assert set(ids) <= policy.renderer.stop_ids
    assert set(ids) <= set(policy.identity["stop_ids"])


def test_a_profile_of_other_end_tokens_is_another_profile(tmp_path: Path) -> None:
    folder, ids = chat_model(tmp_path / "model", "glm4moe", ENDS["glm4moe"])
    before = Policy(model=str(folder), lora_rank=2, device="cpu").identity
    GenerationConfig(eos_token_id=ids).save_pretrained(folder)
    assert Policy(model=str(folder), lora_rank=2, device="cpu").identity != before


def test_ids_that_are_no_control_tokens_end_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, ids = chat_model(tmp_path / "model", "glm4moe", ENDS["glm4moe"])
    GenerationConfig(eos_token_id=[*ids, 7, 10_000]).save_pretrained(folder)
    policy = Policy(model=str(folder), lora_rank=2, device="cpu")
    assert set(ids) <= policy.renderer.stop_ids and not {7, 10_000} & policy.renderer.stop_ids
    assert "[7, 10000]" in caplog.text
