"""Plancraft: the published simulator and oracle, exact restore, and a verifier that accepts what is equally good."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("plancraft")

from pivotrl.environments.plancraft import (
    CraftingTable,
    load_tasks,
    make_environments,
    observation_text,
    parse_action,
    parse_observation,
)
from pivotrl.protocols import InputError, Turn
from pivotrl.readers.plancraft import expert_moves, read
from pivotrl.records import Action, Message, Trajectory
from pivotrl.verifiers.plancraft import remaining_moves, verify


def test_the_oracle_plays_the_same_in_every_process() -> None:
    """Sets of names have another order in every process; the moves must not."""
    code = (
        "import hashlib; from pathlib import Path; from pivotrl.readers.plancraft import read;"
        "moves = [m.content for t in read(Path('train'), max_tasks=120) for m in t.messages];"
        "print(hashlib.sha256(repr(moves).encode()).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1


def turn(observation: str, path: list[str], impossible: bool = False) -> Turn:
    trajectory = Trajectory(
        id="t",
        task_id="t",
        messages=(Message(role="user", content=observation),),
        metadata={"path": path, "impossible": impossible},
    )
    return Turn(trajectory, 1)


def judged(observation: str, path: list[str], text: str) -> str:
    return verify(turn(observation, path), Action(content=text)).reason


PLANKS = "Craft an item of type: stick\ninventory:\n - oak_planks [I3] quantity 5\n - stone [I9] quantity 2"
PICKAXE_GRID = (
    "Craft an item of type: bowl\ninventory:\n - oak_planks [A1] quantity 1\n - stone [B2] quantity 1"
    "\n - oak_planks [I3] quantity 5"
)


@pytest.mark.parametrize("difficulty", ["easy", "medium", "hard", "impossible"])
def test_the_expert_solves_its_tasks_and_the_verifier_accepts_every_step(difficulty: str) -> None:
    tasks = load_tasks("val", (difficulty,), max_tasks=12)
    trajectories = list(read(Path("val"), difficulty=(difficulty,), distractors=(4, 8, 16), max_tasks=12))
    assert len(trajectories) == len(tasks)
    for trajectory in trajectories:
        turns = [Turn(trajectory, i) for i, m in enumerate(trajectory.messages) if m.role == "assistant"]
        assert [verify(t, t.expected_action).outcome for t in turns] == ["pass"] * len(turns)


def test_expert_play_in_the_environment_succeeds() -> None:
    tasks = load_tasks("test", ("easy", "impossible"), max_tasks=10)
    environments = make_environments(
        split="test", difficulty=("easy", "impossible"), distractors=(4, 8, 16), max_tasks=10
    )
    assert environments.tasks() == [task["id"] for task in tasks]
    for task in tasks:
        environment = environments.make(task["id"])
        environment.reset()
        for move in expert_moves(task):
            observation = environment.step(Action(content=move))
        assert observation.done and observation.reward == 1.0


def test_a_state_is_restored_exactly_from_its_observation() -> None:
    for trajectory in read(Path("val"), difficulty=("medium",), max_tasks=5):
        table = CraftingTable(parse_observation(trajectory.messages[0].content)[1])
        for i in range(0, len(trajectory.messages), 2):
            target, inventory = parse_observation(trajectory.messages[i].content)
            restored = CraftingTable(inventory)
            assert restored.state == table.state
            move = parse_action(trajectory.messages[i + 1].content)
            table.apply(move)
            restored.apply(move)
            assert restored.state == table.state
            assert observation_text(target, restored.state, True) == observation_text(target, table.state, True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("move: from [I3] to [A1] with quantity 1", "nearer"),
        (
            "move: from [I3] to [C3] with quantity 1",
            "nearer",
        ),  # two planks, one above the other: any column, any two rows
        ("move: from [I3] to [B2] with quantity 3", "nearer"),  # a stack on the grid crafts as well
        ("move: from [I3] to [B2] with quantity 5", "nearer"),  # ... and the next one is taken from that stack
        ("move: from [I3] to [I4] with quantity 1", "not_nearer"),
        ("move: from [I9] to [A1] with quantity 1", "not_nearer"),
        ("move: from [I5] to [A1] with quantity 1", "no_effect"),
        ("move: from [I3] to [A1] with quantity 6", "no_effect"),
        ("smelt: from [I3] to [I4] with quantity 1", "no_effect"),
        ("impossible: no wood", "gave_up"),
        ("The recipe for stick is two planks.", "not_an_action"),
        ("", "not_an_action"),
        ("move: from [I3] to [0] with quantity 1", "not_an_action"),
    ],
)
def test_equivalent_moves_pass_and_others_say_why_not(text: str, reason: str) -> None:
    assert judged(PLANKS, ["stick"], text) == reason


def test_clearing_a_cell_in_the_way_is_progress_and_filling_a_wrong_one_is_not() -> None:
    assert judged(PICKAXE_GRID, ["bowl"], "move: from [B2] to [I9] with quantity 1") == "nearer"
    assert judged(PICKAXE_GRID, ["bowl"], "move: from [I3] to [C3] with quantity 1") == "not_nearer"
    assert judged(PICKAXE_GRID, ["bowl"], "move: from [A1] to [I9] with quantity 1") == "not_nearer"


def test_moves_remaining_count_down_to_zero_along_the_expert() -> None:
    for trajectory in read(Path("val"), difficulty=("medium", "hard"), max_tasks=8):
        states = [parse_observation(m.content) for m in trajectory.messages if m.role == "user"]
        counts = [
            remaining_moves(inventory, target, tuple(trajectory.metadata["path"])) for target, inventory in states
        ]
        assert counts[-1] == 1
        assert all(a > b for a, b in itertools.pairwise(counts))


def test_what_is_not_a_plancraft_turn_gets_no_verdict() -> None:
    assert verify(turn("hello", ["stick"]), Action(content="move: ...")).outcome == "no_verdict"
    bare = Trajectory(id="x", task_id="x", messages=(Message(role="user", content=PLANKS),))
    assert verify(Turn(bare, 1), Action(content="move: ...")).outcome == "no_verdict"


def test_on_impossible_tasks_only_stopping_passes() -> None:
    assert verify(turn(PLANKS, [], True), Action(content="impossible: no way")).outcome == "pass"
    assert verify(turn(PLANKS, [], True), Action(content="move: from [I3] to [A1] with quantity 1")).outcome == "fail"


def test_a_state_that_comes_back_ends_a_greedy_episode() -> None:
    environments = make_environments(split="test", max_tasks=1)
    environment = environments.make(environments.tasks()[0])
    environment.reset()
    assert environment.step(Action(content="nonsense")).done is False
    assert environment.step(Action(content="nonsense")).reason == "repeated_state"


def test_trajectories_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "import hashlib; from pathlib import Path; from pivotrl.readers.plancraft import read\n"
        "text = ''.join(t.model_dump_json() for t in read(Path('val'), difficulty=('easy', 'medium'), max_tasks=25))\n"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(digests) == 1


def test_unknown_splits_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a Plancraft split"):
        load_tasks("nowhere")
    bad = tmp_path / "tasks.json"
    bad.write_text('[{"id": 1}]')
    with pytest.raises(InputError, match="not a Plancraft task file"):
        load_tasks(bad)
    with pytest.raises(InputError, match="no task of difficulty"):
        load_tasks("val", ("trivial",))
