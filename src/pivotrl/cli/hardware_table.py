"""Memory and time by formula, with every assumption."""

from __future__ import annotations

import dataclasses

from pivotrl.cli.fitting_table import new_table, print_table
from pivotrl.cli.plan_table import print_text
from pivotrl.cli.tables import out
from pivotrl.options import flag
from pivotrl.report.planning.hardware import HardwareOptions, HardwarePlan
from pivotrl.report.planning.processes import GIB, MOST_PROCESSES
from pivotrl.storage.record_files import counted

_TOLD = ("model_size", "gpus", "gpu_memory", "prompt_length", "action_length", "candidate_turns")
"""Options that the first lines say already."""


def print_hardware(plan: HardwarePlan, price_per_hour: float | None, from_run: bool) -> None:
    """
    Args:
        price_per_hour: of all GPUs together.
        from_run: whether token counts are those of a run.
    """
    options, load, shape = plan.options, plan.load, plan.shape
    gpus = options.gpus or 1
    experts = f", {shape.active / 1e9:.2f} B of them for a token" if shape.chosen_experts else ""
    print_text(
        f"by formula: {shape.parameters / 1e9:.2f} B parameters{experts} ({shape.name}: {shape.layers} layers, "
        f"width {shape.width:,}), {gpus} x {options.gpu_memory:g} GiB"
    )
    _print_memory(plan)
    _print_needed(plan)
    money = [] if price_per_hour is None else ["money"]
    works = new_table("one profile, one training", "tokens", "hours", *money)
    for work in plan.works:
        hours = work.seconds / 3600
        cost = [] if price_per_hour is None else [f"{hours * price_per_hour:,.2f}"]
        works.add_row(work.name, f"{work.tokens / 1e6:,.1f} M", f"{hours:,.2f}", *cost)
    print_table(out, works)
    where = "of the run" if from_run else "assumed"
    lines = [
        f"load ({where}): {load.candidate_turns:,.0f} candidate turns, K = {load.num_samples}; prompts of "
        f"{load.prompt_length:,.0f} tokens, actions of {load.action_length:,.0f}; {load.num_steps} steps of "
        f"{load.turns_per_step} turns, {load.group_size} samples each",
        f"sampling: {plan.gpus_per_replica} GPU(s) hold the weights; {plan.rows} samples decode together and keep "
        f"{plan.cache / GIB:.1f} GiB of keys and values on each; training and sampling take turns in memory",
        "a prompt is computed once for all its samples; every group is trained on; verdicts take no time",
        "pivotrl cuts weights, reference and moments into shards, one on each GPU, and gathers whole weights to "
        "compute (docs/scale.md); loading is that of process 0, which holds the whole model until "
        "it is cut; work includes --reserve",
        "all: all weights are trained; mixed: shards in fp32, computed in bf16; offload: shards in the CPU's memory",
        "sharded: another stack that gathers layer after layer, with Adam's copies (FSDP, ZeRO-3; `pivotrl export`)",
        _assumptions(options),
    ]
    for line in lines:
        print_text(f"- {line}", "  ")


def _print_memory(plan: HardwarePlan) -> None:
    parts = new_table("GiB while it learns", "weights", "ref.", "grads", "Adam", "activ.", "work", "total")
    peaks = new_table("GiB at most", "loading", "learning", "sampling", "fits", "GPUs at least")
    room, needed = plan.options.gpu_memory * GIB, dict(zip(plan.ways, plan.fewest, strict=True))
    for one in plan.memory:
        held = (one.weights, one.reference, one.gradients, one.moments, one.activations, one.work + one.reserve)
        parts.add_row(one.way.name, *map(_gib, (*held, one.learning)))
        fits, number = "yes" if one.peak <= room else "no", needed[one.way]
        least = f"more than {MOST_PROCESSES:,}" if number is None else f"{number:,}"
        peaks.add_row(one.way.name, *map(_gib, (one.loading, one.learning, one.sampling)), fits, least)
    for other in plan.sharded:
        held = (other.weights, other.reference, other.gradients, other.moments, other.activations, other.work)
        parts.add_row(other.name, *map(_gib, (*held, other.total)))
        peaks.add_row(other.name, "", _gib(other.total), "", "yes" if other.total <= room else "no", "")
    print_table(out, parts)
    print_table(out, peaks)


def _gib(size: float) -> str:
    return f"{size / GIB:.1f}" if size < 99.95 * GIB else f"{size / GIB:,.0f}"


def _print_needed(plan: HardwarePlan) -> None:
    """The smallest number of GPUs, and the options that make it fit."""
    for what, is_adapter in (("LoRA", True), ("all weights", False)):
        found = [
            (number, way)
            for way, number in zip(plan.ways, plan.fewest, strict=True)
            if number is not None and (way.lora_rank > 0) == is_adapter
        ]
        if not found:
            print_text(
                f"{what}: no number of these GPUs, since each holds the whole weights to compute"
                + ("" if is_adapter else ", and the whole gradients; hf(parallel='tensor') does not"),
                "  ",
            )
            continue
        number, way = min(found, key=lambda pair: pair[0])  # the first of equals has the plainest options
        print_text(f"{what}: {counted(number, 'GPU')} at least, with {way.options}", "  ")


def _assumptions(options: HardwareOptions) -> str:
    fields = [field.name for field in dataclasses.fields(options) if field.name not in _TOLD]
    return f"change any of: {', '.join(_written(name, getattr(options, name)) for name in fields)}"


def _written(name: str, value: object) -> str:
    """An option as it was given."""
    if isinstance(value, bool):
        return flag(name) if value else flag(f"no_{name}")
    return f"{flag(name)} {value:g}" if isinstance(value, float) else f"{flag(name)} {value}"
