"""Memory and time by formula, with every assumption."""

from __future__ import annotations

import dataclasses

from pivotrl.cli.fitting_table import new_table, print_table
from pivotrl.cli.plan_table import print_text
from pivotrl.cli.tables import out
from pivotrl.options import flag
from pivotrl.report.planning.hardware import GIB, HardwareOptions, HardwarePlan

_TOLD = ("model_size", "gpus", "gpu_memory", "prompt_length", "action_length", "candidate_turns")
"""Options that the first lines say already."""


def print_hardware(plan: HardwarePlan, price_per_hour: float | None, from_run: bool) -> None:
    """
    Args:
        price_per_hour: of all GPUs together.
        from_run: whether token counts are those of a run.
    """
    options, load, shape = plan.options, plan.load, plan.shape
    print_text(
        f"by formula: {shape.parameters / 1e9:.2f} B parameters ({shape.name}: {shape.layers} layers, "
        f"width {shape.width:,}), {options.gpus} x {options.gpu_memory:g} GiB"
    )
    table = new_table("GiB on each GPU", "weights", "ref.", "states", "activ.", "work", "total", "fits")
    for memory in plan.memory:
        parts = (memory.weights, memory.reference, memory.states, memory.activations, memory.work, memory.total)
        fits = "yes" if memory.total <= options.gpu_memory * GIB else "no"
        table.add_row(memory.name, *(f"{part / GIB:.1f}" for part in parts), fits)
    print_table(out, table)
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
        "sharded: weights, reference and states split evenly over the GPUs (FSDP, ZeRO-3); else each GPU holds all",
        "pivotrl itself, started by torchrun, splits states and reference, but gathers the whole weights and gradients "
        "to compute; the sharded rows hold for the stacks that `pivotrl export` writes for",
        _assumptions(options),
    ]
    for line in lines:
        print_text(f"- {line}", "  ")


def _assumptions(options: HardwareOptions) -> str:
    fields = [field.name for field in dataclasses.fields(options) if field.name not in _TOLD]
    return f"change any of: {', '.join(_written(name, getattr(options, name)) for name in fields)}"


def _written(name: str, value: object) -> str:
    """An option as it was given."""
    if isinstance(value, bool):
        return flag(name) if value else flag(f"no_{name}")
    return f"{flag(name)} {value:g}" if isinstance(value, float) else f"{flag(name)} {value}"
