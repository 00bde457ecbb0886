"""Attacks and honest near-misses on real turns, frozen: what a verifier must refuse, and what it must accept.

``generated.jsonl`` was made by ``make_corpus.py`` from the probes and stays as it is when the probes change;
``by_hand.jsonl`` was written by hand, and ``blind.jsonl`` by hand too, before its author had read the verifiers;
``second_round.jsonl`` is by the same author, after what the blind cases showed was mended. ``third_round.jsonl`` was
written together with the change that it tests, in English, German, French, Spanish and Chinese and a few more scripts;
its turns stand in ``turns.jsonl``. ``blind_round_2.jsonl`` was written from the documents alone, and frozen before it
was judged; its turns stand in ``blind_round_2_turns.jsonl``, and its rows name their ``language``; so do those of
``blind_round_3.jsonl`` and ``blind_round_4.jsonl``, made in the same way by others. A row names its turn by file and
turn id:

    {"source": "tau_bench/gpt-4o-airline.json", "turn": "tau_bench-airline-32-2#12", "verifier": "tool_call",
     "class": "swapped", "kind": "swapped/value", "action": {...}, "expected": "fail", "note": "..."}

``verifier`` may have options (``answer(kind='list')``). ``demonstrated``, where given, takes the place of the action
that the log has at the turn.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pivotrl.judging.probes.probe import Probe
from pivotrl.protocols import Turn
from pivotrl.readers import auto
from pivotrl.reading.audit import audit
from pivotrl.records import Action, Trajectory
from pivotrl.turns import cut

DATA = Path(__file__).parents[1] / "data"
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    name: str
    """File and line of the corpus."""
    turn: Turn
    verifier: str
    probe: Probe
    note: str


@functools.cache
def turns(source: str) -> dict[str, Turn]:
    """The candidate turns of a file or a directory of the test data, or of a file beside this one."""
    path = HERE / source if (HERE / source).is_file() else DATA / source
    found = [audit(item) for item in auto.read(path) if isinstance(item, Trajectory)]
    return {turn.id: turn for turn in cut(found)[0]}


def cases(names: Sequence[str] = ("generated.jsonl", "by_hand.jsonl")) -> list[Case]:
    return [
        _case(f"{name}:{number}", json.loads(line))
        for name in names
        for number, line in enumerate((HERE / name).read_text().splitlines(), 1)
    ]


def _case(name: str, row: dict[str, object]) -> Case:
    action = Action.model_validate(row["action"])
    turn = turns(str(row["source"]))[str(row["turn"])]
    if "demonstrated" in row:
        turn = _demonstrating(turn, Action.model_validate(row["demonstrated"]))
    error = row.get("parse_error")
    assert row["expected"] in ("pass", "fail") and str(row["kind"]).startswith(f"{row['class']}/"), name
    probe = Probe(str(row["kind"]), action, "", row["expected"], True, str(error) if error else None)  # type: ignore[arg-type]
    return Case(name, turn, str(row["verifier"]), probe, str(row.get("note", "")))


def _demonstrating(turn: Turn, action: Action) -> Turn:
    messages = list(turn.trajectory.messages)
    messages[turn.index] = messages[turn.index].model_copy(update=dict(action))
    return Turn(turn.trajectory.model_copy(update={"messages": tuple(messages)}), turn.index)
