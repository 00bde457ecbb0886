"""`pivotrl bench` with real processes of a small benchmark: who plays, what is kept, and what becomes of faults."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs the extra 'serve'")

from pivotrl.cli import main
from pivotrl.protocols import InputError
from pivotrl.protocols.harness import Asked, Player
from pivotrl.records import TrialResult
from pivotrl.report.benches import BenchPlayer, benches_of
from pivotrl.report.page import write_report
from pivotrl.report.summary import read_manifests
from pivotrl.runs.files import RunFiles
from pivotrl.serving.options import EngineOptions
from pivotrl.stages.benching import BenchOptions, bench_stage, playing
from pivotrl.stages.benching.endpoints import (
    contestant_of_run,
    gold_contestant,
    outside_contestant,
    outside_player,
    require_answer,
    serving_gold,
)
from pivotrl.stages.benching.homes import home_of
from pivotrl.storage.record_files import RecordFile
from plugins.sums_bench import Harness
from serving_setup import wait_until

PYTHON = Path(sys.executable)
ROOT = Path(__file__).parents[1]


def play(
    directory: Path, harness: Harness | None = None, contestant: Any = None, retry: bool = False, **more: Any
) -> None:
    harness = harness or Harness()
    bench_stage(
        directory,
        "sums",
        contestant or gold_contestant(harness),
        harness=harness,
        bench=BenchOptions(**{"processes": 2, "task_seconds": 20.0, **more}),
        harness_python=PYTHON,
        retry=retry,
    )


def trials(directory: Path, player: str = "gold") -> dict[str, TrialResult]:
    file = RecordFile(directory / "bench" / "sums" / f"{player}.trials.jsonl", TrialResult)
    return {result.key: result for result in file}


def played(directory: Path, player: str = "gold") -> Counter[str]:
    """How often each task was begun, by the notes of the program itself."""
    notes = (directory / "bench" / "sums" / player).glob("*/played.txt")
    return Counter(line for path in notes for line in path.read_text().splitlines())


def test_gold_solves_every_task_and_nothing_is_played_twice(tmp_path: Path) -> None:
    play(tmp_path, trials=2)
    found = trials(tmp_path)
    assert len(found) == 8 and {result.reward for result in found.values()} == {1.0}
    assert played(tmp_path) == Counter({f"{n}+{n} {seed}": 1 for n in range(1, 5) for seed in (0, 1)})
    play(tmp_path, trials=2)
    assert played(tmp_path).total() == 8
    (bench,) = benches_of(RunFiles(tmp_path), read_manifests(tmp_path))
    (player,) = bench.players
    assert player.score and player.score.mean == 1.0 and player.score.low < 1.0 and player.score.num_clusters == 4


def test_more_tasks_and_trials_keep_those_that_are_played(tmp_path: Path) -> None:
    play(tmp_path, Harness(num_tasks=6), tasks=2)
    first = set(trials(tmp_path))
    play(tmp_path, Harness(num_tasks=6), tasks=4, trials=2)
    assert first < set(trials(tmp_path)) and len(trials(tmp_path)) == 8
    assert max(played(tmp_path).values()) == 1
    with pytest.raises(InputError, match="trials: was 2, now 1"):
        play(tmp_path, Harness(num_tasks=6), tasks=4)


def scores(directory: Path) -> dict[str, BenchPlayer]:
    (bench,) = benches_of(RunFiles(directory), read_manifests(directory))
    return {player.name: player for player in bench.players}


# --- tasks and programs that misbehave ---


def test_a_task_that_never_ends_has_no_verdict_and_is_never_a_zero(tmp_path: Path) -> None:
    play(tmp_path, Harness(faults={"2+2": "hangs"}), task_seconds=1.0)
    late = trials(tmp_path)["2+2~0.0"]
    assert (late.reward, late.reason) == (None, "timed_out") and late.seconds >= 1.0
    player = scores(tmp_path)["gold"]
    assert player.no_verdict == {"timed_out": 1}
    assert player.score and player.score.mean == 1.0 and player.lowest == 0.75
    assert max(played(tmp_path).values()) == 1, "what its process had left was played by another one"


def test_half_a_result_is_none_and_retry_plays_it_alone(tmp_path: Path) -> None:
    play(tmp_path, Harness(faults={"3+3": "half"}))
    half = trials(tmp_path)["3+3~0.0"]
    assert (half.reward, half.reason) == (None, "harness_failed") and "the disk is full" in half.detail
    before = played(tmp_path)
    play(tmp_path)
    assert played(tmp_path) == before, "a trial without a verdict is done, unless --retry is given"
    play(tmp_path, retry=True)
    assert played(tmp_path) - before == Counter({"3+3 0": 1})
    assert trials(tmp_path)["3+3~0.1"].reward == 1.0 and scores(tmp_path)["gold"].no_verdict == {}


def test_a_result_that_is_nonsense_or_out_of_range_is_no_verdict_and_costs_nothing_else(tmp_path: Path) -> None:
    play(tmp_path, Harness(faults={"2+2": "seven", "3+3": "nonsense"}), processes=1)
    found = {result.task_id: result for result in trials(tmp_path).values()}
    assert {name: result.reward for name, result in found.items()} == {"1+1": 1, "2+2": None, "3+3": None, "4+4": 1}
    assert found["2+2"].reason == "reward_outside_0_1"
    assert found["3+3"].reason == "harness_failed" and "cannot be read (KeyError: 'score')" in found["3+3"].detail


def test_a_program_that_prints_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playing, "_MOST_OUTPUT", 10_000_000)
    play(tmp_path, Harness(faults={"2+2": "floods"}), task_seconds=60.0)
    flood = trials(tmp_path)["2+2~0.0"]
    assert (flood.reward, flood.reason) == (None, "too_much_output") and len(flood.detail) < 1000
    assert scores(tmp_path)["gold"].score.mean == 1.0  # type: ignore[union-attr]


def test_a_program_that_can_play_nothing_is_told_and_nothing_is_stored(tmp_path: Path) -> None:
    broken = dict.fromkeys((f"{n}+{n}" for n in range(1, 9)), "crashes")
    with pytest.raises(InputError, match=r"at each of its first \d tasks .*no idea what 1\+1 is.*log\.txt"):
        play(tmp_path, Harness(num_tasks=8, faults=broken))
    assert not trials(tmp_path)
    play(tmp_path, Harness(num_tasks=8))
    assert len(trials(tmp_path)) == 8


def test_a_server_that_dies_costs_no_finished_task(tmp_path: Path) -> None:
    slow = Harness(num_tasks=6, faults={"pause": 0.3})
    told: list[str] = []

    def go(player: Player) -> None:
        try:
            play(tmp_path, slow, outside_contestant("m", player), processes=1)
        except InputError as error:
            told.append(str(error))

    with serving_gold(slow.gold(home_of(slow, PYTHON))) as player:
        named = dataclasses.replace(player, is_gold=False)
        playing = threading.Thread(target=go, args=(named,))
        playing.start()
        assert wait_until(lambda: len(trials(tmp_path, "m")) >= 2)
    playing.join(30)
    assert "does not answer" in told[0] and "finished tasks are kept" in told[0]
    done = set(trials(tmp_path, "m"))
    assert 2 <= len(done) < 6 and all(trial.reward == 1 for trial in trials(tmp_path, "m").values())
    with serving_gold(slow.gold(home_of(slow, PYTHON))) as player:  # another address
        play(tmp_path, slow, outside_contestant("m", dataclasses.replace(player, is_gold=False)))
    assert len(trials(tmp_path, "m")) == 6
    assert all(played(tmp_path, "m")[f"{key.partition('~')[0]} 0"] == 1 for key in done)


def test_kill_9_and_go_on(tmp_path: Path) -> None:
    words = ["bench", "sums_bench:Harness(num_tasks=6, faults={'pause': 0.3})", str(tmp_path), "--player", "gold"]
    words += ["--name", "sums", "--harness-python", str(PYTHON), "--processes", "1"]
    path = os.pathsep.join((str(ROOT / "src"), str(ROOT / "tests" / "plugins")))
    process = subprocess.Popen(
        [sys.executable, "-m", "pivotrl.cli", *words],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert wait_until(lambda: len(trials(tmp_path)) >= 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    begun = played(tmp_path)
    assert not wait_until(lambda: played(tmp_path).total() > begun.total() + 1, 0.8), "the program died with us"
    finished = {line.partition("~")[0] for line in trials(tmp_path)}
    sys.path.insert(0, str(ROOT / "tests" / "plugins"))
    try:
        main([*words[:-1], "2"])
    finally:
        sys.path.pop(0)
    assert len(trials(tmp_path)) == 6
    assert all(played(tmp_path)[f"{task} 0"] == 1 for task in finished)


def test_what_was_finished_but_not_noted_is_not_played_again(tmp_path: Path) -> None:
    play(tmp_path)
    before = played(tmp_path)
    manifest = tmp_path / "bench" / "sums" / "gold.manifest.json"
    file = tmp_path / "bench" / "sums" / "gold.trials.jsonl"
    file.write_bytes(file.read_bytes().splitlines(keepends=True)[0] + b'{"torn')
    old = json.loads(manifest.read_bytes())
    manifest.write_text(json.dumps({**old, "status": "running", "outputs": None, "checksum": ""}))
    play(tmp_path)
    assert len(trials(tmp_path)) == 4 and played(tmp_path) == before


# --- the program's environment ---


def test_another_version_or_a_missing_package_is_refused_with_the_remedy(tmp_path: Path) -> None:
    class Older(Harness):
        version = "0.1"

    class Missing(Harness):
        package = "no-such-distribution"

    with pytest.raises(
        InputError, match=r"has pydantic 2.*at version 0\.1; make an environment yourself .*pip install"
    ):
        home_of(Older(), PYTHON)
    with pytest.raises(InputError, match="has no no-such-distribution"):
        home_of(Missing(), PYTHON)
    with pytest.raises(InputError, match="is no program"):
        home_of(Harness(), tmp_path)


@pytest.mark.slow
def test_an_installation_that_fails_leaves_nothing_and_tells_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIVOTRL_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # as without a network
    with pytest.raises(InputError, match=r"could not install pydantic .*pydantic==999.*--harness-python"):
        home_of(Harness())
    assert [path.suffix for path in (tmp_path / "harnesses").iterdir()] == [".lock"]


# --- who plays, and what is shown ---


def test_two_players_stand_in_one_report_with_their_difference(tmp_path: Path) -> None:
    def wrong(asked: Asked) -> Mapping[str, Any]:
        return {"content": "2"}  # right once

    play(tmp_path, trials=2)
    with serving_gold(wrong) as player:
        contestant = outside_contestant("before", dataclasses.replace(player, is_gold=False))
        play(tmp_path, contestant=contestant, trials=2)
    gold = scores(tmp_path)["gold"]
    assert gold.difference and gold.difference.difference == 0.75 and gold.difference.num_clusters == 4
    page = write_report(tmp_path).read_text()
    assert 'id="benches"' in page and ">gold<" in page and ">before<" in page and "NOT COMPLETE" not in page
    told = json.loads((tmp_path / "report.json").read_bytes())["benches"][0]
    assert [player["name"] for player in told["players"]] == ["before", "gold"]


def test_players_of_one_name_must_have_played_the_same(tmp_path: Path) -> None:
    with serving_gold(Harness().gold(home_of(Harness(), PYTHON))) as player:
        named = dataclasses.replace(player, is_gold=False)
        play(tmp_path, contestant=outside_contestant("before", named), trials=2)
        with pytest.raises(
            InputError, match="before has played sums otherwise .*num_tasks=4.*now.*num_tasks=3.*--name"
        ):
            play(tmp_path, Harness(num_tasks=3), outside_contestant("after", named))
        play(tmp_path, contestant=outside_contestant("after", named), temperature=0.7)
    after = scores(tmp_path)["after"]
    assert after.difference is None and after.otherwise == "temperature 0.7, before 0.0"
    assert "temperature 0.7, before 0.0" in write_report(tmp_path).read_text()


def test_a_training_with_the_name_of_a_player_cannot_play(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'gold' cannot play: it has the name of another player"):
        contestant_of_run(tmp_path, "after", "gold", None, EngineOptions())


def test_the_logs_of_a_bench_are_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    play(tmp_path, trials=2)
    main(["read", str(tmp_path / "bench" / "sums" / "gold"), "-o", str(tmp_path / "next"), "--json"])
    told = capsys.readouterr().out
    assert '"refused": 0' in told
    ids = [
        trajectory.id
        for trajectory in (*RunFiles(tmp_path / "next").trajectories(), *RunFiles(tmp_path / "next").heldout())
    ]
    assert len(set(ids)) == 4 and all(name.startswith("gold-") for name in ids)


def test_the_command_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*words: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main(["bench", *words])
        assert stop.value.code == 2
        return " ".join(capsys.readouterr().err.split())

    place = str(tmp_path / "out")
    assert "did you mean 'tau2'" in refused("tau", place)
    assert "--player nobody is unknown; there are before, after and gold" in refused(
        "tau2", place, "--player", "nobody"
    )
    assert "needs --model too" in refused("tau2", place, "--endpoint", "http://127.0.0.1:1/v1")
    asked = ("tau2", place, "--endpoint", "http://127.0.0.1:1/v1", "--model", "m", "--key-variable", "NO_SUCH_KEY")
    assert "NO_SUCH_KEY is not set" in refused(*asked)
    airline = refused("tau2(domain='airline')", place, "--endpoint", "http://127.0.0.1:1/v1", "--model", "m")
    assert "--simulator-endpoint" in airline and "telecom" in airline
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "file").touch()
    assert "choose another directory" in refused("tau2", str(tmp_path / "else"), "--player", "gold")
    assert not Path(place).exists() or not any(Path(place).glob("bench/*/*.jsonl"))


def test_unknown_tasks_and_missing_needs_are_refused_before_anything_is_played(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no task '9\+9' here; its first are 1\+1, 2\+2"):
        play(tmp_path, task_ids=("9+9",))
    with pytest.raises(InputError, match="needs docker; install it"):
        play(tmp_path, Harness(needs="docker"))
    assert not (tmp_path / "bench").exists()


def test_an_endpoint_is_asked_for_its_model_and_key_before_it_is_used() -> None:
    with serving_gold(lambda asked: {"content": "x"}) as player:
        require_answer(player)
        with pytest.raises(InputError, match="has no model 'other'; there are gold"):
            require_answer(dataclasses.replace(player, model="other"))
    with pytest.raises(InputError, match="does not answer"):
        require_answer(player)
    with pytest.raises(InputError, match="is no address"):
        outside_player("127.0.0.1:8000", "m", None, "endpoint")
