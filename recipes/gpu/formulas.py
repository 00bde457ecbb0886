"""Memory and time of the recipes by formula. `python recipes/gpu/formulas.py` rewrites the table in README.md."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

from recipe import SIZES

from pivotrl.report.planning.hardware import HardwareOptions, Load, hardware_plan
from pivotrl.report.planning.shapes import shape_of

PAGE = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- plan: Qwen3-4B, LoRA 32, one GPU of 80 GiB -->\n", "<!-- /plan -->"
LENGTHS = {"tau2": (12_000, 60), "bfcl": (6_500, 40), "swe": (8_000, 200)}
"""Tokens of a prompt and of an action, assumed."""
GIB = 2**30


def table() -> str:
    words = shlex.split(" ".join(SIZES["full"].values()))
    size = {flag: int(value) for flag, value in itertools.pairwise(words) if value.isdigit()}
    heads = ["recipe", "tokens of prompt, action", "GiB", "profile, hours", "sampling in training", "updates"]
    heads.append("updates without shared prompts")
    rows = [f"| {' | '.join(heads)} |", f"| {' | '.join('---' for _ in heads)} |"]
    for name, (prompt, action) in LENGTHS.items():
        load = Load(
            candidate_turns=size["--max-turns"],
            num_samples=size["--num-samples"],
            prompt_length=prompt,
            action_length=action,
            num_steps=size["--num-steps"],
            turns_per_step=size["--turns-per-step"],
            group_size=size["--group-size"],
        )
        plan = hardware_plan(shape_of("4B"), HardwareOptions(model_size="4B", lora_rank=32), load)
        memory = next(one for one in plan.memory if one.way.name == "LoRA")
        hours = {work.name: work.seconds / 3600 for work in plan.works}
        cells = [
            f"`{name}`",
            f"{prompt:,}, {action}",
            f"{memory.learning / GIB:.0f}, while it samples {memory.sampling / GIB:.0f}",
            f"{hours['profile: prompts'] + hours['profile: actions']:.1f}",
            f"{hours['training: prompts'] + hours['training: actions']:.1f}",
            f"{hours['updates, LoRA, prompts shared']:.1f}",
            f"{hours['updates, LoRA, plain rows']:.1f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def page() -> str:
    return re.sub(f"(?s){re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: BEGIN + table() + END, PAGE.read_text())


if __name__ == "__main__":
    PAGE.write_text(page())
