"""A plugin of the wrong shape is named, with what it lacks, before anything is bought."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pivotrl import Action, InputError, Message, Observation, TrainingOptions, Turn, Verdict, plugins, run, train
from pivotrl.cli import main
from pivotrl.episodes import episodes_of, play_episodes
from pivotrl.plugins.environments import make_checked, require_environments
from pivotrl.plugins.shapes import require_policy
from pivotrl.policies.tabular import Policy
from pivotrl.protocols import TrainingGroup
from pivotrl.readers.chat import read
from pivotrl.records import Completion, Sampling, Trajectory
from pivotrl.stages.reading import read_stage
from pivotrl.training import Lesson, Step
from pivotrl.verifiers.exact import verify
from test_pipeline import TABULAR, write_logs

FIRST = (Message(role="user", content="Guess."),)


class Game:
    """A whole environment of one turn."""

    context_window: Any = None

    def __init__(self, task_id: Any = "one", tags: Any = None) -> None:
        self.task_id, self.tags = task_id, {} if tags is None else tags

    def reset(self) -> Any:
        return FIRST

    def step(self, action: Action) -> Any:
        return Observation(FIRST, reward=1.0, done=True)


def without(name: str) -> Any:
    """A game that lacks one thing."""
    game = type("Broken", (), {k: v for k, v in vars(Game).items() if k not in (name, "__init__")})()
    for key, value in {"task_id": "one", "tags": {}}.items():
        if key != name:
            setattr(game, key, value)
    return game


def changed(**attributes: Any) -> Any:
    game = Game()
    for name, value in attributes.items():
        setattr(game, name, value)
    return game


class Games:
    """One game, made when it is played."""

    def tasks(self) -> Any:
        return ["one"]

    def make(self, task: str) -> Any:
        return Game(task)


def games(**methods: Any) -> Any:
    made = Games()
    for name, method in methods.items():
        setattr(made, name, method)
    return made


def raising(*_: Any) -> Any:
    raise KeyError("lost")


FACTORIES: list[tuple[Callable[[], Any], str]] = [
    *((lambda name=name: [without(name)], f"lacks {name}; see docs/plugins.md") for name in
      ("task_id", "tags", "context_window", "reset", "step")),
    (lambda: [object()], "lacks task_id, tags, context_window, reset, step"),
    (lambda: [Game], "is the class .*Game, not an instance"),
    (lambda: None, r"made None, not an object with tasks\(\) and make\(task\) or a list of environments"),
    (lambda: {"one": Game()}, "made a dict, not an object with tasks"),
    (lambda: "plancraft", "made a str, not an object with tasks"),
    (lambda: [], "made no environment"),
    (raising, r"cannot be made: KeyError: 'lost' \(.*test_plugin_shapes.py:\d+\)"),
    (lambda: [Game(), Game()], "two have the task_id 'one'"),
    (lambda: [Game(task_id=7)], "task_id must be a string"),
    (lambda: [Game(tags=["hard"])], "tags must be a dict of strings"),
    (lambda: [Game(tags={"level": 3})], "tags must be a dict of strings"),
    (lambda: [changed(context_window="all")], "context_window must be an integer"),
    (lambda: [changed(reset=lambda seed: FIRST)], "reset cannot be called with 0 arguments"),
    (lambda: [changed(step=lambda: None)], "step cannot be called with 1 arguments"),
    (lambda: [changed(reset=lambda: "Guess.")], "reset returned a str, not the first messages"),
    (lambda: [changed(reset=lambda: [{"role": "user", "content": "Guess."}])], "reset returned a list"),
    (lambda: [changed(reset=lambda: None)], "reset returned None"),
    (lambda: [changed(reset=raising)], "fails in reset: KeyError: 'lost'"),
    (lambda: [changed(close=lambda now: None)], "close cannot be called without arguments"),
    (lambda: [changed(close=raising)], "fails in close: KeyError: 'lost'"),
    (lambda: [changed(close=True)], "close cannot be called without arguments: it is not a method"),
    (lambda: [changed(tools="look")], "tools is a str, not a list of Tool"),
    (lambda: [changed(tools=[{"name": "look"}])], "tools is a list, not a list of Tool"),
    (lambda: Games, "object that .* makes is the class .*Games, not an instance"),
    (lambda: Game(), "made a Game, not an object with tasks"),
    (lambda: games(tasks=raising), r"cannot be made: KeyError: 'lost' \(.*test_plugin_shapes.py:\d+\)"),
    (lambda: games(tasks=lambda: []), "made no environment"),
    (lambda: games(tasks=lambda: "one"), "tasks returned a str, not a list of strings"),
    (lambda: games(tasks=lambda: None), "tasks returned None, not a list of strings"),
    (lambda: games(tasks=lambda: ["one", 2]), "tasks returned the task name 2, which is not a string"),
    (lambda: games(tasks=lambda: ["one", "one"]), "tasks returned 'one' twice"),
    (lambda: games(make=lambda: Game()), "make cannot be called with 1 arguments"),
    (lambda: games(make=raising), "cannot make the task 'one': KeyError: 'lost'"),
    (lambda: games(make=lambda task: None), "the environment that .* lacks task_id"),
    (lambda: games(make=lambda task: Game("two")), "made the task 'two' instead of 'one'"),
]  # fmt: skip


@pytest.mark.parametrize(("factory", "said"), FACTORIES, ids=[said[:40] for _, said in FACTORIES])
def test_a_wrong_environment_is_told_before_a_run_buys_anything(
    tmp_path: Path, factory: Callable[[], Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        require_environments(factory)
    logs = str(write_logs(tmp_path / "logs.jsonl"))
    with pytest.raises(InputError, match=said):
        run(logs, tmp_path / "run", policy=Policy(), environments=factory, **TABULAR)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("step", "said"),
    [(lambda action: (FIRST, 1.0, True), "step returned a tuple, not an Observation"), (raising, "fails in step")],
)
def test_a_wrong_answer_of_an_environment_ends_the_episodes_in_words(step: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        list(play_episodes([changed(step=step)], Policy(), Sampling()))


def test_a_whole_environment_is_played_and_closed_after_it_was_looked_at() -> None:
    closed = []
    require_environments(lambda: [changed(close=lambda: closed.append(1))])
    assert closed == [1]
    for factory in (lambda: iter([Game()]), Games):
        (result,) = play_episodes(episodes_of(make_checked(factory)), Policy(), Sampling())
        assert result.reward == 1.0


def yields_dicts(path: Path) -> Iterator[Any]:
    yield from read(path)
    yield {"id": "a", "messages": []}


@pytest.mark.parametrize(
    ("reader", "said"),
    [
        (yields_dicts, "yields_dicts yielded a dict, not a Trajectory or a Refusal"),
        (lambda path: None, "returned None, not an iterator"),
        (lambda path: 1 / 0, r"fails at .*logs.jsonl: ZeroDivisionError: division by zero \(.*py:\d+\); fix it"),
        (lambda path, other: [], "cannot be called with a path: missing a required argument: 'other'"),
        ("chat", "a reader must be callable with a path; 'chat' is not"),
    ],
)
def test_a_wrong_reader_is_told_in_words(tmp_path: Path, reader: Any, said: str) -> None:
    logs = str(write_logs(tmp_path / "logs.jsonl"))
    with pytest.raises(InputError, match=said):
        run(logs, tmp_path / "run", policy=Policy(), **{**TABULAR, "reader": reader})
    if callable(reader) and "called" not in said:
        with pytest.raises(InputError, match=said):
            read_stage(logs, tmp_path / "read", reader=reader)


@pytest.mark.parametrize(
    ("verifier", "said"),
    [
        (lambda action: Verdict.passed(), "cannot be called with a turn and an action: too many positional arguments"),
        (lambda turn, action, *, limit: Verdict.passed(), "missing a required .*'limit'"),
        ("exact", "a verifier must be callable with a turn and an action"),
    ],
)
def test_a_wrong_verifier_is_told_before_anything_is_read(tmp_path: Path, verifier: Any, said: str) -> None:
    logs = str(write_logs(tmp_path / "logs.jsonl"))
    with pytest.raises(InputError, match=said):
        run(logs, tmp_path / "run", policy=Policy(), **{**TABULAR, "verifier": verifier})
    assert not (tmp_path / "run").exists()


def test_a_policy_that_lacks_something_is_told_what() -> None:
    sampler = plugins.load("samplers", "scripted", script={})
    with pytest.raises(InputError, match=r"lacks training_identity, reference, encode_action, update, save, load"):
        require_policy(sampler)
    with pytest.raises(InputError, match=r"is the class .*Policy, not an instance: call it"):
        require_policy(Policy)  # type: ignore[arg-type]
    broken = Policy()
    broken.update = lambda groups: {}  # type: ignore[method-assign,assignment]
    with pytest.raises(InputError, match="update cannot be called with 3 arguments"):
        require_policy(broken)


def drawn(change: Callable[[list[Any]], Any]) -> Any:
    """A policy of the user's own whose samples were changed."""

    class Own(Policy):
        def sample(self, turns: Any, num_samples: int, sampling: Any) -> Any:
            return change(list(super().sample(turns, num_samples, sampling)))

    return Own()


def attribute(name: str, value: Any) -> Any:
    return type("Own", (Policy,), {name: value})()


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (drawn(lambda groups: None), "returned None, not an iterator of groups"),
        (drawn(lambda groups: "abc"), "yielded a str, not a SampleGroup"),
        (drawn(lambda groups: [[group] for group in groups]), "yielded a list, not a SampleGroup"),
        (drawn(lambda groups: groups[:-1]), "returned no group for log"),
        (drawn(lambda groups: [*groups, groups[0]]), "instead of no turn"),
        (drawn(lambda groups: groups[::-1]), "yielded a group of 'log.*' instead of log.*"),
        (drawn(lambda groups: [g.model_copy(update={"completions_G": g.completions_G[1:]}) for g in groups]), "7 of 8"),
        (drawn(lambda groups: 1 / 0), r"fails in sample: ZeroDivisionError: .*py:\d+\); fix it"),
        (attribute("fits", lambda *_: {}["x"]), r"fails in fits: KeyError: 'x' \(.*py:\d+\); fix it"),
        (attribute("identity", property(lambda _: 1 / 0)), "fails when its parts are read: ZeroDivisionError"),
        (attribute("identity", None), "identity is None, not a dict"),
    ],
)
def test_a_policy_that_draws_something_else_is_told_in_words(tmp_path: Path, policy: Any, said: str) -> None:
    logs = str(write_logs(tmp_path / "logs.jsonl"))
    with pytest.raises(InputError, match=said):
        run(logs, tmp_path / "run", policy=policy, **TABULAR)


@pytest.mark.parametrize("raised", ["RuntimeError('no licence')", "SystemExit(7)"])
def test_a_plugin_that_cannot_be_made_is_told_with_its_place(
    raised: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unmade.py").write_text(f"class Policy:\n    def __init__(self):\n        raise {raised}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("unmade", None)
    with pytest.raises(InputError, match=r"'unmade:Policy' cannot be made: .*unmade.py:3\); fix it"):
        plugins.load("policies", "unmade:Policy")


class Whole:
    """A training method that lacks nothing."""

    title, objective, verifies, plays = "whole", "policy_gradient", False, False
    lessons: Any = Lesson([], False, {})

    def check(self, options: TrainingOptions) -> None: ...

    def lesson(self, step: Step) -> Any:
        return self.lessons(step) if callable(self.lessons) else self.lessons


class Lessonless:
    title, objective, verifies, plays = "x", "policy_gradient", False, False

    def check(self, options: TrainingOptions) -> None: ...


class Aimless(Whole):
    objective = "guess"


class Strict(Whole):
    def check(self, options: TrainingOptions) -> None:
        raise KeyError("broken")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Lessonless", "lacks lesson"),
        ("Aimless", "objective must be 'policy_gradient' or 'likelihood' or 'weighted_likelihood', not 'guess'"),
        ("Strict", "fails in check: KeyError: 'broken'"),
    ],
)
def test_a_wrong_method_is_told_before_a_run_buys_anything(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        TrainingOptions(method=f"test_plugin_shapes:{name}")


def group(turn: Turn, advantages: list[float]) -> TrainingGroup:
    return TrainingGroup(
        turn,
        [Completion(text="a", token_ids_T=(1,), logprobs_T=(0.0,), finish_reason="stop", action=Action(content="a"))],
        advantages,
    )


@pytest.mark.parametrize(
    ("lesson", "said"),
    [
        (None, "returned None, which lacks groups, teaches, metrics, not a Lesson"),
        (Lesson(None, False, {}), "None as groups, not a list"),  # type: ignore[arg-type]
        (Lesson(["a"], True, {}), "a str in groups, not a TrainingGroup"),  # type: ignore[list-item]
        (Lesson([], True, {}), "no groups, but teaches is true"),
        (Lesson([], False, {"a/b": None}), "the metric 'a/b', which is None, not a number"),  # type: ignore[dict-item]
        (lambda step: Lesson([group(step.turns[0], [float("nan")])], True, {}), "an advantage that is not a finite"),
        (lambda step: Lesson([group(step.turns[0], [1.0, 1.0])], True, {}), "1 completions and 2 advantages"),
        (lambda step: 1 / 0, "fails in lesson: ZeroDivisionError"),
    ],
)
def test_a_wrong_lesson_is_told_in_words(
    lesson: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trajectories = [t for t in read(write_logs(tmp_path / "logs.jsonl", 2)) if isinstance(t, Trajectory)]
    monkeypatch.setattr(Whole, "lessons", staticmethod(lesson) if callable(lesson) else lesson)
    options = TrainingOptions(method="test_plugin_shapes:Whole", num_steps=1)
    with pytest.raises(InputError, match=re.escape(said)):
        train(Policy(), [Turn(trajectories[0], 2)], verify, tmp_path, options)


def test_an_option_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match="each once"):
        plugins.load("verifiers", "exact(compare_text=True, compare_text=False)")


@pytest.mark.parametrize("reader", [lambda path: iter([{}]), lambda path: None, raising])
def test_a_wrong_reader_moves_no_run_aside(reader: Any, tmp_path: Path) -> None:
    logs = str(write_logs(tmp_path / "logs.jsonl"))
    read_stage(logs, tmp_path / "run", reader=read)
    with pytest.raises(InputError, match="reader"):
        read_stage(logs, tmp_path / "run", reader=reader, overwrite=True)
    assert (tmp_path / "run" / "trajectories.jsonl").is_file()


# --- words that are nearly right --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "spec", "said"),
    [
        ("verifiers", "tool_cal", "^no verifier called 'tool_cal'; did you mean 'tool_call'\\? There are all_of, "),
        (
            "policies",
            "tabula",
            "^no policy called 'tabula'; did you mean 'tabular'\\? There are hf, tabular, vllm, or give",
        ),
        ("readers", "tau2bench", "no reader called 'tau2bench'; did you mean 'tau2_bench'\\?"),
        ("readers", "test_pipeline", "did you mean 'test_pipeline:read'\\?"),
        (
            "environments",
            "zzz",
            "^no environment called 'zzz'; there are bfcl, bfcl_irrelevance, errands, plancraft, repair, search, "
            "shell, swe, tau2, textworld, or give an import path",
        ),
        ("exporters", "ms-swift", "did you mean 'ms_swift'\\?"),
        (
            "verifiers",
            "tool_call(ignore_cas=True)",
            "^tool_call has no option 'ignore_cas'; did you mean 'ignore_case'\\? Its options are rules",
        ),
    ],
)
def test_a_misspelt_plugin_is_told_the_nearest(kind: str, spec: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        plugins.load(kind, spec)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian", "runs/x"], "no command called 'trian'; did you mean 'train'? There are run, read,"),
        (["list", "verifers"], "no kind of plugin called 'verifers'; did you mean 'verifiers'?"),
        (["zzz"], "no command called 'zzz'; there are run, read,"),
    ],
)
def test_a_misspelt_command_is_told_the_nearest(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_hint_to_install_names_the_clone_it_works_in() -> None:
    from pivotrl.plugins.extras import install_hint

    command, _, clone = install_hint("report").partition(" in ")
    assert command == 'pip install -e ".[report]"'
    project = (Path(clone) / "pyproject.toml").read_text()
    assert 'name = "pivotrl"' in project
    assert "\nreport = [" in project
