"""Workers of a real Ray cluster on this machine: what becomes of the samples when workers, servers or we ourselves die.

Needs the extra ``ray``. Run alone: make test-ray
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fault_server import FaultServer
from pivotrl import ProfileOptions, cut
from pivotrl.cli import main
from pivotrl.evaluation.distance import score_demonstrations
from pivotrl.evaluation.divergence import can_score
from pivotrl.policies.hf import Policy
from pivotrl.profiling import profile
from pivotrl.protocols import InputError, Notice, NotRenderable, Turn
from pivotrl.records import Action, SampleGroup, Sampling
from pivotrl.samplers.ray import Sampler
from pivotrl.samplers.ray.cluster import Cluster, Needs
from pivotrl.storage.record_files import RecordFile
from pivotrl.verifiers.exact import verify
from ray_draws import Sampler as Draws
from test_endpoint import direct as direct
from test_pipeline import write_logs
from test_training import logs
from tiny import save_tiny_model

if importlib.util.find_spec("ray") is None:
    pytest.skip("needs the extra 'ray': make test-ray", allow_module_level=True)
pytestmark = pytest.mark.slow
TWO: dict[str, Any] = {"workers": 2, "cpus": 0.25}
OPTIONS = ProfileOptions(num_samples=4, batch_turns=12, max_tokens=12)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One cluster for all tests, since its start takes long; a sampler finds it and leaves it running."""
    found = Cluster(None, Needs(2, 0.25, 0))
    yield found
    found.close()


@pytest.fixture
def address(cluster: Cluster) -> str:
    import ray  # after the cluster has said where it listens

    return str(ray.get_runtime_context().gcs_address)


@pytest.fixture
def sampler(cluster: Cluster) -> Iterator[Callable[..., Sampler]]:
    made: list[Sampler] = []

    def make(**options: Any) -> Sampler:
        made.append(Sampler(**{**TWO, **options}))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def turns() -> list[Turn]:
    """Trajectories of 1 to 8 turns."""
    return [turn for number in range(8) for turn in cut(logs(number + 1, number + 1)[-1:])[0]]


def draws(log: Path, **options: Any) -> str:
    return (
        f"ray_draws:Sampler({', '.join(f'{name}={value!r}' for name, value in {'log': str(log), **options}.items())})"
    )


def bought(log: Path) -> Counter[str]:
    return Counter(line.split()[1] for line in log.read_text().splitlines())


def undisturbed(turns: list[Turn], folder: Path) -> bytes:
    """The profile that one process makes."""
    folder.mkdir(exist_ok=True)
    profile(turns, Draws(log=str(folder / "alone.log")), verify, folder / "alone.jsonl", OPTIONS)
    return (folder / "alone.jsonl").read_bytes()


def told(found: Any) -> str:
    return " | ".join(str(warning.message) for warning in found if issubclass(warning.category, Notice))


def test_workers_of_a_local_model_draw_bit_for_bit_what_one_process_draws_though_one_is_killed(
    tmp_path: Path, sampler: Callable[..., Sampler], turns: list[Turn]
) -> None:
    model = str(save_tiny_model(tmp_path / "tiny"))
    alone = Policy(model=model, device="cpu")
    alone_options = ProfileOptions(num_samples=4, batch_turns=1, max_tokens=12)
    profile(turns, alone, verify, tmp_path / "alone.jsonl", alone_options)
    score_demonstrations(alone, turns, tmp_path / "alone.scores", batch=1)
    spread = sampler(policy=f"hf(model={model!r})")
    assert spread.identity == alone.identity and can_score(spread) and not spread.is_paid
    assert spread.description == {**alone.description, "policy": f"hf(model={model!r})"}
    killed = int(spread._pool._seats[0].where.split()[-1])
    threading.Timer(0.2, os.kill, (killed, signal.SIGKILL)).start()
    profile(turns, spread, verify, tmp_path / "spread.jsonl", OPTIONS)
    assert (tmp_path / "spread.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()
    score_demonstrations(spread, turns, tmp_path / "spread.scores", batch=16)
    assert (tmp_path / "spread.scores").read_bytes() == (tmp_path / "alone.scores").read_bytes()
    assert [spread.fits(turn, 2000) for turn in turns] == [alone.fits(turn, 2000) for turn in turns]
    assert len({spread.fits(turn, 2000) for turn in turns}) == 2
    other = Action(content="another")
    assert spread.encode_action(turns[3], other) == alone.encode_action(turns[3], other)
    with pytest.raises(NotRenderable, match="exceed the model's context"):
        spread.encode_action(turns[3], Action(content="long " * 1000))


def test_one_worker_draws_what_two_draw(tmp_path: Path, sampler: Callable[..., Sampler], turns: list[Turn]) -> None:
    for number in (1, 2):
        spread = sampler(sampler=draws(tmp_path / "log"), workers=number)
        profile(turns, spread, verify, tmp_path / f"{number}.jsonl", OPTIONS)
        assert (tmp_path / f"{number}.jsonl").read_bytes() == undisturbed(turns, tmp_path / str(number))


def test_a_worker_killed_in_the_middle_costs_only_what_it_had_in_hand(
    tmp_path: Path, sampler: Callable[..., Sampler], turns: list[Turn]
) -> None:
    log = tmp_path / "log"
    spread = sampler(sampler=draws(log, seconds=0.1))
    victims: list[str] = []

    def kill() -> None:
        while not log.exists() or len(log.read_text().splitlines()) < 15:
            time.sleep(0.01)
        process, _, turn = log.read_text().splitlines()[-1].partition(" ")
        os.kill(int(process), signal.SIGKILL)
        victims.extend((process, turn))

    killer = threading.Thread(target=kill)
    killer.start()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        profile(turns, spread, verify, tmp_path / "spread.jsonl", OPTIONS)
    killer.join()
    assert (tmp_path / "spread.jsonl").read_bytes() == undisturbed(turns, tmp_path)
    process, turn = victims
    twice = {name for name, number in bought(log).items() if number > 1}
    assert turn in twice and {name.partition("#")[0] for name in twice} == {turn.partition("#")[0]}
    assert max(bought(log).values()) == 2 and set(bought(log)) == {turn.id for turn in turns}
    assert f"process {process}) failed" in told(found) and "dealt again" in told(found)
    profile(turns, spread, verify, tmp_path / "later.jsonl", OPTIONS)
    after = [line.split()[0] for line in log.read_text().splitlines()[-len(turns) :]]
    assert len(set(after)) == 2 and process not in after  # another took its place


def test_turns_at_which_every_worker_dies_end_the_profile_with_their_name(
    tmp_path: Path, sampler: Callable[..., Sampler], turns: list[Turn]
) -> None:
    place = turns[-1].id
    spread = sampler(sampler=draws(tmp_path / "log", dies_at=place), max_restarts=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(
            InputError, match=rf"2 workers failed at .* to {place}, last worker \d of 2 \(.*process \d+\): .*repeat"
        ):
            profile(turns, spread, verify, tmp_path / "spread.jsonl", OPTIONS)
        kept = len(RecordFile(tmp_path / "spread.jsonl", SampleGroup))
        assert 0 < kept < len(turns)
        again = sampler(sampler=draws(tmp_path / "log2"))
        profile(turns, again, verify, tmp_path / "spread.jsonl", OPTIONS)
    assert len(bought(tmp_path / "log2")) <= len(turns) - kept
    assert (tmp_path / "spread.jsonl").read_bytes() == undisturbed(turns, tmp_path)


def test_a_worker_that_always_dies_is_left_out_and_the_others_finish(
    tmp_path: Path, sampler: Callable[..., Sampler], turns: list[Turn]
) -> None:
    specs = [draws(tmp_path / "bad", dies_at="*"), draws(tmp_path / "good", seconds=0.05)]
    spread = sampler(sampler=specs, max_restarts=2)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        profile(turns, spread, verify, tmp_path / "spread.jsonl", OPTIONS)
        until = time.monotonic() + 120
        while spread._pool.num_workers == 2 and time.monotonic() < until:
            list(spread.sample(turns, 1, Sampling()))
    assert (tmp_path / "spread.jsonl").read_bytes() == undisturbed(turns, tmp_path)
    assert len((tmp_path / "bad").read_text().splitlines()) == 3
    assert "after 3 failures in a row. The other workers go on without it" in told(found)


def test_no_worker_left_names_each_with_its_fault(
    tmp_path: Path, sampler: Callable[..., Sampler], turns: list[Turn]
) -> None:
    specs = [draws(tmp_path / "log", refuses_at="*"), draws(tmp_path / "log", refuses_at="*", told="by the way")]
    spread = sampler(sampler=specs)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with pytest.raises(
            InputError,
            match=r"no worker is left. worker 1 of 2 .*: .* is refused; .*worker 2 of 2 .*: .* is refused; ask",
        ):
            list(spread.sample(turns, 2, Sampling()))
    assert "by the way" in told(found)


def test_a_worker_that_hangs_counts_as_dead(tmp_path: Path, sampler: Callable[..., Sampler], turns: list[Turn]) -> None:
    specs = [draws(tmp_path / "bad", stops_at="*"), draws(tmp_path / "good", seconds=0.05)]
    spread = sampler(sampler=specs, max_restarts=0, timeout_seconds=3)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with pytest.raises(InputError, match=r"1 worker failed at .*no answer within 3 s"):
            profile(turns, spread, verify, tmp_path / "spread.jsonl", OPTIONS)
        profile(turns, spread, verify, tmp_path / "spread.jsonl", OPTIONS)
    assert "go on without it" in told(found)
    assert (tmp_path / "spread.jsonl").read_bytes() == undisturbed(turns, tmp_path)


def test_each_worker_has_its_server_and_one_server_may_go_away(
    tmp_path: Path, sampler: Callable[..., Sampler], turns: list[Turn], direct: None
) -> None:
    pytest.importorskip("httpx", reason="needs the extra 'judge'")
    slow = {"speak": lambda prompt, serial: time.sleep(0.03) or f"{prompt[:8]} says {serial}"}
    options = "model='m', deadline_seconds=2.0, max_tries=2"
    with FaultServer(**slow) as stays:
        leaves = FaultServer(**slow)
        urls = [stays.url, leaves.url]
        spread = sampler(sampler=[f"openai(base_url={url!r}, {options})" for url in urls])
        assert spread.is_paid and not can_score(spread)

        def leave() -> None:
            while len(leaves.bodies) < 5:
                time.sleep(0.01)
            leaves.__exit__()

        goes = threading.Thread(target=leave)
        goes.start()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            groups, left_out = profile(turns, spread, verify, tmp_path / "spread.jsonl", OPTIONS)
        goes.join()
        assert left_out == [] and [group.turn_id for group in groups] == [turn.id for turn in turns]
        drawn = {**stays.drawn, **leaves.drawn}
        assert all(completion.text in drawn for group in groups for completion in group.completions_G)
        assert len(leaves.bodies) >= 5 and len(stays.bodies) > len(turns) / 2


def test_what_cannot_start_says_why(tmp_path: Path, address: str, sampler: Callable[..., Sampler]) -> None:
    with pytest.raises(InputError, match=r"worker \d of 2 .*cannot start: .*nowhere"):
        sampler(policy="hf(model='nowhere/at-all')")
    log = tmp_path / "log"
    with pytest.raises(
        InputError, match=r"3 workers with 64 GPUs each need 192, and there are 0 on this machine; give"
    ):
        sampler(sampler=draws(log), workers=3, cpus=0, gpus=64)
    with pytest.raises(InputError, match=r"cannot start: it did not start within 2 s \(2 workers with 64 CPUs each"):
        sampler(sampler=draws(log), cpus=64, start_seconds=2, address=address)
    with pytest.raises(
        InputError, match="cannot start: it would draw other samples: its sampler is '[ab]', that of the first worker"
    ):
        sampler(sampler=[draws(tmp_path / "log", name=name) for name in "ab"])


def listening(pids: set[int]) -> set[str]:
    """Addresses, in the kernel's spelling, at which these processes listen."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
            except OSError:
                continue
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes}


def below(pid: int) -> set[int]:
    """All descendants of a process."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, grown = {pid}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in found} - found
        found, grown = found | more, bool(more)
    return found - {pid}


def test_the_cluster_of_this_machine_listens_on_the_loopback_address_alone(
    tmp_path: Path, sampler: Callable[..., Sampler]
) -> None:
    sampler(sampler=draws(tmp_path / "log"))
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert listening(below(os.getpid()) | {os.getpid()}) <= loopback


def command(run: Path, *more: str) -> list[str]:
    base = [sys.executable, "-m", "pivotrl.cli", "profile", str(run), "--verifier", "exact", "--num-samples", "4"]
    return [*base, "--batch-turns", "9", *more]


def test_a_run_killed_with_all_workers_goes_on_elsewhere_with_another_number_of_them(
    tmp_path: Path, address: str
) -> None:
    source = str(write_logs(tmp_path / "logs.jsonl", 12))
    for name in ("alone", "spread"):
        main(["read", source, "-o", str(tmp_path / name), "--reader", "chat"])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in [str(Path(__file__).parent), *sys.path] if p)}
    alone = command(tmp_path / "alone", "--sampler", draws(tmp_path / "alone.log"))
    subprocess.run(alone, env=environment, check=True, capture_output=True)

    def spread(**options: Any) -> list[str]:
        given = {"sampler": draws(tmp_path / "log", seconds=0.05), "cpus": 0.25, **options}
        named = ", ".join(f"{name}={value!r}" for name, value in given.items())
        return command(tmp_path / "spread", "--sampler", f"ray({named})")

    path = tmp_path / "spread" / "profiles.jsonl"
    with subprocess.Popen(
        spread(workers=2), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as first:
        until = time.monotonic() + 300
        while first.poll() is None and time.monotonic() < until and (not path.exists() or not path.read_bytes()):
            time.sleep(0.01)
        children = below(first.pid)
        assert len(children) > 4
        first.kill()
    kept = len(RecordFile(path, SampleGroup))
    assert kept and not (tmp_path / "spread" / "profile.manifest.json").read_text().count('"done"')
    last = subprocess.run(spread(workers=1, address=address), env=environment, capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    assert path.read_bytes() == (tmp_path / "alone" / "profiles.jsonl").read_bytes()
    twice = {name for name, number in bought(tmp_path / "log").items() if number > 1}
    assert len(twice) <= 9 and max(bought(tmp_path / "log").values()) <= 2
    assert "ray" not in last.stderr.lower() and "raylet" not in last.stdout
    until = time.monotonic() + 120  # two helpers of Ray's take a minute to notice
    while (alive := {pid for pid in children if Path(f"/proc/{pid}").exists()}) and time.monotonic() < until:
        time.sleep(0.1)
    assert not alive, "nothing of the cluster outlives the command that was killed"
