"""What each reader keeps of the samples in tests/data, and what it loses: the sections of docs/formats.md.

python recipes/formats_table.py           # reads every sample and rewrites the sections; takes seconds
python recipes/formats_table.py --check   # only checks whether they are up to date
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pivotrl import plugins
from pivotrl.protocols import InputError
from pivotrl.readers.auto import format_of
from pivotrl.reading.audit import audit
from pivotrl.records import Refusal, Trajectory

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
DOCUMENT = ROOT / "docs" / "formats.md"
PLAYED = {
    "errands": ("train", "its players play tasks that are drawn by number"),
    "bfcl": ("base", "the ground truth of the installed package is played"),
    "plancraft": ("train", "the oracle plays the tasks of the installed package"),
    "textworld": ("0-119", "four kinds of players play the generated games of these seeds"),
    "search": ("0-119", "experts search the corpus and answer the questions of these numbers"),
    "shell_tasks": ("tests/data/shell_tasks", "the commands run in the sandbox"),
    "repair": ("0-79", "a scripted expert solves the tasks made of these problems, in the sandbox"),
    "tau2_solo": ("train", "the ground truth of the installed package is played"),
}
"""Readers that create their trajectories: their source, and why they need no log."""
IN_EVERY = {"system_missing", "reward_unknown", "several_calls"}
"""Losses that say something about the sample, not about its format."""


def sections() -> str:
    """A section for each format: what it is, a command, and what comes of each sample."""
    found: dict[str, list[Path]] = {}
    for path in samples(DATA):
        name = format_of(path)
        folder = path.relative_to(DATA).parts[1]
        if folder == name or folder not in plugins.names(
            "readers"
        ):  # a tool's other files may look like something else
            found.setdefault(name, []).append(path)
    known = [name for name in plugins.names("readers") if name in found or name in PLAYED]
    parts = ["\n".join(f"- [`{name}`](#{name}): {first_sentence(name)}" for name in known), ""]
    for name in known:
        if name in found:
            parts.append(section(name, found[name]))
        else:
            given, why = PLAYED[name]
            command = f"pivotrl read {given} --reader {name} -o runs/{name}"
            parts.append(
                f"### `{name}`\n\n{described(name)}\n\n```\n{command}\n```\n\nThis reader needs no log: {why}.\n"
            )
    return "\n".join(parts)


def samples(folder: Path) -> Iterator[Path]:
    """Files, and directories that are one log, whose format is known."""
    for path in sorted(folder.iterdir()):
        if path.suffix in (".md", ".py") or path.name in ("rendering", "templates", "shell_tasks"):
            continue
        try:
            format_of(path)
        except (InputError, OSError):
            if path.is_dir():
                yield from samples(path)
            continue
        yield path


def section(name: str, paths: list[Path]) -> str:
    rows = [(path, *facts(name, path)) for path in paths]
    command = f"pivotrl read {rows[0][0].relative_to(ROOT)} -o runs/{name} --min-reward None"
    lines = [f"### `{name}`", "", described(name), "", "```", command, "```", ""]
    lines += ["| sample | kept | lost, or marked |", "| --- | --- | --- |"]
    lines += [f"| `{path.relative_to(DATA)}` | {kept} | {lost} |" for path, kept, lost in rows]
    return "\n".join([*lines, ""])


def described(name: str) -> str:
    """The docstring of the reader's module, as Markdown."""
    module = sys.modules[plugins.find("readers", name).__module__]
    text = re.sub(r":mod:`[\w.]*?(\w+)`", r"`\1`", module.__doc__ or "")
    return re.sub(r"``(.+?)``", r"`\1`", text, flags=re.DOTALL).strip()


def first_sentence(name: str) -> str:
    return " ".join(described(name).split("\n\n")[0].split())


def facts(name: str, path: Path) -> tuple[str, str]:
    """(what is kept, what is lost or marked) of a sample, counted."""
    kept: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for item in plugins.find("readers", name)(path):
        if isinstance(item, Refusal):
            lost["refused"] += 1
            continue
        count(audit(item), kept, lost)
    order = ("trajectories", "turns", "calls", "results", "tools", "thoughts", "system messages", "rewards")
    told = ", ".join(f"{kept[key]} {one(key) if kept[key] == 1 else key}" for key in order if kept[key])
    codes = ", ".join(f"`{code}`" if code != "refused" else f"{lost[code]} refused" for code in sorted(lost))
    return told, codes


def one(key: str) -> str:
    return "trajectory" if key == "trajectories" else key.removesuffix("s")


def count(trajectory: Trajectory, kept: Counter[str], lost: Counter[str]) -> None:
    messages = trajectory.messages
    kept["trajectories"] += 1
    kept["turns"] += sum(1 for message in messages if message.role == "assistant")
    kept["calls"] += sum(len(message.tool_calls) for message in messages)
    kept["results"] += sum(1 for message in messages if message.role == "tool")
    kept["tools"] = max(kept["tools"], len(trajectory.tools))
    kept["thoughts"] += sum(1 for message in messages if message.reasoning)
    kept["system messages"] += sum(1 for message in messages if message.role == "system")
    kept["rewards"] += trajectory.reward is not None
    lost.update({loss.code for loss in trajectory.losses} - IN_EVERY)
    lost.update(set(trajectory.excluded.values()))


def render(text: str) -> str:
    made = sections()
    return re.sub(
        r"(<!-- formats -->\n).*?(<!-- end of formats -->)", lambda m: f"{m[1]}{made}\n{m[2]}", text, flags=re.DOTALL
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    text = DOCUMENT.read_text(encoding="utf-8")
    made = render(text)
    if not parser.parse_args().check:
        DOCUMENT.write_text(made, encoding="utf-8")
    elif made != text:
        sys.exit(f"{DOCUMENT.name} is not up to date: run python recipes/formats_table.py")


if __name__ == "__main__":
    main()
