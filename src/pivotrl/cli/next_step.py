"""Printed after an import: the kinds of turns in the log, the verifier for each, and the command to run next."""

from __future__ import annotations

import itertools
import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pivotrl.cli.fitting_table import new_table, print_table
from pivotrl.cli.tables import out, plain
from pivotrl.judging.probes.turn_kinds import kind_of_turn
from pivotrl.judging.suggestion import combined, fitting_verifier, quoted
from pivotrl.records import Trajectory
from pivotrl.runs.files import RunFiles
from pivotrl.turns import cut

_NUM_TURNS = 2_000
"""So many show what a log is made of; a large one is not read again."""


def print_next_step(directory: Path) -> None:
    """The verifiers for the first turns of a run, and the command line that checks the one for all of them."""
    counts = kinds_and_verifiers(RunFiles(directory).logged())
    if not counts:
        return
    total = sum(counts.values())
    title = f"kind of turn, first {total:,}" if total >= _NUM_TURNS else "kind of turn"
    table = new_table(title, "turns", "made for it")
    for (kind, verifier), count in counts.most_common():
        table.add_row(kind, f"{count:,}", plain(verifier) or "a verifier of your own")
    print_table(out, table)
    verifier = combined(verifier for _, verifier in counts)
    if not verifier:
        out.print("nothing built in is made for such turns; docs/plugins.md shows how to write a verifier")
    command = f"pivotrl check {shlex.quote(str(directory))} --verifier {quoted(verifier or 'exact')}"
    out.print(f"next: {plain(command)}", soft_wrap=True)


def kinds_and_verifiers(trajectories: Iterable[Trajectory]) -> Counter[tuple[str, str]]:
    """How many of the first candidate turns are of each (kind, verifier made for it)."""
    turns = (turn for trajectory in trajectories for turn in cut([trajectory])[0])
    kinds = ((kind_of_turn(turn), turn) for turn in itertools.islice(turns, _NUM_TURNS))
    return Counter((kind, fitting_verifier(turn, kind)) for kind, turn in kinds)
