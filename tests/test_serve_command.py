"""`pivotrl serve` as a user starts and ends it, what it serves, and what it refuses.

Run alone: python -m pytest tests/test_serve_command.py
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra 'hf'")
pytest.importorskip("uvicorn", reason="needs the extra 'serve'")

import httpx

from finished_run import finish_run
from pivotrl import SelectionOptions, TrainingOptions, run, summarise
from pivotrl.cli import main
from pivotrl.judging.lint import CheckOptions
from pivotrl.policies.hf import Policy
from pivotrl.profiling import ProfileOptions
from pivotrl.protocols import InputError
from pivotrl.readers.chat import read
from pivotrl.serving.choosing import choose
from pivotrl.serving.server import listen
from pivotrl.serving.vllm_process import command
from pivotrl.templates.chatml_template import CHATML_TEMPLATE
from pivotrl.verifiers.exact import verify
from serving_setup import Process, models_of, post, said, serving, wait_until
from test_pipeline import write_logs
from tiny import save_tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = save_tiny_model(
        tmp_path_factory.mktemp("models") / "tiny", tie_word_embeddings=False, initializer_range=0.3
    )
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    """A run that trained a step at every turn, so that its policy differs from the model."""
    place = tmp_path_factory.mktemp("run")
    write_logs(place / "logs.jsonl", 4)
    policy = Policy(model=str(folder), lora_rank=4, device="cpu", style="chatml")
    options = TrainingOptions(method="sft", num_steps=2, turns_per_step=2, learning_rate=0.05)
    run(
        str(place / "logs.jsonl"),
        place / "run",
        reader=read,
        verifier=verify,
        policy=policy,
        profiling=ProfileOptions(num_samples=2, max_tokens=4),
        selection=SelectionOptions(rule="all"),
        training=options,
        checking=CheckOptions(check_turns=2, probes_per_kind=1),
    )
    return place / "run"


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["serve", *arguments])
    assert stopped.value.code == 2
    return " ".join(capsys.readouterr().err.split())


# --- what is served ---


def test_a_run_serves_its_policy_before_and_after_training(trained: Path, folder: Path) -> None:
    after, before = choose(str(trained), both=True)[::-1]
    assert (before.name, before.adapter, after.name) == ("before", None, "after")
    assert after.adapter == trained / "train" / "policy" and after.options["style"] == "chatml"
    models = [*models_of(trained, "after"), *models_of(trained, "before", before=True), *models_of(folder, "plain")]
    with serving(models) as (url, _):
        names = ("before", "after")
        told = {name: said(url, "Hello", model=name, temperature=0)["message"]["content"] for name in names}
        plain = said(url, "Hello", model="plain", temperature=0)["message"]["content"]
        listed = {row["id"]: row["sha"] for row in httpx.get(f"{url}/models").json()["data"]}
    assert told["after"] != told["before"] == plain
    assert len(set(listed.values())) == 3 - 1, "before is the plain model, and its weights say so"
    expected = Policy(model=str(folder), adapter=str(after.adapter), trainable=False, device="cpu")
    assert models[0].sha256 != models[1].sha256 and expected.max_context == models[0].max_context


def test_an_exported_adapter_is_prompted_as_it_was_trained(trained: Path) -> None:
    policy = trained / "train" / "policy"
    assert (policy / "chat_template.jinja").read_text() == CHATML_TEMPLATE
    (choice,) = choose(str(policy))
    assert choice.options == {"style": "chatml"} and choice.adapter == policy


def test_options_that_do_not_fit_are_refused(trained: Path, folder: Path, tmp_path: Path) -> None:
    for arguments, told in (
        ({"before": True, "both": True}, "contradict"),
        ({"both": True, "name": "x"}, "--name"),
        ({"policy": "tabular"}, "no language model"),
        ({"training": "other"}, "trainings/other.manifest.json"),
    ):
        with pytest.raises(InputError, match=told):
            choose(str(trained), **arguments)
    with pytest.raises(InputError, match="--before"):
        choose(str(folder), before=True)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="names no base model"):
        choose(str(tmp_path))


def test_a_benchmark_is_played_before_and_after_training(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "plugins"))
    words = ["bench", "sums_bench:Harness(num_tasks=2)", str(trained), "--harness-python", sys.executable]
    main([*words, "--engine", "own", "--processes", "1"])
    assert "before" in (told := capsys.readouterr().out) and "after" in told and "2 of 2 tasks" in told
    (bench,) = summarise(trained).benches
    before, after = bench.players
    assert (before.name, after.name) == ("before", "after") and not (before.no_verdict or after.no_verdict)
    assert after.difference is not None and after.difference.num_items == 2
    main(["status", str(trained), "--json"])
    states = {stage["stage"]: stage["state"] for stage in json.loads(capsys.readouterr().out)["stages"]}
    assert states["bench/sums_bench/after"] == "done"


def test_a_run_without_a_language_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tabular has no language model"):
        choose(str(finish_run(tmp_path)))


def test_vllm_gets_the_right_command(tmp_path: Path) -> None:
    words = command("python", "/m", 9, {"after": (tmp_path, 12)}, "auto", ["--max-model-len", "99"])
    line = " ".join(words)
    assert "--enable-lora --max-lora-rank 16" in line and f"--lora-modules after={tmp_path}" in line
    assert line.endswith("--max-model-len 99") and "--host 127.0.0.1 --port 9" in line
    with pytest.raises(InputError, match="rank of? ?9999|9999"):
        command("python", "/m", 9, {"after": (tmp_path, 9999)}, "auto", [])


# --- what is refused at the start ---


def test_faults_are_told_in_one_line(
    trained: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is no folder" in refusal(capsys, str(tmp_path / "none" / "such" / "model"), "--port", "0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = refusal(capsys, str(folder), "--port", str(taken.getsockname()[1]))
        assert "is in use" in told and "--port" in told
    assert "cannot listen" in refusal(capsys, str(folder), "--host", "192.0.2.1", "--port", "0")
    assert "blanks" in refusal(capsys, str(folder), "--api-key", "a b")
    assert "is no program" in refusal(capsys, str(folder), "--vllm-python", str(tmp_path), "--port", "0")
    assert "no manifest" in refusal(capsys, str(folder), "--both")
    damaged = tmp_path / "damaged"
    shutil.copytree(trained, damaged)
    weights = damaged / "train" / "policy" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "adapter_model.safetensors was changed" in refusal(capsys, str(damaged), "--port", "0")


def test_an_open_door_is_told_of() -> None:
    with pytest.warns(UserWarning, match="no key is asked for"):
        listen("0.0.0.0", 0, has_key=False).close()  # noqa: S104
    listen("127.0.0.1", 0, has_key=False).close()


# --- its life and end ---


def test_sigterm_finishes_what_runs_and_ends_with_0(folder: Path) -> None:
    server = Process(str(folder), "--name", "m", "--port", "0", "--engine", "own", PIVOTRL_API_KEY="secret")
    url = server.url()
    assert httpx.get(f"{url}/models").status_code == 401, "the key of the environment is asked for"
    answers: list[Any] = []
    body = {"model": "m", "prompt": "x", "max_tokens": 400, "ignore_eos": True, "seed": 1}
    headers = {"Authorization": "Bearer secret"}
    asking = threading.Thread(
        target=lambda: answers.append(httpx.post(f"{url}/completions", json=body, headers=headers, timeout=60))
    )
    asking.start()
    health = f"{url.removesuffix('/v1')}/health"
    assert wait_until(lambda: httpx.get(health).json()["num_requests"] == 1)
    code, told = server.end(signal.SIGTERM)
    asking.join(60)
    assert code == 0 and "finishing 1 request" in told and "Traceback" not in told
    assert answers[0].status_code == 200 and answers[0].json()["usage"]["completion_tokens"] == 400


def test_a_second_ctrl_c_drops_what_runs(folder: Path) -> None:
    server = Process(str(folder), "--name", "m", "--port", "0", "--engine", "own")
    url = server.url()
    body = {"model": "m", "prompt": "x", "max_tokens": 2000, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{url}/completions", json=body, timeout=60) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines).removeprefix("data: "))["choices"]
        server.process.send_signal(signal.SIGINT)
        assert wait_until(lambda: not _listens(url))
        code, told = server.end(signal.SIGINT)
    assert code == 130 and "Traceback" not in told


def _listens(url: str) -> bool:
    try:
        return post(url, "completions", prompt="x", max_tokens=1).status_code == 200
    except httpx.HTTPError:
        return False
