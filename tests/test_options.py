"""Options that mean nothing are refused by name, in Python and on the command line, before anything is done."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from pivotrl import plugins
from pivotrl.cli.choices import HeldOut
from pivotrl.evaluation import EvaluationOptions
from pivotrl.judging.guarded import VerificationOptions
from pivotrl.judging.lint import CheckOptions
from pivotrl.options import check_arguments, flag
from pivotrl.profiling import ProfileOptions
from pivotrl.protocols import InputError, ObjectiveOptions, UpdateOptions
from pivotrl.reading.importing import ReadOptions
from pivotrl.rows.exporting import ExportOptions
from pivotrl.selection import SelectionOptions
from pivotrl.training_options import TrainingOptions, update_options
from pivotrl.turns import TurnOptions
from test_cli import FAST, logs, refused

__all__ = ["logs"]

ALL = (
    CheckOptions,
    EvaluationOptions,
    ExportOptions,
    HeldOut,
    ProfileOptions,
    ReadOptions,
    SelectionOptions,
    TrainingOptions,
    TurnOptions,
    UpdateOptions,
    VerificationOptions,
)
MEANINGFUL = {
    **dict.fromkeys(("heldout_turns", "eval_temperature", "turn_temperature", "max_mean", "warmup_steps"), (0,)),
    **dict.fromkeys(("kl_coefficient", "weight_decay", "heldout_fraction", "validation_fraction"), (0,)),
    "guard_steps": (0,),
    "max_lag": (0,),
    "max_false_pass": (0,),
    "max_messages": (0,),
    "min_mixed": (0,),
    "progress_trajectories": (0,),
    "min_reward": (0, -1),
    **{f"{name}_seed": (0, -1) for name in ("check", "draw", "eval", "profile", "selection", "split", "train")},
}
"""Numbers among the suspects that an option may have."""


def numeric_fields() -> list[tuple[type, str]]:
    found = []
    for kind in ALL:
        hints = get_type_hints(kind)
        found += [
            (kind, f.name) for f in dataclasses.fields(kind) if {int, float} & {hints[f.name], *parts(hints[f.name])}
        ]
    return found


def parts(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__args__", ())


@pytest.mark.parametrize(("kind", "name"), numeric_fields(), ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, 0, True, "1"], ids=repr)
def test_every_number_is_in_its_range_or_refused_by_its_flag(kind: type, name: str, value: Any) -> None:
    if type(value) is int and value in MEANINGFUL.get(name, ()):
        kind(**{name: value})
        return
    if (kind, name, value) == (ProfileOptions, "temperature", 0):  # one sample is a different matter
        ProfileOptions(temperature=0, num_samples=1)
    with pytest.raises(InputError) as caught:
        kind(**{name: value})
    told = str(caught.value)
    assert flag(name) in told and "pydantic" not in told and "\n" not in told


@pytest.mark.parametrize("kind", ALL)
def test_every_choice_is_one_of_those_listed(kind: type) -> None:
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if hints[field.name] not in (int, float) and isinstance(field.default, str):
            told = "no method called" if field.name == "method" else f"{flag(field.name)} must be .* not"
            with pytest.raises(InputError, match=f"{told} 'no such thing'"):
                kind(**{field.name: "no such thing"})


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        (TrainingOptions, {"group_size": 1}, "--group-size 1 gives no advantage"),
        (TrainingOptions, {"train_temperature": 0.0}, "--train-temperature 0 gives groups of equal samples"),
        (TrainingOptions, {"warmup_steps": 5, "num_steps": 4}, "--warmup-steps 5 is more than --num-steps 4"),
        (TrainingOptions, {"method": "sft", "kl_coefficient": 0.1}, "--kl-coefficient 0.1 does nothing when imitating"),
        (TrainingOptions, {"method": "sft", "importance_cap": 2.0}, "--importance-cap 2.0 does nothing when imitating"),
        (ProfileOptions, {"temperature": 0.0}, "--num-samples 16 at --temperature 0"),
        (ProfileOptions, {"top_k": 1, "num_samples": 2}, "--num-samples 2 at --temperature 0 or --top-k 1"),
        (EvaluationOptions, {"turn_samples": 4}, "--turn-samples 4 at temperature 0 are one sample"),
    ],
)
def test_options_that_cancel_each_other_are_refused(kind: type, given: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        kind(**given)


def test_what_cancels_in_one_method_counts_in_the_other() -> None:
    TrainingOptions(method="sft", group_size=1, train_temperature=0.0)
    EvaluationOptions(turn_samples=4, turn_temperature=1.0)
    ProfileOptions(num_samples=1, temperature=0.0)


def test_training_and_update_share_their_defaults() -> None:
    assert update_options(TrainingOptions(), "policy_gradient") == UpdateOptions()


@pytest.mark.parametrize("field", dataclasses.fields(ObjectiveOptions), ids=lambda field: field.name)
def test_every_update_option_is_a_training_option_and_reaches_the_update(field: Any) -> None:
    other = "sequence" if field.default == "token" else type(field.default or 0.5)((field.default or 0.5) * 2)
    update = update_options(TrainingOptions(**{field.name: other}), "policy_gradient")
    assert getattr(update, field.name) == other != field.default


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--checkpoint-every 0", "--checkpoint-every must be"),
        ("--turn-samples 0", "--turn-samples must be"),
        ("--heldout-fraction nan", "--heldout-fraction must be a finite number, not nan"),
        ("--learning-rate nan", "--learning-rate must be a finite number, not nan"),
        ("--learning-rate=-1", "--learning-rate must be"),
        ("--max-tokens 0", "--max-tokens must be"),
        ("--top-p 0", "--top-p must be"),
        ("--temperature=-1", "--temperature must be"),
        ("--num-samples 0", "--num-samples must be"),
        ("--group-size 1", "--group-size 1 gives no advantage"),
        ("--num-steps 0", "--num-steps must be"),
        ("--max-mean nan", "--max-mean must be"),
        ("--retention-texts 0", "--retention-texts must be"),
        ("--max-turns 0", "--max-turns must be"),
    ],
)
def test_the_command_line_refuses_them_before_anything_is_written(
    flags: str, told: str, logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, 2, "run", logs, "-o", tmp_path / "out", *FAST, *flags.split())
    assert message.startswith(f"pivotrl: {told}") and "pydantic" not in message
    assert not (tmp_path / "out").exists()


# --- options of plugins -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("hf(lora_rank=-1)", "lora_rank must be greater than or equal to 0, not -1"),
        ("hf(lora_alpha=0)", "lora_alpha must be greater than or equal to 1, not 0"),
        ("hf(batch_rows=0)", "batch_rows must be"),
        ("hf(pass_tokens=0)", "pass_tokens must be"),
        ("hf(frozen_layers=-1)", "frozen_layers must be"),
        ("hf(seed=-1)", "seed must be"),
        ("hf(style='other')", "style must be 'auto', 'chatml' or 'template', not 'other'"),
        ("hf(trainable=1)", "trainable must be a valid boolean"),
        ("tabular(spread='wide')", "spread must be a valid number"),
    ],
)
def test_options_of_a_policy_are_refused_before_a_model_is_looked_for(spec: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        plugins.load("policies", spec, **({"model": "no such folder"} if spec.startswith("hf") else {}))


def numeric_options() -> list[tuple[str, str, str]]:
    found = []
    for kind in ("readers", "verifiers", "environments", "policies", "exporters"):
        for name in plugins.names(kind):
            target = plugins.find(kind, name)
            for option, parameter in plugins.options_of(target).items():
                if type(parameter.default) in (int, float):
                    found.append((kind, name, option))
    return found


@pytest.mark.parametrize(("kind", "name", "option"), numeric_options())
@pytest.mark.parametrize("value", ["nan", "-1", "True", "'1'"])
def test_numbers_of_every_plugin_have_a_range(kind: str, name: str, option: str, value: str) -> None:
    """NaN can be written in Python only."""
    if value == "-1" and option in ("seed", "good_label") and name != "hf":
        return
    target = plugins.find(kind, name)
    with pytest.raises(InputError, match=option):
        if value == "nan":
            check_arguments(target, {option: math.nan})
        else:
            needed = [n for n, p in plugins.options_of(target).items() if p.default is p.empty]
            plugins.load(kind, f"{name}({option}={value})", **dict.fromkeys(needed, "x"))


def test_a_plugin_whose_annotations_cannot_be_read_takes_what_it_is_given() -> None:
    def verify(turn, action, *, limit: NotImported = 3):  # type: ignore[name-defined,no-untyped-def] # noqa: F821
        return None

    check_arguments(verify, {"limit": -1})


@pytest.mark.parametrize(
    ("place", "arguments"),
    [
        ("--heldout", ("--heldout", "")),
        ("--heldout", ("--heldout=",)),
        ("-o", ("-o", "")),
        ("--tools", ("--tools", "", "--overwrite")),
        ("argument 3", ("",)),
    ],
)
def test_an_empty_argument_is_refused_before_the_current_directory_is_taken_for_it(
    place: str, arguments: tuple[str, ...], logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"{place} is empty" in refused(capsys, 2, "read", logs, *arguments)


@pytest.mark.parametrize("option", ["--model", "--adapter"])
def test_an_empty_model_or_adapter_is_not_the_default(
    option: str, logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"{option} is empty" in refused(capsys, 2, "run", logs, "-o", tmp_path / "run", option, "")
    assert not (tmp_path / "run").exists()
