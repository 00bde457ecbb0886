"""A run remembers how it was made: later commands need only the directory, and another run takes its options."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pivotrl import EvaluationOptions, TrainingOptions, pipeline
from pivotrl.cli import COMMANDS
from pivotrl.cli.arguments import parse
from pivotrl.cli.configuration import read_config, write_config
from pivotrl.plugins import load
from pivotrl.plugins.describing import describe, spec_of
from pivotrl.policies import tabular
from pivotrl.runs.manifest import manifest_path, read_manifest, write_manifest
from pivotrl.verifiers import exact
from test_cli import FAST, call, logs, refused

__all__ = ["logs"]

TRAINING = ["--num-steps", "3", "--learning-rate", "1", "--turns-per-step", "4", "--group-size", "4"]


@pytest.fixture
def run(tmp_path: Path, logs: Path) -> Path:
    assert call("run", logs, "-o", tmp_path / "run", *FAST) == 0
    return tmp_path / "run"


def test_later_stages_need_only_the_directory(tmp_path: Path, logs: Path, run: Path) -> None:
    many = tmp_path / "many"
    assert call("read", logs, "-o", many) == 0
    assert call("profile", many, "--policy", "tabular", "--verifier", "exact", "--num-samples", "4") == 0
    assert call("select", many) == 0
    assert call("evaluate", many, "--name", "before") == 0
    assert call("train", many, *TRAINING) == 0
    assert call("evaluate", many) == 0
    for name in ("profiles.jsonl", "train/groups.jsonl", "evaluations/after.turns.jsonl"):
        assert (many / name).read_bytes() == (run / name).read_bytes(), name


def test_a_second_training_differs_in_what_it_is_told_alone(run: Path) -> None:
    assert call("train", run, "--name", "b", "--clip-high", "0.3") == 0
    first, second = (read_manifest(manifest_path(run, stage)).options for stage in ("train", "trainings/b"))
    assert {name for name in first if first[name] != second[name]} == {"clip_high"}


def test_what_is_taken_and_what_differs_is_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    allowed = ("--profile-may-differ-in", "verifier")
    assert call("train", run, "--name", "b", "--verifier", "exact(compare_text=False)", *allowed) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "--verifier exact(compare_text=False): this run was made with exact" in told
    assert "--policy tabular" in told and "--num-steps 3" in told
    capsys.readouterr()
    assert call("train", run, "--name", "c", "--verifier", "exact") == 0
    assert "this run was made with" not in capsys.readouterr().err  # the same plugin in the words of the user


def test_a_rate_that_nobody_chose_is_not_kept_for_another_policy(
    tmp_path: Path, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [option for option in FAST if option not in ("--learning-rate", "1")]
    assert call("run", logs, "-o", tmp_path / "run", *chosen) == 0
    capsys.readouterr()
    assert call("train", tmp_path / "run", "--name", "b") == 0
    assert "--learning-rate" not in capsys.readouterr().err


def test_a_run_that_stopped_early_keeps_the_options_of_later_stages(run: Path) -> None:
    """No manifest knows them yet; run.toml does."""
    wanted = read_manifest(manifest_path(run, "train")).options
    for made in ("select", "evaluations/before", "train", "evaluations/after"):
        manifest_path(run, made).unlink()
    for folder in ("train", "evaluations"):
        shutil.rmtree(run / folder)
    (run / "selection.jsonl").unlink()
    assert call("run", "-o", run, "--resume") == 0
    assert read_manifest(manifest_path(run, "train")).options == wanted


def test_resume_needs_no_options(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*.jsonl")}
    assert call("run", "-o", run, "--resume") == 0
    assert {path: path.read_bytes() for path in run.rglob("*.jsonl")} == before


def texts_of(answer: str) -> str:
    return json.dumps({"id": "1", "source": "s", "prompt": "2+2=", "answer": answer}) + "\n"


def test_reference_texts_are_remembered(tmp_path: Path, run: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text(texts_of(answer="4"))
    assert call("evaluate", run, "--name", "b", "--retention", texts) == 0
    assert call("evaluate", run, "--name", "b") == 0
    assert read_manifest(manifest_path(run, "evaluations/b")).counts["retention_texts"] == 1


def test_another_run_takes_the_options_of_a_run(tmp_path: Path, run: Path) -> None:
    options = tomllib.loads((run / "run.toml").read_text())
    assert (options["num_samples"], options["policy"]) == (4, "tabular") and "out" not in options
    other = tmp_path / "other"
    assert call("run", "--config", run / "run.toml", "-o", other) == 0
    assert (other / "train/groups.jsonl").read_bytes() == (run / "train/groups.jsonl").read_bytes()
    assert (other / "run.toml").read_text() == (run / "run.toml").read_text()


def test_an_argument_wins_over_the_file(tmp_path: Path, run: Path) -> None:
    other = tmp_path / "other"
    assert call("run", f"--config={run / 'run.toml'}", "-o", other, "--num-samples", "2") == 0
    assert read_manifest(manifest_path(other, "profile")).options["num_samples"] == 2


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("num_sample = 4", "unknown option 'num_sample'; did you mean 'num_samples'?"),
        ("num_samples = 0", "--num-samples must be greater than or equal to 1, not 0"),
        ('num_samples = "many"', "--num-samples must be"),
        ("group_size = 1", "--group-size 1 gives no advantage"),
        ("num_samples 4", "is not TOML"),
        (None, "cannot read --config"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_words(
    tmp_path: Path, logs: Path, capsys: pytest.CaptureFixture[str], content: str | None, told: str
) -> None:
    config = tmp_path / "run.toml"
    if content is not None:
        config.write_text(content)
    assert told in refused(capsys, 2, "run", logs, "-o", tmp_path / "run", "--config", config)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "spec",
    [
        "tool_call",
        "exact(compare_text=False)",
        "tool_call(rules={'a.b': 'token_f1(0.7)'})",
        "first_decisive(verifiers=('command', 'edit', 'tool_call'))",
        "all_of(verifiers=('exact', \"answer(tool='submit')\"))",
        "judge(base_url='http://127.0.0.1:1/v1', model='m')",
    ],
)
def test_a_plugin_is_noted_as_the_command_line_names_it(spec: str) -> None:
    noted = spec_of(load("verifiers", spec))
    assert noted is not None and describe(load("verifiers", noted)) == describe(load("verifiers", spec))


def test_what_cannot_be_named_is_not_noted() -> None:
    assert spec_of(lambda turn, action: None) is None


def test_the_run_is_the_directory_that_is_given_not_one_that_an_option_names(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("train", run, "--name", "wide", "--group-size", "6") == 0
    assert call("read", tmp_path / "logs.jsonl", "-o", "other") == 0
    shutil.copy(manifest_path(run, "trainings/wide"), manifest_path(Path("other"), "train"))
    assert call("train", "--name", "other", "run") == 0  # the name is that of another run
    assert read_manifest(manifest_path(run, "trainings/other")).options["group_size"] == 4


def test_a_run_whose_verifier_has_no_name_says_so(
    tmp_path: Path, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "python"
    pipeline.run(
        str(logs),
        out,
        reader=load("readers", "chat"),
        verifier=lambda turn, action: exact.verify(turn, action),
        policy=tabular.Policy(),
        training=TrainingOptions(num_steps=2, group_size=4),
        evaluation=EvaluationOptions(eval_temperature=1.0),
    )
    capsys.readouterr()
    assert call("evaluate", out, "--name", "b") == 0
    assert "the verifier test_run_memory:" in capsys.readouterr().err
    assert call("evaluate", out, "--name", "c", "--verifier", "exact") == 0
    assert "has no name" not in capsys.readouterr().err


def test_what_is_taken_is_said_of_a_list_too(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "plugins"))
    game = "guessing:make_environments(highest=3)"
    assert call("evaluate", run, "--overwrite", "--environments", game) == 0
    capsys.readouterr()
    assert call("evaluate", run, "--name", "b") == 0
    assert f"--environments {game}" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[training]\nnum_steps = 3", "has a table 'training'; write its options without the heading"),
        ("num-steps = 3\nnum_steps = 4", "gives the option 'num_steps' twice"),
        ('reader = ""', "reader is empty"),
        ("num_samples = true", "--num-samples must be a valid integer, not True"),
        ("learning_rate = true", "--learning-rate must be a valid number, not True"),
    ],
)
def test_a_value_that_nobody_means_is_refused(
    content: str, said: str, tmp_path: Path, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "options.toml"
    file.write_text(content)
    assert said in refused(capsys, 2, "run", logs, "-o", tmp_path / "out", "--config", file)


def test_two_files_of_options_are_refused(tmp_path: Path, logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, 2, "run", logs, "-o", tmp_path / "out", "--config", "a.toml", "--config=b.toml")
    assert "--config is given twice" in told


def test_a_file_written_by_any_editor_is_read(tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_bytes(b"\xef\xbb\xbfnum-samples = 5\r\n")
    assert read_config(file, ["num_samples"]) == {"num_samples": 5}


def test_every_text_is_written_as_toml(tmp_path: Path) -> None:
    text = 'a\x7f\x00\n\t"é" \\ \'\u2028😀'
    write_config(tmp_path, {"source": text, "environments": (text, text)})
    assert read_config(tmp_path / "run.toml", ["source", "environments"]) == {
        "source": text,
        "environments": [text, text],
    }


def test_one_environment_need_not_be_a_list(tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "plugins"))
    file = tmp_path / "options.toml"
    file.write_text('environments = "guessing:make_environments(highest=3)"')
    assert call("evaluate", run, "--name", "b", "--config", file) == 0


@pytest.mark.parametrize("other", [("--policy", "tabular"), ("--model", "some/model"), ("--adapter", "folder")])
def test_a_sampler_beside_a_policy_is_refused(run: Path, capsys: pytest.CaptureFixture[str], other: Any) -> None:
    told = refused(capsys, 2, "evaluate", run, "--name", "b", "--sampler", "scripted(script={'a#1': ['x']})", *other)
    assert f"{other[0]} belongs to a policy, but --sampler replaces the policy" in told


def test_reference_texts_are_known_by_their_content(tmp_path: Path, run: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text(texts_of(answer="4"))
    assert call("evaluate", run, "--name", "b", "--retention", texts) == 0
    results = (run / "evaluations/b.retention.jsonl").read_bytes()
    assert call("evaluate", run, "--name", "b", "--retention", texts.rename(tmp_path / "moved.jsonl")) == 0
    (tmp_path / "moved.jsonl").write_text(
        json.dumps({"id": "1", "source": "s", "prompt": "2+2=", "answer": "5"}) + "\n"
    )
    assert call("evaluate", run, "--name", "b", "--retention", tmp_path / "moved.jsonl") == 2
    assert (run / "evaluations/b.retention.jsonl").read_bytes() == results


def test_a_sampler_is_not_asked_for_the_texts_that_the_run_measured(tmp_path: Path, run: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text(texts_of(answer="4"))
    assert call("evaluate", run, "--overwrite", "--retention", texts) == 0
    assert call("evaluate", run, "--name", "b", "--sampler", "scripted(script={'a#1': ['x']})") == 0
    assert read_manifest(manifest_path(run, "evaluations/b")).counts["retention_texts"] == 0


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ((), ("hf(lora_rank=4)", "a", "b")),
        (("--adapter", "c"), ("hf(lora_rank=4)", "a", "c")),
        (("--model", "c"), ("hf(lora_rank=4)", "c", None)),
        (("--policy", "hf"), ("hf", None, None)),
    ],
)
def test_an_adapter_belongs_to_its_model_and_a_model_to_its_policy(run: Path, given: Any, left: Any) -> None:
    path = manifest_path(run, "profile")
    acting = {"policy": "hf(lora_rank=4)", "model": "a", "adapter": "b"}
    write_manifest(path, read_manifest(path).model_copy(update={"policy": acting}))
    for stage in ("train", "evaluations/before", "evaluations/after"):
        manifest_path(run, stage).unlink()
    chosen = parse(COMMANDS, ["train", str(run), *given]).keywords["policy"]  # type: ignore[attr-defined]
    assert (chosen.policy, chosen.model, chosen.adapter) == left
