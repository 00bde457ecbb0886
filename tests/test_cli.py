"""What bad input gets: place, fault and remedy in one message, an exit code, nothing lost, never a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chat_tokenizers import tokenizer_for
from pivotrl.cli import main
from pivotrl.runs.manifest import read_manifest
from test_pipeline import write_logs
from tiny import save_tiny_model

FAST = ["--policy", "tabular", "--verifier", "exact", "--num-samples", "4", "--num-steps", "3", "--learning-rate", "1"]
FAST += ["--turns-per-step", "4", "--group-size", "4"]


def call(*arguments: object) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    assert call(*arguments) == code
    told = capsys.readouterr().err
    assert "Traceback" not in told
    return " ".join(told.split())


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return write_logs(tmp_path / "logs.jsonl")


def test_every_stage_by_hand_gives_what_run_gives(
    tmp_path: Path, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", logs, "-o", tmp_path / "one", *FAST) == 0
    many = tmp_path / "many"
    verifier, policy = ["--verifier", "exact"], ["--policy", "tabular"]
    training = ["--num-steps", "3", "--learning-rate", "1", "--turns-per-step", "4", "--group-size", "4"]
    assert call("read", logs, "-o", many) == 0
    assert call("profile", many, *policy, *verifier, "--num-samples", "4") == 0
    assert call("select", many) == 0
    assert call("evaluate", many, *policy, *verifier, "--name", "before") == 0
    assert call("train", many, *policy, *verifier, *training) == 0
    assert call("evaluate", many, *policy, *verifier, "--name", "after") == 0
    capsys.readouterr()
    assert call("report", many, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["complete"]
    for name in ("profiles.jsonl", "selection.jsonl", "train/groups.jsonl", "evaluations/after.turns.jsonl"):
        assert (many / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name


def test_thresholds_change_without_sampling_again(
    tmp_path: Path, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    call("read", logs, "-o", out)
    call("profile", out, *FAST[:6])
    profiles = (out / "profiles.jsonl").read_bytes()
    pivots = []
    for max_mean in (0.3, 0.9, 0.6):
        assert call("select", out, "--max-mean", max_mean) == 0
        pivots.append(read_manifest(out / "select.manifest.json").counts["pivots"])
    assert pivots[0] < pivots[2] < pivots[1]
    assert (out / "profiles.jsonl").read_bytes() == profiles
    assert not (out / "replaced").exists()


def test_check_show_and_list_tell_what_is_there(tmp_path: Path, logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    call("run", logs, "-o", out, *FAST)
    capsys.readouterr()
    assert call("check", out, "--verifier", "exact", "--json") == 0
    checked = json.loads(capsys.readouterr().out)
    assert checked["accepts_expected"]["count"] == checked["num_turns"] > 0
    call("show", out, "log0#2")
    shown = capsys.readouterr().out
    assert "q0.0" in shown and "answer 0.0" in shown
    call("list", "--json")
    listed = {(row["kind"], row["name"]) for row in json.loads(capsys.readouterr().out)}
    assert {
        ("readers", "tau_bench"),
        ("verifiers", "tool_call"),
        ("policies", "hf"),
        ("samplers", "scripted"),
    } <= listed


def test_show_says_what_writes_a_prompt_and_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs, out = tmp_path / "logs.jsonl", tmp_path / "run"
    say = {"role": "assistant", "content": "No.", "reasoning_content": "91 is 7 times 13."}
    asks = {"role": "user", "content": "Is 91 prime?"}
    messages = [asks, say, {**asks, "content": "And 49?"}, {**say, "reasoning_content": "7 times 7."}]
    tools = [{"type": "function", "function": {"name": "look"}}]
    rows = [
        {"id": "a", "messages": messages},
        {"id": "b", "messages": [{**asks, "content": "Is 7 odd?"}, say], "tools": tools},
        {"id": "c", "messages": [{"role": "system", "content": "Be brief."}, {**asks, "content": "Is 2 even?"}, say]},
    ]
    logs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    call("read", logs, "-o", out, "--heldout-fraction", "0")
    for name in ("qwen3", "qwen2_5_vl", "gemma"):
        (tmp_path / name).mkdir()
        tokenizer_for(name).save_pretrained(tmp_path / name)
        (tmp_path / name / "config.json").write_text('{"model_type": "qwen2"}')

    def shown(name: str, turn: str) -> str:
        capsys.readouterr()
        assert call("show", out, turn, "--model", tmp_path / name) == 0
        return " ".join(capsys.readouterr().out.split())

    text = shown("qwen3", "a#3")
    assert "Written by the model's own chat template. Left out: messages[1]: reasoning." in text
    assert text.endswith("<think> 7 times 7. </think> No.<|im_end|>")  # the demonstration as imitation trains it
    assert "Written by the model's own chat template. Left out: nothing." in shown("qwen2_5_vl", "a#1")
    assert "Written by our ChatML, as the model's own chat template knows no tools." in shown("qwen2_5_vl", "b#1")
    told = refused(capsys, 2, "show", out, "c#2", "--model", tmp_path / "gemma")
    assert "c#2 cannot be written for this model" in told and "System role not supported" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "nowhere.jsonl", "-o", "OUT", *FAST], "nowhere.jsonl"),
        (["run", "LOGS", "-o", "OUT", "--reader", "chatt"], "no reader called 'chatt'; did you mean 'chat'? There are"),
        (
            ["run", "LOGS", "-o", "OUT", "--verifier", "tool_call(ignorecase=True)"],
            "tool_call has no option 'ignorecase'",
        ),
        (["run", "LOGS", "-o", "OUT", "--verifier", "tool_call(("], "cannot read 'tool_call(('"),
        (["run", "LOGS", "-o", "OUT", "--verifier", "no.such.module:verify"], "cannot import"),
        (["run", "LOGS", "-o", "OUT", "--verifier", "broken_rules:verify"], "SyntaxError"),
        (["run", "LOGS", "-o", "OUT", "--verifier", "first_decisive(verifiers=3)"], "must be a list of verifiers"),
        (["run", "LOGS", "-o", "OUT", "--canary-every", "0"], "--canary-every must be"),
        (["run", "LOGS", "-o", "OUT", "--max-false-pass", "2"], "--max-false-pass must be"),
        (["run", "LOGS", "-o", "OUT", "--model", "EMPTY"], "is not a model folder: it has no config.json"),
        (["run", "LOGS", "-o", "OUT", "--policy", "hf(seed=1)", "--model", "BROKEN"], "cannot load the model"),
        (["run", "LOGS", "-o", "OUT", "--policy", "tabular", "--retention", "none.jsonl"], "none.jsonl does not exist"),
        (["run", "LOGS", "-o", "LOGS", *FAST], "is a file; give a directory"),
        (["report", "EMPTY"], "holds no run"),
        (["profile", "nowhere"], "nowhere is not a directory"),
        (["show", "EMPTY", "a#1"], "holds no run"),
        (["list", "gadgets"], "no kind of plugin called 'gadgets'"),
    ],
)
def test_wrong_names_and_places(
    arguments: list[str],
    told: str,
    tmp_path: Path,
    logs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "broken_rules.py").write_text("def verify(turn, action:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"model_type": "llama"}')
    places = {"LOGS": logs, "OUT": tmp_path / "out", "EMPTY": tmp_path / "empty", "BROKEN": tmp_path / "broken"}
    message = refused(capsys, 2, *[places.get(a, a) for a in arguments])
    assert told in message.replace(" ", "") or " ".join(told.split()) in message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "empty"),
        ("not json\n", "logs.jsonl:1"),
        ('{"messages": []}\n', "has the keys 'messages'"),
        ('{"hello": 1}\n', "has the keys 'hello'"),
        ('{"messages": [{"role": "user", "content": "hi"}]}\n', "logs.jsonl:1"),
        (
            '{"messages": [{"role": "user", "content": "hi"}, {"role": "wizard", "content": "a"}]}\n',
            "has the keys 'messages'",
        ),
        ("[" * 100_000 + "\n", "logs.jsonl"),
    ],
)
def test_files_that_are_no_trajectories(
    content: str, told: str, tmp_path: Path, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.write_text(content)
    assert told in refused(capsys, 2, "run", logs, "-o", tmp_path / "out", *FAST)


def test_a_run_is_not_overwritten_by_accident(tmp_path: Path, logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    call("run", logs, "-o", out, *FAST)
    before = (out / "report.html").read_bytes()
    assert "--resume to continue, or --overwrite" in refused(capsys, 2, "run", logs, "-o", out, *FAST)
    assert (out / "report.html").read_bytes() == before
    assert call("run", logs, "-o", out, *FAST, "--overwrite") == 0


def test_nothing_to_train_on_explains_itself(tmp_path: Path, logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, 3, "run", logs, "-o", tmp_path / "run", *FAST, "--max-mean", "0")
    assert "0 of" in told and "turns are pivots" in told


def test_hostile_text_in_logs_cannot_write_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = tmp_path / "logs.jsonl"
    messages = [{"role": "user", "content": "\x1b[31mred \x07 [bold]x[/]"}, {"role": "assistant", "content": "a"}]
    logs.write_text(json.dumps({"id": "a", "messages": messages}) + "\n")
    call("read", logs, "-o", tmp_path / "run", "--heldout-fraction", "0")
    capsys.readouterr()
    call("show", tmp_path / "run", "a#1")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\x07" not in shown and "[bold]x[/]" in shown


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_stops_with_its_own_exit_code_and_the_run_goes_on_later(tmp_path: Path, logs: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        command = [
            sys.executable,
            "-m",
            "pivotrl.cli",
            "run",
            str(logs),
            "-o",
            str(disk / "run"),
            *FAST,
            "--num-samples",
            "40",
        ]
        full = subprocess.run([*command], capture_output=True, text=True, check=False)
        assert full.returncode == 4 and "No space left" in full.stderr and "Traceback" not in full.stderr
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        again = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stderr
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def slow_run(tmp_path: Path, logs: Path) -> subprocess.Popen[str]:
    model = save_tiny_model(tmp_path / "model")
    command = [
        sys.executable,
        "-m",
        "pivotrl.cli",
        "run",
        str(logs),
        "-o",
        str(tmp_path / "run"),
        "--model",
        str(model),
    ]
    command += ["--verifier", "exact", "--max-tokens", "200", "--batch-turns", "1"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if path.exists() and path.stat().st_size:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


GUARDED = """
import time
from pivotrl.cli import guarded
with guarded():
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_background_job_ignores_ctrl_c_as_it_was_told_and_can_still_be_ended() -> None:
    process = subprocess.Popen(
        ["/bin/sh", "-c", 'trap \'\' INT; exec "$0" -c "$1"', sys.executable, GUARDED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; everything finished is kept" in told


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT, signal.SIGINT]])
def test_ctrl_c_once_or_twice_keeps_what_is_finished(tmp_path: Path, logs: Path, signals: list[signal.Signals]) -> None:
    process = slow_run(tmp_path, logs)
    profiles = tmp_path / "run" / "profiles.jsonl"
    wait_for(profiles, process)
    for number in signals:
        process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in told
    from pivotrl.records import SampleGroup
    from pivotrl.storage.record_files import read_records

    assert read_records(profiles, SampleGroup)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("somebody/adapter", "hf download somebody/adapter --local-dir FOLDER"),
        ("empty", "has no adapter_config.json"),
        ("pickled", "adapter_model.bin, which is not read"),
    ],
)
def test_an_adapter_that_cannot_be_used_is_told_in_one_line(
    given: str,
    words: str,
    tmp_path: Path,
    logs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "pickled"):
        (tmp_path / name).mkdir()
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (tmp_path / "pickled" / "adapter_config.json").write_text(json.dumps(settings))
    (tmp_path / "pickled" / "adapter_model.bin").write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")
    assert call("read", logs, "-o", "run") == 0
    model = save_tiny_model(tmp_path / "model")
    capsys.readouterr()
    told = refused(capsys, 2, "profile", "run", "--model", model, "--adapter", given, "--verifier", "exact")
    assert words in told and given in told
    assert not (tmp_path / "executed").exists() and not (tmp_path / "run" / "profiles.jsonl").exists()
