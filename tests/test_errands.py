"""Errands: the rules, what an observation tells, and the exact planner against an independent one."""

from __future__ import annotations

import functools
import itertools
import json
import random
from pathlib import Path

import pytest

from pivotrl.environments.errands import begin, expert_moves, make_environments, restore, task_name
from pivotrl.environments.errands.planner import best_moves, prices, remaining_moves
from pivotrl.environments.errands.words import (
    ROOMS,
    THINGS,
    WORDINGS,
    Move,
    NoCommand,
    parse_sentence,
    read_command,
)
from pivotrl.environments.errands.world import Goal, View, World, draw_task, parse_view
from pivotrl.protocols import InputError, NotRestorable, Turn
from pivotrl.readers.errands import read
from pivotrl.records import Action, Message, ToolCall, Trajectory
from pivotrl.verifiers.errands import verify

MOVES = [Move("look")] + [
    Move(verb, what)
    for verb, known in (("go", ROOMS), ("take", THINGS), ("put", THINGS), ("ask", THINGS))
    for what in known
]


def played(number: int, generator: random.Random) -> list[World]:
    """The states of a random game."""
    world = begin(task_name("val", number, "loose", (1, 3)))
    states = []
    while not world.is_done and world.left > 0:
        states.append(world)
        other = World(world.task, world.left)
        other.room, other.places = world.room, dict(world.places)
        other.known, other.seen = set(world.known), set(world.seen)
        choice = generator.random()
        other.do(generator.choice(best_moves(world.view()) if choice < 0.6 else MOVES))
        world = other
    return states


# --- the planner against an independent oracle ---------------------------------------------------------------------


def oracle(view: View, moves_ahead: int) -> float:
    """Expected moves of a best plan of at most this many moves, else that number plus 1000 for each failure.

    It plays every move in every arrangement of the things that the agent must think possible, by the rules of the
    world, and keeps together the arrangements that look the same.
    """
    rooms = {room for edge in view.edges for room in edge}
    hidden = [goal for goal in view.goals if goal.place == "?"]
    possible = [sorted(set(view.unseen) - {goal.target}) for goal in hidden]
    task = draw_task("val", 0, (1, 1))
    worlds = []
    for places in itertools.product(*possible):
        found = {goal.thing: view.room if goal.place == "here" else goal.place for goal in view.goals}
        found |= {goal.thing: place for goal, place in zip(hidden, places, strict=True)}
        known = frozenset(goal.thing for goal in view.goals if goal.place != "?")
        goals = tuple((goal.thing, goal.target) for goal in view.goals)
        worlds.append((type(task)(view.edges, view.room, found, goals, known), view.room, found, known))
    seen = frozenset(rooms - set(view.unseen))

    @functools.cache
    def best(
        beliefs: tuple[tuple[int, str, tuple[tuple[str, str], ...]], ...],
        known: frozenset[str],
        seen: frozenset[str],
        left: int,
    ) -> float:
        if all(place == "delivered" for _, _, places in beliefs for _, place in places):
            return 0.0
        if left == 0:
            return 1000.0
        things = [goal.thing for goal in view.goals]
        choices = [Move("go", room) for room in sorted(rooms)]
        choices += [Move(verb, thing) for verb in ("take", "put", "ask") for thing in things]
        worth = []
        for move in choices:
            looks: dict[object, list] = {}
            for index, room, places in beliefs:
                world = World(worlds[index][0], left)
                world.room, world.places, world.known, world.seen = room, dict(places), set(known), set(seen)
                world.do(move)
                after = (index, world.room, tuple(sorted(world.places.items())))
                looks.setdefault(world.view(), []).append((after, frozenset(world.known), frozenset(world.seen)))
            if len(looks) == 1:
                (group,) = looks.values()
                if tuple(one[0] for one in group) == beliefs and group[0][1] == known:
                    continue  # nothing happened
            total = 0.0
            for group in looks.values():
                later = best(tuple(one[0] for one in group), group[0][1], group[0][2], left - 1)
                total += later * len(group) / len(beliefs)
            worth.append(1.0 + total)
        return min(worth, default=1000.0)

    start = tuple((i, room, tuple(sorted(places.items()))) for i, (_, room, places, _) in enumerate(worlds))
    return best(start, worlds[0][3], seen, moves_ahead)


LINE = (("attic", "cellar"), ("cellar", "garden"))
STAR = (("attic", "hall"), ("cellar", "hall"), ("garden", "hall"))
LEAVES = ("attic", "cellar", "garden")


@pytest.mark.parametrize(
    "view",
    [
        View((Goal("key", "here", "garden"),), LINE, "attic", ("key",), (), ("cellar", "garden"), 9),
        View((Goal("key", "?", "attic"),), LINE, "attic", (), (), ("cellar", "garden"), 9),
        View((Goal("key", "?", "attic"),), STAR, "hall", (), (), LEAVES, 9),
        View((Goal("key", "?", "hall"),), STAR, "hall", (), (), LEAVES, 9),
        View((Goal("key", "?", "hall"),), STAR, "attic", (), (), ("cellar", "garden"), 9),
        View((Goal("key", "held", "attic"), Goal("cup", "?", "hall")), STAR, "hall", (), ("key",), LEAVES, 9),
        View((Goal("key", "?", "attic"), Goal("cup", "?", "cellar")), LINE, "attic", (), (), ("cellar", "garden"), 9),
    ],
)  # fmt: skip
def test_the_planner_agrees_with_playing_everything_out(view: View) -> None:
    assert remaining_moves(view) == pytest.approx(oracle(view, 9))


def test_it_asks_where_doors_are_many_and_looks_where_there_are_two() -> None:
    hub = View((Goal("key", "?", "hall"),), STAR, "hall", (), (), LEAVES, 9)
    assert best_moves(hub) == [Move("ask", "key")]
    assert prices(hub)[Move("go", "attic")] > prices(hub)[Move("ask", "key")]
    one = hub._replace(unseen=("attic",))
    assert best_moves(one) == [Move("go", "attic")]  # it can only be there


def test_prices_bear_out_in_play() -> None:
    """On average over the things' places a best player needs the moves that the planner expects."""
    expected, needed = 0.0, 0
    for number in range(400):
        world = begin(task_name("test", number, "loose", (1, 2)))
        expected += remaining_moves(world.view())
        needed += len(expert_moves(world.task))
    assert needed / 400 == pytest.approx(expected / 400, abs=0.12)


# --- rules ---------------------------------------------------------------------------------------------------------


def test_ten_thousand_random_episodes_keep_everything_in_one_place() -> None:
    generator = random.Random(0)
    tasks = [task_name("val", number, "loose", (1, 3)) for number in range(200)]
    starts = [begin(task) for task in tasks]
    for number in range(10_000):
        start = starts[number % len(starts)]
        world = World(start.task, start.left)
        rooms = {room for edge in world.task.edges for room in edge}
        things = set(world.places)
        local = [Move("go", room) for room in rooms] + [Move(v, t) for v in ("take", "put", "ask") for t in things]
        while not world.is_done and world.left > 0:
            left = world.left
            world.do(generator.choice(local))
            assert world.left == left - 1
        view = world.view()
        assert set(world.places) == things
        assert set(world.places.values()) <= rooms | {"held", "delivered"}
        assert world.room in rooms and world.room in world.seen
        assert not set(view.here) & set(view.held)
        assert {goal.thing for goal in view.goals} <= things


def test_an_observation_tells_all_that_matters() -> None:
    """Its text reads back as the same view, and equal texts have equal best moves, whatever came before."""
    generator, known = random.Random(1), dict[str, list[Move]]()
    for number in range(150):
        for world in played(number % 50, generator):
            view = world.view()
            assert parse_view(view.text) == view
            best = best_moves(view)
            assert known.setdefault(view.text, best) == best
            assert best


def test_a_restored_turn_is_in_the_same_state_and_goes_on_the_same_way() -> None:
    for trajectory in itertools.islice(read(Path("val"), demonstrator="detours"), 10):
        assert isinstance(trajectory, Trajectory)
        environment = make_environments(split="val").make(trajectory.task_id)
        environment.reset()
        for index, message in enumerate(trajectory.messages):
            if message.role != "assistant":
                continue
            restored = restore(Turn(trajectory, index))
            assert restored.state() == environment.state()
            action = Action(content=message.content)
            assert environment.step(action) == restored.step(action)
            assert restored.state() == environment.state()


def test_what_cannot_be_restored_says_why() -> None:
    trajectory = next(iter(read(Path("val"))))
    assert isinstance(trajectory, Trajectory)
    with pytest.raises(NotRestorable, match="not_an_errands_turn"):
        restore(Turn(trajectory.model_copy(update={"task_id": "errands-val-0-3to1-loose"}), 1))
    messages = (trajectory.messages[0], Message(role="assistant", content="look"), *trajectory.messages[2:])
    with pytest.raises(NotRestorable, match="replay_differs"):
        restore(Turn(trajectory.model_copy(update={"messages": messages}), 3))


def test_limits_end_an_episode_and_unknown_tasks_are_refused() -> None:
    environment = make_environments(limit="tight").make(task_name("test", 0, "tight", (1, 2)))
    environment.reset()
    num_moves = len(expert_moves(environment.world.task))
    observations = [environment.step(Action(content="nonsense")) for _ in range(num_moves + 1)]
    assert [one.done for one in observations] == [False] * num_moves + [True]
    assert observations[-1].reward == 0.0 and observations[-1].reason == "too_many_moves"
    for options in ({"min_goals": 3, "max_goals": 1}, {"split": "nowhere"}):
        with pytest.raises(InputError):
            make_environments(**options)


def test_splits_share_no_task() -> None:
    drawn = {str(draw_task(split, number, (1, 2))) for split in ("train", "val", "test") for number in range(200)}
    assert len(drawn) == 600


# --- wordings ------------------------------------------------------------------------------------------------------


def wordings(move: Move) -> list[str]:
    said = [form.format(move.what) for form in WORDINGS[move.verb]]
    said += [form.format("the " + move.what) for form in WORDINGS[move.verb]] if move.what else []
    canonical = move.text
    said += [
        f"Please {canonical}.",
        f"{canonical.upper()}!",
        f"I will {canonical}",
        f"do: {canonical}",
        f" {canonical}\n",
    ]
    said += [
        f"The map is small.\n{canonical}",
        f"I think it is near. action: {canonical}",
        json.dumps({"command": canonical}),
        json.dumps({"thought": "It is near.", "action": move.verb, **({"object": move.what} if move.what else {})}),
        f"It is near.\n{json.dumps({'command': canonical})}",
    ]
    return said


def test_every_wording_of_every_move_is_read() -> None:
    for move in MOVES:
        for text in wordings(move):
            assert read_command(text).move == move, text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no_command"),
        ("take", "no_command"),
        ("take dragon", "no_command"),
        ("go lamp", "no_command"),
        ("take lamp and go attic", "no_command"),
        ("take lamp, go attic", "no_command"),
        ("do not take lamp", "no_command"),
        ("should i take lamp or not?", "no_command"),
        ("take lamp\nThat was it.", "no_command"),
        ("take lamp. go attic", "two_commands"),
        ("take lamp; take lamp", "two_commands"),
        ("do: take lamp do: go attic", "two_commands"),
        ("take lamp\n" + '{"command": "go attic"}', "two_commands"),
        ('{"command": "take lamp. go attic"}', "two_commands"),
        ('{"command": "take lamp", "action": "go", "object": "attic"}', "two_commands"),
        ('{"thought": "take lamp", "command": "go attic"}', "two_commands"),
        ('{"command": "take lamp", "command": "go attic"}', "no_command"),
        ('{"command": ["take lamp"]}', "no_command"),
        ("[" * 3000 + "}", "no_command"),
        ('{"a":' * 700 + "}", "no_command"),
        ("take lamp " * 1000, "too_long"),
        ("take\u0000lamp", "no_command"),
        ("t\u0430ke lamp", "no_command"),  # a Cyrillic letter
    ],
)  # fmt: skip
def test_what_is_no_single_command_says_why(text: str, reason: str) -> None:
    with pytest.raises(NoCommand, match=reason):
        read_command(text)


def test_sentences_that_only_mention_a_move_are_no_commands() -> None:
    for text in ("the lamp", "i would take lamp if i could", "taking lamp", "take the", "go to to attic"):
        assert parse_sentence(text) is None


# --- the verifier --------------------------------------------------------------------------------------------------


def turn_at(view: View) -> Turn:
    trajectory = Trajectory(id="t", task_id="t", messages=(Message(role="user", content=view.text),))
    return Turn(trajectory, 1)


def test_every_best_move_passes_in_every_wording_and_every_other_fails() -> None:
    generator = random.Random(2)
    for number in range(12):
        world = generator.choice(played(number, generator))
        turn, best = turn_at(world.view()), best_moves(world.view())
        for move in MOVES:
            for text in wordings(move) if move in best else wordings(move)[:1]:
                verdict = verify(turn, Action(content=text))
                assert verdict.outcome == ("pass" if move in best else "fail"), (text, verdict)


def test_the_strict_reward_accepts_the_demonstrated_move_in_its_own_words_alone() -> None:
    trajectory = next(iter(read(Path("val"))))
    assert isinstance(trajectory, Trajectory)
    turn = Turn(trajectory, 1)
    move = read_command(turn.expected_action.content or "").move
    for text in (move.text, f"It is near.\n{move.text}", f"{move.text.upper()}."):
        assert verify(turn, Action(content=text), accepted="one").reason == "demonstrated"
    other_words = WORDINGS[move.verb][1].format(move.what)
    assert verify(turn, Action(content=other_words), accepted="one").reason == "other_wording"
    assert verify(turn, Action(content=other_words)).outcome == "pass"
    assert verify(turn, Action(content="look"), accepted="one").reason == "other_move"
    assert verify(turn, Action(content="take lamp. go attic"), accepted="one").reason == "two_commands"


def test_what_is_no_turn_of_errands_gets_no_verdict() -> None:
    view = begin(task_name("val", 1, "loose", (1, 2))).view()
    damaged = [view.text.replace(name, f"{name}0") for name in ("room: ", "left: ", "unseen: ", "goals: ")]
    for text in ("hello", "", view.text + "\n", *damaged):
        turn = Turn(Trajectory(id="t", task_id="t", messages=(Message(role="user", content=text),)), 1)
        assert verify(turn, Action(content="look")).outcome == "no_verdict"
    alone = view._replace(edges=view.edges[:1], goals=(Goal("key", "?", view.edges[0][0]),), unseen=())
    room = view.edges[0][0]
    alone = alone._replace(room=room, here=(), held=())
    assert verify(turn_at(alone), Action(content="look")).reason == "no_plan"
    assert verify(turn_at(view), Action(tool_calls=(ToolCall(name="look"),))).reason == "no_command"


# --- demonstrators -------------------------------------------------------------------------------------------------


def demonstrations(demonstrator: str, tasks: int = 60) -> list[Trajectory]:
    found = list(read(Path("train"), demonstrator=demonstrator, tasks=tasks))  # type: ignore[arg-type]
    assert all(isinstance(one, Trajectory) for one in found)
    return found  # type: ignore[return-value]


def verdicts(trajectories: list[Trajectory]) -> list[str]:
    return [
        verify(turn, turn.expected_action).outcome
        for trajectory in trajectories
        for turn in (Turn(trajectory, i) for i, m in enumerate(trajectory.messages) if m.role == "assistant")
    ]


def test_near_and_far_take_the_same_decisions_in_other_words() -> None:
    near, far = demonstrations("near"), demonstrations("far")
    assert set(verdicts(near) + verdicts(far)) == {"pass"}
    for one, other in zip(near, far, strict=True):
        assert [m.content for m in one.messages[::2]] == [m.content for m in other.messages[::2]]
        for short, long in zip(one.messages[1::2], other.messages[1::2], strict=True):
            assert read_command(short.content or "").move == read_command(long.content or "").move
            assert len((short.content or "").split()) == 2 and 15 <= len((long.content or "").split()) <= 40


def test_detours_are_a_third_of_the_moves_and_win() -> None:
    found = verdicts(demonstrations("detours"))
    assert 0.3 <= found.count("fail") / len(found) <= 0.4


def test_the_privileged_player_never_asks_and_is_quicker() -> None:
    near, privileged = demonstrations("near"), demonstrations("privileged")
    said = [m.content or "" for one in privileged for m in one.messages[1::2]]
    assert not any(text.startswith("ask") for text in said)
    assert any((m.content or "").startswith("ask") for one in near for m in one.messages[1::2])
    assert sum(len(one.messages) for one in privileged) < sum(len(one.messages) for one in near)
    assert "fail" in verdicts(privileged)


def test_a_detour_player_that_misses_a_tight_limit_is_refused() -> None:
    found = list(read(Path("train"), demonstrator="detours", tasks=40, limit="tight"))
    assert any(not isinstance(one, Trajectory) for one in found)
    assert all(one.reward == 1.0 for one in found if isinstance(one, Trajectory))


def test_unknown_splits_are_refused() -> None:
    with pytest.raises(InputError, match="splits"):
        next(iter(read(Path("elsewhere"))))
