"""From demonstrations to a real benchmark on a GPU: PivotRL beside imitation and end-to-end RL. See README.md.

python recipes/gpu/run.py tau2                # Qwen3-4B; started again, it goes on where it stopped
python recipes/gpu/run.py tau2 --print        # only print the commands
python recipes/gpu/run.py tau2 --try          # every part with next to nothing, minutes on a CPU; learns nothing
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recipe import RECIPES, Recipe, chosen

from pivotrl.cli import guarded
from pivotrl.options import InputError


@dataclass(frozen=True)
class Step:
    name: str
    command: Sequence[str]
    check: Callable[[str], None] | None = None
    """Reads what the command printed; raises InputError if the recipe had better end here."""


def steps(recipe: Recipe, flags: dict[str, list[str]], limits: argparse.Namespace) -> list[Step]:
    """The commands in order. Each is a stage that goes on where it was interrupted."""
    run, source = str(limits.out), limits.logs or recipe.source
    judge, act = ["--verifier", recipe.verifier], ["--policy", recipe.policy, "--model", limits.model]
    sample = [*judge, *act, *flags["turns"], "--max-tokens", str(recipe.max_tokens), *flags["checking"]]
    update = [*judge, *act, *flags["length"], *flags["training"], *flags["checking"]]
    update += ["--train-max-tokens", str(recipe.max_tokens)]
    measure = [*judge, *act, *flags["measuring"], "--eval-max-tokens", str(recipe.max_tokens)]
    measure += ["--environments", *recipe.environments] if recipe.environments else []
    measure += ["--retention", str(limits.retention)] if limits.retention else []
    imitate = ["--name", "imitation", "--method", "sft"]
    play = ["--name", "end_to_end", "--method", *flags["method of episodes"]]
    play += ["--train-environments", recipe.train_environment]
    trained = [["train", run, *update], ["train", run, *imitate, *update]]
    names = ["imitation"]
    if recipe.train_environment:
        trained.append(["train", run, *play, *update])
        names.append("end_to_end")
    commands = [
        ["profile", run, *sample],
        ["select", run, *flags["selection"]],
        *trained,
        ["evaluate", run, "--name", "before", *measure],
        ["evaluate", run, *measure],
        *(["evaluate", run, "--name", name, "--training", name, *measure] for name in names),
        ["bench", *recipe.benchmark, run, *flags["benchmark"]],
        ["report", run],
    ]
    return [
        Step("read", ["read", source, "-o", run, *recipe.read, "--resume"]),
        Step(
            "plan",
            ["plan", run, *sample, *flags["pilot"], *flags["length"], "--json"],
            lambda printed: require_worth(printed, limits.min_pivots, limits.max_hours),
        ),
        *(Step(command[0], command) for command in commands),
    ]


def require_worth(printed: str, min_pivots: int, max_hours: float) -> None:
    """The stop rule of the pilot.

    Raises:
        InputError: there may be too few pivots, or it may take too long: by the unfavourable ends of the intervals.
    """
    plan = json.loads(printed)["plan"]
    pivots, bill = plan["found"]["pivots"], plan["bills"][0]
    hours = {
        end: (bill["profile_seconds"][end] + bill["training_seconds"][end]) / 3600 for end in ("mean", "low", "high")
    }
    for name, found, digits in (("pivots", pivots, 0), ("hours of profile and training", hours, 1)):
        print(
            f"{name}: {found['mean']:,.{digits}f} [{found['low']:,.{digits}f}, {found['high']:,.{digits}f}]", flush=True
        )
    if pivots["low"] < min_pivots:
        raise InputError(
            f"perhaps there are only {pivots['low']:,.0f} pivots, fewer than --min-pivots {min_pivots:,}: "
            "imitate first (docs/runs.md, One training after another), or take a stronger model"
        )
    if hours["high"] > max_hours:
        raise InputError(
            f"profile and training may take {hours['high']:.1f} hours, more than --max-hours {max_hours:g}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=sorted(RECIPES))
    parser.add_argument("--model", default="Qwen/Qwen3-4B")
    parser.add_argument("--out", type=Path, help="the run; runs/gpu/RECIPE if not given")
    parser.add_argument("--logs", help="other logs than those of the recipe")
    parser.add_argument("--retention", type=Path, help="JSON lines with texts outside the task: what is forgotten")
    parser.add_argument("--min-pivots", type=int, default=500, help="stop after the pilot if fewer are certain")
    parser.add_argument("--max-hours", type=float, default=48.0, help="stop after the pilot if more may be needed")
    parser.add_argument("--try", dest="tried", action="store_true", help="next to nothing of everything")
    parser.add_argument("--print", dest="printed", action="store_true", help="print the commands and do nothing")
    arguments = parser.parse_args()
    arguments.out = arguments.out or Path("runs/gpu") / arguments.recipe
    recipe, flags = chosen(arguments.recipe, arguments.tried)
    if arguments.tried:
        arguments.min_pivots = 0
    if not (arguments.logs or recipe.source):
        raise InputError(f"the recipe {arguments.recipe} needs --logs: {recipe.where}")
    for step in steps(recipe, flags, arguments):
        print(f"\n# {step.name}\npivotrl {' '.join(quoted(part) for part in step.command)}", flush=True)
        if not arguments.printed:
            follow(step)


def quoted(part: str) -> str:
    """For a shell, as a person would write it."""
    return f'"{part}"' if "'" in part and not set(part) & set('"$`\\\\!') else shlex.quote(part)


def follow(step: Step) -> None:
    """Run one command; its exit code ends the recipe if it is not 0."""
    command = [sys.executable, "-m", "pivotrl.cli", *step.command]
    done = subprocess.run(command, stdout=subprocess.PIPE if step.check else None, text=True)  # noqa: S603
    if done.returncode:
        sys.exit(done.returncode)
    if step.check:
        step.check(done.stdout)


if __name__ == "__main__":
    with guarded("the same command"):
        main()
