"""`pivotrl plan`: what a profile and a training will find and cost, from a pilot or by formula."""

from __future__ import annotations

import contextlib
import dataclasses
import json as json_format
import math
import os
import warnings
from pathlib import Path
from typing import Any

import tyro

from pivotrl import plugins
from pivotrl.cli import hardware_table, plan_table
from pivotrl.cli.choices import Price, SamplerChoice
from pivotrl.cli.watching import Watching
from pivotrl.judging.guarded import VerificationOptions
from pivotrl.judging.lint import CheckOptions
from pivotrl.options import refuse
from pivotrl.profiling import ProfileOptions
from pivotrl.protocols import InputError, Notice
from pivotrl.report.planning.costs import TokenPrice, measured
from pivotrl.report.planning.hardware import (
    HardwareOptions,
    HardwarePlan,
    Load,
    hardware_plan,
    here,
)
from pivotrl.report.planning.pilot import pilot_turns
from pivotrl.report.planning.planned import Plan, candidates_of, plan_of
from pivotrl.report.planning.processes import Batch, ProcessMemory
from pivotrl.report.planning.shapes import ModelShape, shape_of, shape_of_model
from pivotrl.report.planning.ways import MIN_F1, PlannedTraining
from pivotrl.runs.directory import require_run, working_in
from pivotrl.runs.layout import PILOT
from pivotrl.runs.manifest import find_manifest
from pivotrl.stages.planning import Pilot, PilotOptions, pilot_stage, profile_as_pilot
from pivotrl.training_options import TrainingOptions
from pivotrl.turns import TurnOptions

_PROMPT, _ACTION, _TURNS = 4_000, 200, 10_000
"""Of the table by formula where neither an option nor a run says otherwise."""


def plan(
    policy: SamplerChoice,
    turns: TurnOptions,
    checking: CheckOptions,
    verification: VerificationOptions,
    profiling: ProfileOptions,
    pilot: PilotOptions,
    training: PlannedTraining,
    price: Price,
    token_price: TokenPrice,
    hardware: HardwareOptions,
    watching: Watching,
    directory: tyro.conf.Positional[Path | None] = None,
    verifier: str = "tool_call",
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Plan a profile and a training: usable pivots, tokens, time, money and memory, with 95 % intervals, and warnings.

    Takes the profile of the run, finished or not. Without one it samples a pilot of a few candidate turns. With
    --gpus or --model-size it prints a table by formula for hardware that you do not have; this needs no run.

    Args:
        directory: A run directory with trajectories.
        verifier: Verifier plugin.
        overwrite: Move an earlier pilot to replaced/ and sample again.
        json: Print the plan as JSON.
    """
    if profiling.adaptive is not None:  # perhaps remembered from a profile; a pilot gives every turn K samples
        profiling = dataclasses.replace(profiling, adaptive=None, adaptive_max_mean=None, wanted_pivots=None)
        warnings.warn(
            f"a pilot takes K samples at each of its turns; the adaptive way is told for an F1 score of {MIN_F1}",
            Notice,
            stacklevel=2,
        )
    wants_table = hardware.gpus is not None or hardware.model_size is not None or directory is None
    if not wants_table:
        for field in dataclasses.fields(hardware):
            if (value := getattr(hardware, field.name)) != field.default:
                refuse(field.name, value, "belongs to the table by formula; give --gpus or --model-size too")
    if directory is None and (hardware.model_size is None) == (policy.model is None):
        raise InputError("give the directory of a run, or either --model or --model-size for a table by formula")
    found = memory = None
    if directory is not None:
        sampled = _sampled(
            directory, policy, turns, checking, verification, profiling, pilot, verifier, overwrite, watching
        )
        found = _planned(sampled, training, price, token_price)
        memory = _memory_here(directory, policy, found)
    by_formula = None
    if wants_table:
        size = hardware.model_size
        shape = shape_of_model(_model_of(directory, policy)) if size is None else shape_of(size)
        by_formula = _by_formula(shape, hardware, training, profiling, found)
    if json:
        parts = {"plan": found and found.as_json(), "memory": memory, "hardware": by_formula}
        print(json_format.dumps({name: plan_table.plain_json(part) for name, part in parts.items()}, indent=2))
        return
    if found is not None:
        assert directory is not None
        plan_table.print_plan(found, memory, sampled, price.price_per_hour)
    if by_formula is not None:
        hardware_table.print_hardware(by_formula, price.price_per_hour, from_run=found is not None)


def _sampled(
    directory: Path,
    policy: SamplerChoice,
    turns: TurnOptions,
    checking: CheckOptions,
    verification: VerificationOptions,
    profiling: ProfileOptions,
    pilot: PilotOptions,
    verifier: str,
    overwrite: bool,
    watching: Watching,
) -> Pilot:
    """The profile of the run, or a pilot."""
    require_run(directory)
    if pilot.pilot is None and not overwrite and (profiled := profile_as_pilot(directory)) is not None:
        return profiled
    judge = plugins.load("verifiers", verifier)
    with working_in(directory), watching.observer() as observer:
        return pilot_stage(
            directory,
            sampler=policy.load_late(observer=observer),
            verifier=judge,
            turns=turns,
            profiling=profiling,
            pilot=pilot,
            checking=checking,
            verification=verification,
            overwrite=overwrite,
            observer=observer,
        )


def _planned(sampled: Pilot, training: PlannedTraining, price: Price, token_price: TokenPrice) -> Plan:
    together = TrainingOptions.turns_per_trajectory
    batch_turns = sampled.profiling.batch_turns
    return plan_of(
        pilot_turns(sampled.asked, sampled.groups, training.max_mean, sampled.lost_tokens),
        candidates_of(sampled.candidates, batch_turns, training.turns_per_step, together),
        num_samples=sampled.profiling.num_samples,
        max_tokens=sampled.profiling.max_tokens,
        training=training,
        speed=measured(sampled.times, sampled.scores_demonstrations, sampled.is_profile),
        price_per_hour=price.price_per_hour,
        token_price=token_price,
        is_random=sampled.is_random,
    )


def _named(directory: Path | None, policy: SamplerChoice) -> tuple[str, dict[str, Any]]:
    """Plugin and options of the policy that the run has, or that is named, with its model under ``model``."""
    found = directory and (find_manifest(directory, "profile") or find_manifest(directory, PILOT))
    named = found.policy if found else {}
    name, options = plugins.parse_spec(str(named.get("policy") or policy.policy))
    model = options.get("model") or named.get("model") or policy.model
    return name, {**options, "model": model, "dtype": named.get("dtype")}


def _model_of(directory: Path | None, policy: SamplerChoice) -> str:
    """
    Raises:
        InputError: nobody names a model.
    """
    name, options = _named(directory, policy)
    default = plugins.options_of(plugins.find("policies", "hf"))["model"].default if name == "hf" else None
    if (model := policy.model or options["model"] or default) is None:
        raise InputError(f"the policy {name} has no model to count; give --model or --model-size")
    return str(model)


def _memory_here(directory: Path, policy: SamplerChoice, found: Plan) -> ProcessMemory | None:
    """Peak memory of training the run's policy on this machine; None for a policy without a known shape."""
    name, options = _named(directory, policy)
    if name != "hf" or options["model"] is None or policy.sampler is not None or found.comparison is None:
        return None
    with contextlib.suppress(InputError):
        default = plugins.options_of(plugins.find("policies", "hf"))["lora_rank"].default
        return here(
            shape_of_model(str(options["model"])),
            lora_rank=int(options.get("lora_rank", default)),
            is_half=options["dtype"] in ("bfloat16", "float16"),
            batch=_batch(found),
            machine_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        )
    return None


def _batch(found: Plan) -> Batch:
    """What an update learns from: the prompts and samples of its mixed groups."""
    prompt, each, comparison = found.found.training_prompt, found.found.tokens_per_sample, found.comparison
    assert comparison is not None
    return Batch(
        prompt=prompt.mean if prompt else 0.0,
        action=each.mean if each else 0.0,
        group_size=found.training.group_size,
        trajectories=max(1, math.ceil(comparison.mixed_groups.mean / found.training.num_steps)),
    )


def _by_formula(
    shape: ModelShape,
    hardware: HardwareOptions,
    training: PlannedTraining,
    profiling: ProfileOptions,
    found: Plan | None,
) -> HardwarePlan:
    known = found.found if found else None
    prompts = known and known.prompt_tokens
    per_prompt = prompts.mean / known.num_candidates if known and prompts else None
    per_action = known.tokens_per_sample.mean if known and known.tokens_per_sample else None
    load = Load(
        candidate_turns=hardware.candidate_turns or (known.num_candidates if known else _TURNS),
        num_samples=known.num_samples if known else profiling.num_samples,
        prompt_length=hardware.prompt_length or per_prompt or _PROMPT,
        action_length=hardware.action_length or per_action or _ACTION,
        num_steps=training.num_steps,
        turns_per_step=training.turns_per_step,
        group_size=training.group_size,
    )
    return hardware_plan(shape, hardware, load)
