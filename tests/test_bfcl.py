"""BFCL multi-turn: the package's functions and checkers, calls that never leave the episode, exact restore.

Run alone: python -m pytest tests/test_bfcl.py
"""

from __future__ import annotations

import decimal
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("bfcl_eval", reason="bfcl-eval is not installed: pip install --no-deps bfcl-eval")
pytest.importorskip("mpmath", reason="mpmath is not installed: the extra bfcl brings it")

import mpmath
from bfcl_eval.eval_checker.multi_turn_eval import multi_turn_checker, multi_turn_utils

from pivotrl.environments import bfcl, bfcl_irrelevance
from pivotrl.environments.bfcl import BfclTask, make_environments, restore
from pivotrl.episodes import episodes_of, play_episodes
from pivotrl.judging.bfcl_calls import parameters_of
from pivotrl.protocols import InputError, NotRestorable, Turn
from pivotrl.readers.bfcl import read
from pivotrl.reading.formats.bfcl import CATEGORIES, calls_as_text, calls_in_text, load_task
from pivotrl.records import Action, Message, Sampling, ToolCall, Trajectory
from pivotrl.rendering import action_text
from pivotrl.samplers.scripted import Sampler
from pivotrl.verifiers.bfcl import missing_calls, verify
from pivotrl.verifiers.execute import Execution

SAMPLE = [f"multi_turn_base_{number}" for number in range(0, 200, 5)]
"""Every class of the package occurs in it."""


def experts(category: str = "base", **options: Any) -> list[Trajectory]:
    found = list(read(Path(category), **options))
    assert all(isinstance(trajectory, Trajectory) for trajectory in found)
    return found  # type: ignore[return-value]


@pytest.fixture(scope="module")
def sample() -> list[Trajectory]:
    return experts(tasks=SAMPLE)


def turns(trajectory: Trajectory) -> Iterator[Turn]:
    return (Turn(trajectory, i) for i, message in enumerate(trajectory.messages) if message.role == "assistant")


def begun(task: str = "multi_turn_base_0", **options: Any) -> BfclTask:
    category = task.removeprefix("multi_turn_").rpartition("_")[0]
    environment = make_environments(category=category, tasks=[task], **options).make(task)
    environment.reset()
    return environment


def call(name: str, /, **arguments: Any) -> Action:
    return Action(tool_calls=(ToolCall(name=name, arguments=json.dumps(arguments), id="c"),))


def both(*actions: Action) -> Action:
    return Action(tool_calls=tuple(call for action in actions for call in action.tool_calls))


# --- ground truth --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tools", ["json", "signatures"])
def test_the_ground_truth_wins_a_sample_of_every_category(tools: str) -> None:
    for category in CATEGORIES:
        names = [name.replace("base", category) for name in SAMPLE[: 40 if category == "base" else 10]]
        found = experts(category, tasks=names, tools=tools)
        assert [trajectory.task_id for trajectory in found] == names
        assert all(trajectory.reward == 1.0 for trajectory in found)


@pytest.mark.slow
def test_the_ground_truth_wins_every_task_and_the_verifier_accepts_every_step() -> None:
    for category in CATEGORIES:
        found = experts(category)
        assert len(found) == 200
        for turn in itertools.chain.from_iterable(map(turns, found)):
            assert verify()(turn, turn.expected_action).outcome == "pass", turn.id


def test_the_sample_has_every_class_and_the_verifiers_accept_every_step(sample: list[Trajectory]) -> None:
    classes = {name for trajectory in sample for name in trajectory.metadata["classes"].split("+")}
    assert len(classes) == 8
    execute = Execution(environment=restore)
    for turn in itertools.chain.from_iterable(map(turns, sample)):
        assert verify()(turn, turn.expected_action).outcome == "pass", turn.id
        assert execute(turn, turn.expected_action).reason == "same_effects", turn.id


@pytest.mark.parametrize("tools", ["json", "signatures"])
def test_a_scripted_player_of_the_ground_truth_wins_its_episodes(tools: str) -> None:
    names = ["multi_turn_miss_func_3", "multi_turn_miss_func_45", "multi_turn_miss_func_120"]
    environments = make_environments(category="miss_func", tasks=names, tools=tools)
    episodes = episodes_of({"bfcl": environments})
    script = {}
    for episode, trajectory in zip(episodes, experts("miss_func", tasks=names, tools=tools), strict=True):
        texts = {turn.index: action_text(turn.expected_action) for turn in turns(trajectory)}
        script |= {f"episode-{episode.key}#{index}": [text] for index, text in texts.items()}
    results = list(play_episodes(episodes, Sampler(script=script), Sampling()))
    assert [(result.reward, result.reason) for result in results] == [(1.0, "all_fulfilled")] * 3
    idle = list(play_episodes(episodes, Sampler(script={}, otherwise="Done."), Sampling()))
    assert [result.reward for result in idle] == [0.0] * 3


def test_withheld_functions_are_shown_with_the_request_that_releases_them() -> None:
    for tools in ("json", "signatures"):
        (trajectory,) = experts("miss_func", tasks=["multi_turn_miss_func_0"], tools=tools)
        ((request, (withheld,)),) = load_task("multi_turn_miss_func_0").released.items()
        assert withheld.name not in {tool.name for tool in trajectory.tools}
        (shown,) = [m.content or "" for m in trajectory.messages if bfcl.RELEASED in (m.content or "")]
        assert request > 0 and withheld.name in shown


# --- the package's own checker -------------------------------------------------------------------------------------


def official(task: str, answers: Sequence[Sequence[Sequence[str]]], name: str) -> bool:
    """The package's verdict on answers: for each request the steps, each a list of calls. Its instances are removed."""
    entry = load_task(task)
    assert entry is not None
    row = {"id": task, "initial_config": entry.initial, "involved_classes": list(entry.classes)}
    try:
        found = multi_turn_checker.multi_turn_checker(
            [[list(step) for step in steps] for steps in answers], list(map(list, entry.truth)), row, "", name
        )
    finally:
        for key in [key for key in vars(multi_turn_utils) if key.endswith("_instance")]:
            delattr(multi_turn_utils, key)
    return bool(found["valid"])


def ours(task: str, answers: Sequence[Sequence[Sequence[str]]], **options: Any) -> bool:
    environment = begun(task, tools="signatures", **options)
    for steps in answers:
        for step in steps:
            environment.step(Action(content=f"[{', '.join(step)}]"))
        observation = environment.step(Action(content="Done."))
        if observation.done:
            break
    return observation.reward == 1.0


def damaged(truth: Sequence[Sequence[str]], generator: random.Random) -> Iterator[list[list[list[str]]]]:
    """The right answer one call a step and all at once, then answers with one change each, some of them harmless."""
    yield [[[text] for text in texts] for texts in truth]
    yield [[list(texts)] if texts else [] for texts in truth]
    full = [number for number, texts in enumerate(truth) if texts]
    for change in ("drop", "repeat", "swap", "late", "empty", "alter", "unknown", "look"):
        answer = [[[text] for text in texts] for texts in truth]
        steps = answer[generator.choice(full)]
        place = generator.randrange(len(steps))
        if change == "drop":
            del steps[place]
        elif change == "repeat":
            steps.insert(place, steps[place])
        elif change == "swap":
            steps.reverse()
        elif change == "late":
            first = full[0]
            answer[full[-1]] = answer[first] + answer[full[-1]]
            answer[first] = []
        elif change == "empty":
            steps.clear()
        elif change == "alter":
            steps[place] = [steps[place][0].replace("='", "='x").replace("=1", "=2").replace("True", "False")]
        elif change == "unknown":
            steps.insert(place, ["make_coffee(sugar=2)"])
        else:
            steps.insert(place, ["pwd()"])
        yield answer


@pytest.mark.parametrize("category", CATEGORIES)
def test_right_and_damaged_answers_are_judged_as_by_the_packages_own_checker(category: str) -> None:
    generator, seen = random.Random(category), {True: 0, False: 0}
    for number in range(0, 200, 8 if category == "base" else 25):
        task = f"multi_turn_{category}_{number}"
        for variant, answer in enumerate(damaged(load_task(task).truth, generator)):
            wanted = official(task, answer, f"test{variant}")
            assert ours(task, answer) == wanted, (task, answer)
            assert ours(task, answer, stop_when_lost=False) == wanted, (task, answer)
            seen[wanted] += 1
    assert min(seen.values()) >= 20


def test_too_many_turns_for_a_request_end_the_episode() -> None:
    environment = begun(max_turns=3)
    observations = [environment.step(call("pwd")) for _ in range(4)]
    assert [observation.done for observation in observations] == [False, False, False, True]
    assert observations[-1].reward == 0.0 and observations[-1].reason == "force_terminated"


# --- restore and determinism ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("category", "tools"), [("base", "json"), ("miss_func", "signatures"), ("long_context", "json")]
)
def test_every_turn_is_restored_exactly_and_goes_on_as_the_episode_did(category: str, tools: str) -> None:
    names = [f"multi_turn_{category}_{number}" for number in range(0, 200, 20)]
    for trajectory in experts(category, tasks=names, tools=tools):
        live = begun(trajectory.task_id, tools=tools)
        for turn in turns(trajectory):
            restored = restore(turn)
            assert restored.state() == live.state() == json.loads(json.dumps(live.state()))
            assert restored.step(turn.expected_action) == live.step(turn.expected_action)
            assert restored.backend.results == live.backend.results


def test_what_is_not_of_this_environment_or_was_changed_is_not_restored(sample: list[Trajectory]) -> None:
    trajectory = sample[0]
    with pytest.raises(NotRestorable, match="unknown_task"):
        restore(Turn(trajectory.model_copy(update={"task_id": "multi_turn_base_900"}), 1))
    with pytest.raises(NotRestorable, match="unknown_task"):
        restore(Turn(trajectory.model_copy(update={"task_id": "../../etc"}), 1))
    messages = list(trajectory.messages)
    messages[2] = Message(role="tool", content="something else", tool_call_id=messages[2].tool_call_id)
    with pytest.raises(NotRestorable, match="replay_differs"):
        restore(Turn(trajectory.model_copy(update={"messages": tuple(messages)}), 3))


def test_trajectories_and_states_are_the_same_in_every_process() -> None:
    code = (
        "import hashlib, json; from pathlib import Path; from pivotrl.readers.bfcl import read;"
        "from pivotrl.environments.bfcl import restore; from pivotrl.protocols import Turn;"
        "found = list(read(Path('base'), skip=60, first=40));"
        "states = [restore(Turn(t, len(t.messages) - 1)).state() for t in found];"
        "text = json.dumps([[t.model_dump() for t in found], states]);"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_episodes_of_one_task_do_not_share_anything() -> None:
    environments = make_environments(tasks=["multi_turn_base_0"])
    first, second = environments.make("multi_turn_base_0"), environments.make("multi_turn_base_0")
    first.reset(), second.reset()
    before = second.state()
    first.step(call("mkdir", dir_name="mine"))
    assert second.state() == before != first.state()
    first.reset()
    assert first.state() == before


# --- wrong and hostile calls ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "action",
    [
        call("format_disk"),
        call("__init__"),
        call("__class__"),
        call("_load_scenario", scenario={}),
        call("_current_dir"),
        call("backend"),
        call("cd"),
        call("cd", folder="document", force=True),
        call("cd", self="x", folder="document"),
        call("mkdir", dir_name="x" * 30_000),
        Action(tool_calls=(ToolCall(name="cd", arguments='{"folder": "docu'),)),
        Action(tool_calls=(ToolCall(name="cd", arguments='["document"]'),)),
        Action(tool_calls=(ToolCall(name="cd", arguments='{"folder": NaN}'),)),
        Action(tool_calls=(ToolCall(name="cd", arguments='{"folder": "a", "folder": "b"}'),)),
        Action(tool_calls=(ToolCall(name="cd", arguments="[" * 5_000),)),
    ],
)
def test_what_is_no_call_of_a_documented_function_is_told_and_changes_nothing(action: Action) -> None:
    environment = begun()
    before, observation = environment.state(), environment.step(action)
    assert observation.fault == "not_executed" and not observation.done
    assert (observation.messages[0].content or "").startswith("Error during execution: ")
    assert len(observation.messages[0].content or "") <= 500 and environment.state() == before


@pytest.mark.parametrize(
    "text",
    [
        "[__import__('os').system('touch pwned')]",
        "[open('pwned', 'w')]",
        "[cd(folder=open('pwned', 'w'))]",
        "[cd(folder='a') for _ in range(9)]",
        "[(lambda: cd(folder='document'))()]",
        "cd(**{'folder': 'document'})",
        "[cd(folder='document').__class__]",
        "[" * 10_000,
        "[cd(folder='" + "x" * 50_000 + "')]",
        "cd(folder='doc\0ument')",
    ],
)
def test_python_that_is_more_than_calls_with_literals_is_never_run(text: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    environment = begun(tools="signatures")
    before = environment.state()["instances"]
    observation = environment.step(Action(content=text))
    assert observation.done or observation.fault == "not_executed"
    assert environment.state()["instances"] == before and not list(tmp_path.iterdir())


VALUES: list[Any] = [
    *(None, True, -1, 0, 10**12, 10**300, -(10**300), 1e308, -0.5, "", "x" * 10_000, "../../..", "a\0b", "\u202e"),
    *([], [None], ["x"] * 500, [[]], [10**12] * 3, {}, {"a": {"b": []}}, "{0.__class__}", "%s%n"),
]


def test_values_of_any_type_and_size_never_raise_hang_or_leave_the_instances(sample: list[Trajectory]) -> None:
    """Every documented function, every parameter, in instances that are thrown away."""
    precision, places = decimal.getcontext().prec, mpmath.mp.dps
    tried: set[str] = set()
    generator = random.Random(0)
    for trajectory in sample:
        task = load_task(trajectory.task_id)
        names = {name: parameters for name, parameters in parameters_of(task).items() if name not in tried}
        tried |= set(names)
        for (name, parameters), _ in itertools.product(names.items(), range(25)):
            environment = begun(trajectory.task_id)
            began = time.monotonic()
            observation = environment.step(call(name, **{p: generator.choice(VALUES) for p in parameters}))
            assert time.monotonic() - began < 5, name
            assert observation.messages[0].role == "tool"
            environment.state()
            environment.step(Action(content="Done."))
    assert len(tried) == 128
    assert (decimal.getcontext().prec, mpmath.mp.dps) == (precision, places)
    for trajectory in sample[:8]:  # the package's defaults and our cached ground truth are what they were
        assert experts(tasks=[trajectory.task_id]) == [trajectory]


@pytest.mark.parametrize(
    "arguments",
    [{"base": 7, "exponent": 10**9}, {"base": "x", "exponent": 3}, {"base": [9], "exponent": 9**9}],
)
def test_arithmetic_without_end_is_refused(arguments: dict[str, Any]) -> None:
    task = next(name for name in make_environments().tasks() if "MathAPI" in load_task(name).classes)
    assert begun(task).step(call("power", **arguments)).fault == "not_executed"


def test_unknown_tasks_and_categories_are_refused_by_name() -> None:
    with pytest.raises(InputError, match="no multi-turn category 'easy'; there are base, "):
        make_environments(category="easy")
    with pytest.raises(InputError, match=r"no task 'x'; its tasks are multi_turn_base_0 to multi_turn_base_199"):
        make_environments(tasks=["x"])
    with pytest.raises(InputError, match="200 tasks, so none is left"):
        make_environments(skip=200)
    assert make_environments(skip=150, first=2).tasks() == ["multi_turn_base_150", "multi_turn_base_151"]


# --- calls as text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[cd(folder='a b'), ls(a=True)]", [("cd", {"folder": "a b"}), ("ls", {"a": True})]),
        ('cd("a")', [("cd", {"folder": "a"})]),
        ("ls(a=true)", [("ls", {"a": True})]),
        ("[ls()]", [("ls", {})]),
        ("[]", None),
        ("I will call ls().", None),
        ("ls", None),
        ("os.system('ls')", None),
        ("[ls(), 'x']", None),
        ("", None),
    ],
)
def test_calls_in_text(text: str, wanted: list[tuple[str, dict[str, Any]]] | None) -> None:
    found = calls_in_text(text, {"cd": ("folder",), "ls": ("a",)})
    assert (found and [(one.name, json.loads(one.arguments)) for one in found]) == wanted


def test_a_call_written_as_text_is_read_as_the_same_call(sample: list[Trajectory]) -> None:
    for turn in itertools.chain.from_iterable(map(turns, sample)):
        for one in turn.expected_action.tool_calls:
            (found,) = calls_in_text(calls_as_text([one]), {}) or ()
            assert (found.name, json.loads(found.arguments)) == (one.name, json.loads(one.arguments))


# --- equivalence by effect -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files() -> Turn:
    """Task 0: the user wants ``document/temp`` and a file in it: cd, mkdir, mv. The turn is the second call."""
    return list(turns(experts(tasks=["multi_turn_base_0"])[0]))[1]


MKDIR, MOVE = call("mkdir", dir_name="temp"), call("mv", source="final_report.pdf", destination="temp")


@pytest.mark.parametrize(
    ("action", "reason", "by_execution"),
    [
        (MKDIR, "nearer", "same_effects"),
        (both(MKDIR, MOVE), "nearer", "different_return"),  # two steps of the demonstration at once
        (both(call("ls"), MKDIR), "nearer", "different_return"),  # a look beside it
        (call("ls"), "not_nearer", "different_return"),
        (call("mkdir", dir_name="tmp"), "spoiled", "different_state"),
        (call("rm", file_name="final_report.pdf"), "spoiled", "different_return"),
        (MOVE, "spoiled", "different_return"),  # too early: the folder is not there yet
        (call("make_folder", dir_name="temp"), "not_executed", "not_executed"),
        (both(MKDIR, call("make_folder", dir_name="temp")), "not_executed", "not_executed"),
        (Action(content="Done."), "stopped_early", "different_return"),
        (Action(content="[mkdir(dir_name='temp')]"), "stopped_early", "different_return"),  # text where calls are meant
        (Action(), "empty_action", "empty_action"),
    ],
)
def test_what_brings_the_request_nearer_passes(files: Turn, action: Action, reason: str, by_execution: str) -> None:
    assert verify()(files, action).reason == reason
    assert Execution(environment=restore)(files, action).reason == by_execution


def test_independent_calls_pass_in_any_order_and_each_once() -> None:
    """Two independent calls of one request: execution knows only the demonstrated one."""
    checked = 0
    for trajectory in experts(first=24):
        for turn in turns(trajectory):
            later = [m for m in trajectory.messages[turn.index + 1 :] if m.role in ("assistant", "user")]
            if not turn.expected_action.tool_calls or not later or not later[0].tool_calls:
                continue
            other = Action(tool_calls=later[0].tool_calls)
            ahead = restore(turn)
            if verify()(turn, other).outcome != "pass":
                continue
            ahead.step(other)
            assert Execution(environment=restore)(turn, other).outcome == "fail"
            assert missing_calls(ahead) == missing_calls(restore(turn)) - 1
            ahead.step(turn.expected_action)
            checked += 1
    assert checked >= 5, checked


def test_a_finished_request_wants_an_end_and_not_another_call(sample: list[Trajectory]) -> None:
    trajectory = sample[0]
    last = list(turns(trajectory))[-1]
    assert verify()(last, Action(content="All is done.")).reason == "finished"
    assert verify()(last, call("pwd")).reason == "not_nearer"


def test_the_own_history_of_an_agent_is_judged_without_a_demonstration() -> None:
    """A turn still to be played: the messages so far are the agent's, in another order than the demonstration's."""
    environment = make_environments(tasks=["multi_turn_base_0"]).make("multi_turn_base_0")
    messages = list(environment.reset())
    for action in (both(call("pwd"), call("cd", folder="document")), both(MKDIR, MOVE)):
        messages.append(Message(role="assistant", tool_calls=action.tool_calls))
        messages += environment.step(action).messages
    trajectory = Trajectory(id="own", task_id=environment.task_id, messages=tuple(messages), tools=environment.tools)
    turn = Turn(trajectory, len(messages))
    assert verify()(turn, Action(content="Done.")).reason == "finished"
    assert verify()(turn, call("ls")).reason == "not_nearer"


# --- questions that no tool answers --------------------------------------------------------------------------------


def test_irrelevance_pays_for_an_answer_in_words() -> None:
    environments = bfcl_irrelevance.make_environments()
    assert len(environments.tasks()) == 240
    for name in environments.tasks():
        question = environments.make(name)
        assert question.tools and question.reset()[-1].role == "user"
        assert question.step(Action(content="None of these can.")).reward == 1.0
        assert question.step(call(question.tools[0].name)).reward == 0.0
        assert question.step(Action()).reward is None
    assert bfcl_irrelevance.make_environments(first=3).tasks() == environments.tasks()[:3]
