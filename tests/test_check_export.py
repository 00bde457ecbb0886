"""What a run exports, loaded by a stranger, does what the run's report says (recipes/check_export.py)."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from pivotrl import Action, EvaluationOptions, ProfileOptions, SelectionOptions, TrainingOptions, Verdict, run
from pivotrl.judging.lint import CheckOptions
from pivotrl.policies.hf import Policy
from pivotrl.protocols import Turn
from pivotrl.readers.chat import read
from test_pipeline import write_logs
from test_policy_folder import shake
from tiny import save_tiny_model

RECIPE = Path(__file__).parents[1] / "recipes" / "check_export.py"


def even(turn: Turn, action: Action) -> Verdict:
    """A rule that a random model meets about half of the time."""
    passes = len(action.content or "") % 2 == 0 or action == turn.expected_action
    return Verdict.passed() if passes else Verdict.failed("odd")


def recipe() -> Any:
    spec = importlib.util.spec_from_file_location("check_export", RECIPE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that began with an adapter and ended with another one on top of it."""
    root = tmp_path_factory.mktemp("finished")
    base = save_tiny_model(root / "model", initializer_range=0.1)
    first = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM"),
    )
    shake(parameter for parameter in first.parameters() if parameter.requires_grad)
    first.save_pretrained(root / "adapter")
    run(
        str(write_logs(root / "logs.jsonl")),
        root / "run",
        reader=read,
        verifier=even,
        policy=Policy(model=str(base), adapter=str(root / "adapter"), lora_rank=4, device="cpu"),
        checking=CheckOptions(max_false_pass=1.0),
        profiling=ProfileOptions(num_samples=4, max_tokens=60),
        selection=SelectionOptions(rule="all"),
        training=TrainingOptions(num_steps=1, turns_per_step=4, group_size=4, learning_rate=0.01, train_max_tokens=60),
        evaluation=EvaluationOptions(heldout_turns=4, turn_samples=4, turn_temperature=1.0, eval_max_tokens=60),
    )
    return root / "run"


def test_what_a_stranger_loads_is_what_was_reported(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe().check(finished, even) == []
    assert "pass rate" in capsys.readouterr().out


def test_an_export_without_the_first_adapter_is_found(finished: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(finished, tmp_path / "run")
    model = str(finished.parent / "model")
    policy = Policy(model=model, lora_rank=4, device="cpu")
    checkpoint = next((copy / "train" / "checkpoints").iterdir())
    policy.load(checkpoint)
    policy.export(copy / "train" / "policy")
    assert any("log-probability" in fault for fault in recipe().check(copy, even, 1))
