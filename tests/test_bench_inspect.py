"""`pivotrl bench inspect` without Inspect AI: what it asks the program for, and what it reads in real logs.

``seen.json`` and the logs in ``tests/data/inspect`` were written by inspect-ai 0.3.285; test_bench_inspect_real.py runs
the program itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("zstandard", reason="needs the extra 'formats'")

from pivotrl.harnesses.inspect import Harness
from pivotrl.protocols import InputError, Notice
from pivotrl.protocols.harness import Asked, Batch, Home, Player, Setup
from pivotrl.readers.inspect_ai import read
from pivotrl.records import Trajectory

DATA = Path(__file__).parent / "data" / "inspect"
AGENT = Player("http://127.0.0.1:1/v1", "org/some-model", "secret-of-the-agent")
GRADER = Player("http://127.0.0.1:2/v1", "a-grader", "secret-of-the-grader")
GOLD = Player("http://127.0.0.1:1/v1", "gold", is_gold=True)
ANSWERS_AS_RECORDED = """#!{python}
import json, sys
asked = json.loads(sys.argv[2])
seen = json.load(open({seen!r}))[asked["task"].rpartition("/")[2]]
json.dump(seen, open(sys.argv[3], "w"))
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """In place of the program's interpreter stands what it answered."""
    python = tmp_path / "python"
    python.write_text(ANSWERS_AS_RECORDED.format(python=sys.executable, seen=str(DATA / "seen.json")))
    python.chmod(0o755)
    return Home(python, tmp_path, "0.3.285")


def harness(name: str, **options: Any) -> Harness:
    return Harness(task=str(DATA / name), **options)


def batch(folder: Path, *tasks: str, setup: Setup = Setup(AGENT)) -> Batch:
    return Batch(tasks, 0, 41, folder, setup)


# --- what it asks for ---


def test_each_sample_has_its_address_and_keys_stay_out_of_sight(home: Home, tmp_path: Path) -> None:
    one = harness("files.py@longest_log", message_limit=9)
    command = one.command(home, batch(tmp_path, "1", "2", setup=Setup(GOLD, GRADER, 0.5, 77)))
    asked = json.loads(command.words[2])
    assert asked["urls"] == ["http://127.0.0.1:1/agent/1/v1", "http://127.0.0.1:1/agent/2/v1"]
    assert asked["options"] == {"temperature": 0.5, "seed": 41, "max_tokens": 77, "message_limit": 9}
    assert asked["roles"] == {"grader": {"model": "a-grader", "url": "http://127.0.0.1:2/v1"}}
    assert asked["sandboxed"] == [True, True] and "secret" not in " ".join(command.words)
    command = one.command(home, batch(tmp_path, "1"))
    assert command.environment["PIVOTRL_API_KEY"] == "secret-of-the-agent" and not json.loads(command.words[2])["roles"]


def test_a_sandbox_on_this_machine_is_always_replaced_and_images_are_left_out(home: Home, tmp_path: Path) -> None:
    for backend in ("sandbox", "own"):
        command = harness("files.py@longest_log", backend=backend).command(home, batch(tmp_path, "1"))
        assert json.loads(command.words[2])["sandboxed"] == [True]
    with pytest.warns(Notice, match="1 of 2 samples .*such as 1: it wants the sandbox docker with compose.yaml; give"):
        assert harness("files.py@image").tasks(home) == ["2"]


def test_without_docker_an_own_sandbox_is_refused(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pivotrl.harnesses.inspect as module

    module._has_docker.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.warns(Notice, match="it wants docker, and `docker info` fails here; install or start it"):
        assert harness("files.py@image", backend="own").tasks(home) == ["2"]
    module._has_docker.cache_clear()


@pytest.mark.parametrize(
    ("options", "setup", "told"),
    [
        ({"task": ""}, Setup(AGENT), "say which task"),
        ({"task": "nowhere.py@x"}, Setup(AGENT), "there is no file nowhere.py"),
        ({"gold_log": "nowhere.eval"}, Setup(AGENT), "there is no log nowhere.eval"),
        ({"roles": "grader"}, Setup(AGENT), r"give roles as a list, such as roles=\('grader',\)"),
        ({"task": "sums.py"}, Setup(AGENT), "holds several tasks; name one of"),
        ({"task": "sums.py@graded"}, Setup(AGENT), "would grade itself: give --simulator-endpoint"),
        ({"task": "sums.py@graded"}, Setup(GOLD, GOLD), "would grade itself: give --simulator-endpoint"),
        ({"scorer": "match"}, Setup(AGENT), "has no score 'match'; there are choice"),
        (
            {"task": "inspect_evals/agent_threat_bench_memory_poison"},
            Setup(AGENT),
            "scorer='agent_threat_bench_scorer.utility' or scorer='agent_threat_bench_scorer.security'",
        ),
    ],
)
def test_what_cannot_be_played_is_refused_by_name(
    options: dict[str, Any], setup: Setup, told: str, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(DATA)
    one = Harness(**{"task": "sums.py@letters", **options})
    with pytest.raises(InputError, match=told):
        one.check(setup)
        one.ready(home, setup)


def test_a_grader_or_a_named_part_is_enough(home: Home) -> None:
    harness("sums.py@graded").ready(home, Setup(GOLD, GRADER))
    threat = Harness(task="inspect_evals/agent_threat_bench_memory_poison", scorer="agent_threat_bench_scorer.utility")
    threat.ready(home, Setup(AGENT))
    assert threat.reader == "inspect_ai(scorer='agent_threat_bench_scorer.utility')"
    assert threat.inputs(home)["package inspect_evals"] == "0.26.0"


def test_gold_answers_as_the_scorer_looks_for_it(home: Home) -> None:
    letters = harness("sums.py@letters").gold(home)
    assert letters(Asked("2", "agent", [])) == {"content": "ANSWER: B"}
    submit = {"function": {"name": "submit"}}
    word = harness("files.py@word_in_file").gold(home)
    assert word(Asked("word", "agent", [], [submit])) == {
        "tool_calls": [{"name": "submit", "arguments": {"answer": "heron"}}]
    }
    with pytest.raises(KeyError):
        word(Asked("other", "agent", []))
    repeats = harness("files.py@longest_log", gold_log=str(DATA / "logs" / "commands.eval")).gold(home)
    said: list[Any] = [repeats(Asked("1", "agent", [{"role": "assistant"}] * number)) for number in range(4)]
    assert said[0]["tool_calls"] == [{"name": "bash", "arguments": {"command": "ls -l"}}]
    assert [one["content"] for one in said[2:]] == ["Done.", "Done."]


# --- what it reads ---


@pytest.mark.parametrize(
    ("log", "reward", "reason", "num_turns"),
    [
        ("right", 1.0, "right", 1),
        ("commands", 1.0, "right", 3),
        ("server_fault", None, "sample_failed", 0),
        ("too_long", None, "context_exceeded", 1),
        ("grades_itself", None, "graded_by_player", 1),
    ],
)
def test_logs_are_read_and_what_was_not_judged_has_no_reward(
    log: str, reward: float | None, reason: str, num_turns: int, tmp_path: Path
) -> None:
    place = tmp_path / "0" / "a.eval"
    place.parent.mkdir()
    data = (DATA / "logs" / f"{log}.eval").read_bytes()
    place.write_bytes(data)
    (found,) = harness("sums.py").outcomes(batch(tmp_path, "x"))
    assert (found.task, found.reward, found.reason, found.num_turns) == ("x", reward, reason, num_turns)
    place.write_bytes(data[:-60])
    assert not list(harness("sums.py").outcomes(batch(tmp_path, "x"))), "half a log is none"
    if reward is not None:
        (talk,) = read(DATA / "logs" / f"{log}.eval")
        assert isinstance(talk, Trajectory) and talk.reward == reward and not talk.excluded


def test_a_score_that_there_is_not_stops_with_the_names_of_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "a.eval").write_bytes((DATA / "logs" / "right.eval").read_bytes())
    with pytest.raises(InputError, match=r"no score 'other'; there are match; name one"):
        list(harness("sums.py", scorer="other").outcomes(batch(tmp_path, "x")))
