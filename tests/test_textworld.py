"""TextWorld: games by seed, exact restore, four players that all win, and a verifier of progress.

Run alone: python -m pytest tests/test_textworld.py
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("textworld", reason='textworld is not installed: pip install "pivotrl[textworld]"')

from textworld.generator.chaining import QuestGenerationError

from pivotrl import plugins
from pivotrl.environments.textworld import TextWorldTask, make_environments, restore
from pivotrl.episodes import episodes_of, play_episodes
from pivotrl.protocols import InputError, NotRestorable, Turn
from pivotrl.readers.textworld import read
from pivotrl.reading.formats import textworld_games
from pivotrl.reading.formats.textworld_games import Game, game_file, named, playing
from pivotrl.records import Action, Message, Sampling, Trajectory
from pivotrl.rows.rows import turn_text
from pivotrl.samplers.scripted import Sampler
from pivotrl.text.game_commands import NoCommand, find_command
from pivotrl.turns import cut
from pivotrl.verifiers.textworld import verify

pytestmark = pytest.mark.filterwarnings("ignore:Game .* is not fully supported")

PLAIN: dict[str, Any] = {}
SEVERAL: dict[str, Any] = {"rooms": 2, "quests": 3, "quest_length": 2}
GOALS: dict[str, Any] = {**SEVERAL, "objective": "goal"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("games"))


def played(folder: str, seeds: str = "1-3", **options: Any) -> list[Trajectory]:
    found = list(read(Path(seeds), folder=folder, **options))
    assert all(isinstance(item, Trajectory) for item in found), found
    return found  # type: ignore[return-value]


def turns_of(trajectories: list[Trajectory]) -> list[Turn]:
    return cut(trajectories)[0]


def verdict(turn: Turn, text: str | None, folder: str, **options: Any) -> tuple[str, str]:
    found = verify(turn, Action(content=text), folder=folder, **options)
    return found.outcome, found.reason


def commands_of(turn: Turn) -> list[str]:
    return str(turn.context[-1].content).partition("Commands:\n")[2].split("\n")


# --- games --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("game", [Game(seed=17), Game(seed=0, rooms=2, objects=3, quests=3, objective="goal")])
def test_a_name_says_all_that_makes_a_game(game: Game) -> None:
    assert named(game.name) == game


@pytest.mark.parametrize("name", ["", "tw-r4o8l4", "tw-r0o8l4-1", "tw-r4o8l4-1/../x", "tw-r4o8l4q0-1", "plancraft"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="tw-|rooms|quests"):
        named(name)


def test_games_and_demonstrations_are_the_same_in_every_process(tmp_path: Path) -> None:
    code = (
        "import sys, hashlib; from pathlib import Path; from pivotrl.readers.textworld import read\n"
        "kinds = [dict(demonstrator=d, quests=2) for d in ('near', 'far', 'detours', 'privileged')]\n"
        "text = ''.join(t.model_dump_json() for k in kinds for t in read(Path('5-5'), folder=sys.argv[1], **k))\n"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_several_processes_may_generate_the_same_game_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pivotrl.reading.formats.textworld_games import *\n"
        "with playing(Game(seed=3), sys.argv[1]) as play: print(play.plan)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    plans = {process.communicate()[0] for process in started}
    assert [process.returncode for process in started] == [0, 0, 0] and len(plans) == 1
    (version,) = tmp_path.iterdir()
    assert [path.name for path in version.iterdir()] == ["tw-r4o8l4-3"]


def test_a_killed_generation_leaves_no_part_of_a_game(tmp_path: Path) -> None:
    code = (
        "import sys; from pivotrl.reading.formats import textworld_games as games\n"
        "make = games._generate\n"
        "def killed(game, place, parser):\n"
        "    make(game, place, parser); (place / 'game.json').write_text('{')\n"
        "    print('half', flush=True); import time; time.sleep(60)\n"
        "games._generate = killed\n"
        "games.game_file(games.Game(seed=4), sys.argv[1])"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    with playing(Game(seed=4), tmp_path) as play:
        assert len(play.plan) == 4


def test_what_textworld_cannot_make_or_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(options: Any) -> Any:
        raise QuestGenerationError("no quest")

    with monkeypatch.context() as patch, pytest.raises(InputError, match="ask for more rooms"):
        patch.setattr(textworld_games, "make_game", fails)
        game_file(Game(seed=1), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="name another folder"):
        game_file(Game(seed=1), tmp_path / "file")
    with pytest.raises(InputError, match="neither a range of seeds"):
        list(read(Path("nowhere")))
    (tmp_path / "games").write_text("tw-r4o8l4-1\nsomething\n")
    with pytest.raises(InputError, match=r"games:2: 'something'"):
        list(read(tmp_path / "games", folder=str(tmp_path)))


def test_a_file_may_name_the_games(folder: str, tmp_path: Path) -> None:
    (tmp_path / "games.txt").write_text("tw-r4o8l4-2\n\ntw-r2o8l2q3-1\n")
    found = list(read(tmp_path / "games.txt", folder=folder))
    assert [t.task_id for t in found if isinstance(t, Trajectory)] == ["tw-r4o8l4-2", "tw-r2o8l2q3-1"]


def test_the_logic_and_the_compiled_game_are_the_same_game(folder: str) -> None:
    game = Game(seed=1, **SEVERAL)
    with playing(game, folder) as logic, playing(game, folder, parser=True) as compiled:
        while True:
            assert (logic.commands, logic.plan, logic.facts) == (compiled.commands, compiled.plan, compiled.facts)
            assert (logic.objective, logic.inventory) == (compiled.objective, compiled.inventory)
            if logic.over:
                break
            command = next((c for c in logic.commands if c.startswith("take ")), logic.plan[0])
            assert logic.execute(command) == compiled.execute(command) == command
        assert logic.won and compiled.won


# --- the environment ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("commands", ["listed", "free"])
@pytest.mark.parametrize("options", [PLAIN, SEVERAL, GOALS])
def test_a_turn_is_restored_exactly(folder: str, commands: str, options: dict[str, Any]) -> None:
    for trajectory in played(folder, "1-2", commands=commands, demonstrator="detours", **options):
        task = TextWorldTask(named(trajectory.task_id), commands, folder=folder)  # type: ignore[arg-type]
        task.reset()
        for turn in turns_of([trajectory]):
            with contextlib.closing(restore(turn, folder=folder)) as restored:
                assert restored.text() == task.text() == turn.context[-1].content
                assert restored.state() == task.state() and restored.play.plan == task.play.plan
                assert restored.num_turns == task.num_turns
                assert restored.step(turn.expected_action) == task.step(turn.expected_action)
        task.close()


def test_a_failed_command_is_answered_and_does_not_stop_the_restoring(folder: str) -> None:
    task = TextWorldTask(Game(seed=1), "free", folder=folder)
    messages = list(task.reset())
    for text in ("take the moon", "examine chest", "walk west", "no idea"):
        messages += [Message(role="assistant", content=text), *task.step(Action(content=text)).messages]
    assert "The game answers: You can't see any such thing." in str(messages[-7].content)
    assert str(messages[-1].content).splitlines()[1:3] == [
        "Done so far: go west",
        "The game answers: That is not a possible command.",
    ]
    for index in range(task.pinned_messages + 1, len(messages) + 1, 2):
        trajectory = Trajectory(
            id="x", task_id=task.task_id, messages=tuple(messages), context_window=1, pinned_messages=7
        )
        with contextlib.closing(restore(Turn(trajectory, index), folder=folder)) as restored:
            assert restored.text() == messages[index - 1].content


def test_what_is_not_as_logged_is_not_restored(folder: str) -> None:
    (trajectory,) = played(folder, "1-1")
    turn = turns_of([trajectory])[1]
    place, shown = turn.index - 1, str(turn.context[-1].content)

    def altered(text: str, **changes: Any) -> Turn:
        messages = list(trajectory.messages)
        messages[place] = Message(role="user", content=text)
        return Turn(trajectory.model_copy(update={"messages": tuple(messages), **changes}), turn.index)

    cases = {
        "replay_differs": [
            altered(shown.replace("Done so far: unlock", "Done so far: lock")),
            altered(shown.replace("\nopen", "\nshut")),
            altered(shown.replace("Task: ", "Task: please ")),
        ],
        "not_a_textworld_turn": [
            altered("hello"),
            altered(shown, task_id="TEST0001", metadata={}),
        ],
    }
    for reason, turns in cases.items():
        for each in turns:
            with pytest.raises(NotRestorable, match=reason):
                restore(each, folder=folder)
            assert verdict(each, "open gateway", folder) == ("no_verdict", reason)


@pytest.mark.parametrize("commands", ["listed", "free"])
def test_the_oracle_wins_every_episode(folder: str, commands: str) -> None:
    environments = make_environments(first=1, games=3, commands=commands, folder=folder)  # type: ignore[arg-type]
    script = {
        f"episode-{turn.id.removesuffix(turn.id.partition('#')[2])[:-1].removesuffix('-near')}~0#{turn.index}": [
            str(turn.expected_action.content)
        ]
        for turn in turns_of(played(folder, "1-3", commands=commands))
    }
    results = list(play_episodes(episodes_of({"": environments}), Sampler(script=script), Sampling()))
    assert [(result.reward, result.reason, result.num_turns) for result in results] == [(1.0, "won", 4)] * 3
    for result in results:
        read_back = result.trajectory()
        assert read_back.pinned_messages == 7
        for turn in result.turns:
            seen = Turn(read_back, turn.index).context
            assert [message.role for message in seen] == ["system", *["user", "assistant"] * 3, "user"]
            assert verdict(Turn(read_back, turn.index), turn.text, folder)[0] == "pass"


def test_few_spare_turns_make_detours_cost(folder: str) -> None:
    (trajectory,) = played(folder, "1-1", demonstrator="detours")
    moves = [Action(content=str(turn.expected_action.content)) for turn in turns_of([trajectory])]
    ends = {}
    for spare in (0, 1, 2):
        environments = make_environments(first=1, games=1, spare_turns=spare, folder=folder)
        task = environments.make(environments.tasks()[0])
        task.reset()
        ends[spare] = next(answer.reason for answer in map(task.step, moves) if answer.done)
        task.close()
    assert ends == {0: "too_many_turns", 1: "too_many_turns", 2: "won"}


def test_a_game_that_cannot_be_won_any_more_is_over(folder: str) -> None:
    with playing(Game(seed=7), folder) as play:
        lethal = [command for command, after in play.remaining().items() if after is None]
    if not lethal:
        pytest.skip("no command of this game ends it")
    task = TextWorldTask(Game(seed=7), folder=folder)
    task.reset()
    answer = task.step(Action(content=lethal[0]))
    assert (answer.done, answer.reward, answer.reason) == (True, 0.0, "lost")


# --- demonstrators ------------------------------------------------------------------------------------------------


def test_far_takes_the_same_decisions_in_another_style(folder: str) -> None:
    near, far = turns_of(played(folder)), turns_of(played(folder, demonstrator="far"))
    said = [str(turn.expected_action.content) for turn in far]
    assert [find_command(text) for text in said] == [turn.expected_action.content for turn in near]
    assert [turn.context for turn in far] == [turn.context for turn in near]
    assert all(json.loads(text.splitlines()[-1]).keys() == {"action"} for text in said)
    assert all(20 <= len(re.findall(r"\w+|[.,]", text.splitlines()[0])) <= 60 for text in said)
    assert len({text.splitlines()[0] for text in said}) > len(said) // 2


@pytest.mark.parametrize("options", [PLAIN, SEVERAL])
def test_detours_win_with_a_third_of_their_moves_wasted(folder: str, options: dict[str, Any]) -> None:
    near, detours = played(folder, **options), played(folder, demonstrator="detours", **options)
    judged = Counter(verdict(turn, turn.expected_action.content, folder) for turn in turns_of(detours))
    assert judged.keys() == {("pass", "nearer"), ("pass", "wins"), ("fail", "not_nearer")}
    assert judged["pass", "wins"] == 3
    assert 0.3 <= judged["fail", "not_nearer"] / judged.total() <= 0.4
    assert judged.total() - judged["fail", "not_nearer"] == len(turns_of(near))


def test_privileged_chooses_by_what_the_observation_does_not_show(folder: str) -> None:
    near, privileged = played(folder, **SEVERAL), played(folder, demonstrator="privileged", **SEVERAL)
    turns = turns_of(privileged)
    assert {verdict(turn, turn.expected_action.content, folder)[0] for turn in turns} == {"pass"}
    others = [
        command
        for turn in turns
        for command in commands_of(turn)
        if command != turn.expected_action.content and verdict(turn, command, folder)[0] == "pass"
    ]
    assert others, "other commands must be as right, or there is nothing to choose"
    assert [m.content for t in near for m in t.messages] != [m.content for t in privileged for m in t.messages]
    with pytest.raises(InputError, match="quests=2"):
        played(folder, demonstrator="privileged")


# --- the verifier -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [PLAIN, SEVERAL, GOALS])
def test_the_oracle_passes_at_every_turn_and_others_only_if_they_shorten_the_plan(
    folder: str, options: dict[str, Any]
) -> None:
    for turn in turns_of(played(folder, **options)):
        expected = str(turn.expected_action.content)
        assert verdict(turn, expected, folder)[0] == "pass"
        assert verdict(turn, expected, folder, accepts="oracle")[0] == "pass"
        with contextlib.closing(restore(turn, folder=folder)) as task:
            before = len(task.play.plan)
        for command in commands_of(turn):
            with contextlib.closing(restore(turn, folder=folder)) as task:
                task.step(Action(content=command))
                shorter = task.play.won or 0 < len(task.play.plan) < before
            assert (verdict(turn, command, folder)[0] == "pass") == shorter, (turn.id, command)
            assert verdict(turn, command, folder, accepts="oracle")[0] == ("pass" if command == expected else "fail")


def test_independent_quests_may_be_solved_in_any_order(folder: str) -> None:
    orders = 0
    for trajectory in played(folder, **SEVERAL):
        first = turns_of([trajectory])[0]
        for command in commands_of(first):
            if command == first.expected_action.content or verdict(first, command, folder)[0] != "pass":
                continue
            orders += 1
            with contextlib.closing(restore(first, folder=folder)) as task:
                answer = task.step(Action(content=command))
                while not answer.done:
                    answer = task.step(Action(content=task.play.plan[0]))
                assert answer.reason == "won"
    assert orders


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "{}.",
        "  {}\n\n",
        "> {}",
        "I know what to do.\n{}",
        "Let me think, there is a gate.\n\nCommand: `{}`",
        "Next action: {}",
        "**Command:** {}",
        "```\n{}\n```",
        'First this.\n{{"action": "{}"}}',
        '```json\n{{"thought": "hm", "command": "{}"}}\n```',
    ],
)
def test_only_the_command_counts(folder: str, around: str) -> None:
    turn = turns_of(played(folder, "1-1"))[0]
    assert verdict(turn, around.format("unlock gateway with key"), folder) == ("pass", "nearer")
    assert verdict(turn, around.format("Unlock Gateway  with KEY"), folder) == ("pass", "nearer")
    assert verdict(turn, around.format("open chest"), folder) == ("fail", "not_nearer")


HOSTILE = {
    None: "empty_action",
    "": "empty_action",
    "   \n": "empty_action",
    "I do not know.": "no_command",
    "The key unlocks the gateway": "no_command",
    "unlock gateway with key\nunlock gateway with key": "several_commands",
    "unlock gateway with key\ngo west": "several_commands",
    "`unlock gateway with key` or `go west`": "several_commands",
    "Task: x\nDone so far: nothing\nCommands:\nunlock gateway with key": "copied_observation",
    "Command: go west\nCommand: unlock gateway with key": "several_commands",
    '{"action": "go west", "command": "unlock gateway with key"}': "several_commands",
    '{"action": ["unlock gateway with key"]}': "no_command",
    '{"action": {"command": "unlock gateway with key"': "no_command",
    "unlock gateway with key, open gateway": "no_command",
    "unlock gateway with key. open gateway": "no_command",
    "unlock gateway with key then open gateway": "not_listed",
    "unlock": "not_listed",
    "examine chest": "not_listed",
    "restart": "no_command",
    "undo": "no_command",
    "tw-extra-infos moves": "no_command",
    "print_state": "no_command",
    "unlock gateway with key\x00": "no_command",
    "open " + "x" * 200: "no_command",
    "go west\n" * 100_000: "too_long",
    "`" * 7_999: "no_command",
    "{" * 7_999: "no_command",
    "ünlock gateway with key": "no_command",
}


@pytest.mark.parametrize(("text", "reason"), HOSTILE.items(), ids=range(len(HOSTILE)))
def test_hostile_answers_fail_quickly(folder: str, text: str | None, reason: str) -> None:
    turn = turns_of(played(folder, "1-1"))[0]
    began = time.monotonic()
    assert verdict(turn, text, folder) == ("fail", reason)
    assert time.monotonic() - began < 10


FREE = {
    "unlock gateway with key": ("pass", "nearer"),
    "unlock the gateway with the key": ("pass", "nearer"),
    "Unlock gateway using key": ("fail", "no_effect"),
    "walk west": ("fail", "not_nearer"),
    "get latchkey": ("fail", "not_nearer"),
    "pick up the latchkey": ("fail", "not_nearer"),
    "take all": ("fail", "several_commands"),
    "drop key and mug": ("fail", "several_commands"),
    "unlock gateway with key then open gateway": ("fail", "several_commands"),
    "open it": ("fail", "several_commands"),
    "look": ("fail", "no_effect"),
    "inventory": ("fail", "no_effect"),
    "take the moon": ("fail", "no_effect"),
    "save": ("fail", "no_command"),
    "restore": ("fail", "no_command"),
    "quit": ("fail", "no_command"),
    "script": ("fail", "no_command"),
}


@pytest.mark.parametrize(("text", "expected"), FREE.items(), ids=list(FREE))
def test_without_a_list_the_game_s_parser_reads_other_wordings(
    folder: str, text: str, expected: tuple[str, str]
) -> None:
    turn = turns_of(played(folder, "1-1", commands="free"))[0]
    assert "Commands:" not in str(turn.context[-1].content)
    assert verdict(turn, text, folder) == expected


def test_an_exported_row_can_still_be_judged(folder: str) -> None:
    """A row holds only what the agent saw, so the state must come from the observation."""
    for turn in turns_of(played(folder, "1-1", demonstrator="detours")):
        row = Trajectory.model_validate_json(turn_text(turn))
        there, here = Turn(row, len(row.messages) - 1), turn
        assert there.context == here.context
        for command in commands_of(turn):
            assert verdict(there, command, folder) == verdict(here, command, folder)


def test_text_without_one_command_is_told_apart() -> None:
    with pytest.raises(NoCommand, match="several_commands"):
        find_command("go north\nHm.\ngo south")
    assert find_command("Go south first.\nThe rest can wait.\ngo north") == "go north"


def test_plugins_are_found_by_name(folder: str) -> None:
    made = plugins.load("environments", f"textworld(first=1, games=2, folder={folder!r})")()
    assert made.tasks() == ["tw-r4o8l4-1", "tw-r4o8l4-2"]
    assert callable(plugins.load("verifiers", "textworld(accepts='oracle')"))
    with pytest.raises(InputError):
        plugins.load("readers", "textworld(demonstrator='perfect')")
