"""Many verdicts at a time: the same ones in the same order, each within its limits, and nothing left behind.

Run alone: python -m pytest tests/test_verifying_together.py
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowded_server import CrowdedServer
from pivotrl import plugins
from pivotrl.judging.guard_processes import GuardProcesses
from pivotrl.judging.guarded import Verification, VerificationOptions
from pivotrl.judging.killable import Crashed, Killable
from pivotrl.judging.threads import Threads
from pivotrl.policies.tabular import Policy as TabularPolicy
from pivotrl.protocols import InputError, Turn, Verifier
from pivotrl.protocols.observing import Observer
from pivotrl.records import Action, Completion, Message, SampleGroup, Sampling, Trajectory, Verdict
from pivotrl.rollouts import judge_action, judge_all, sample_groups
from pivotrl.training import TrainingOptions, train
from pivotrl.verifiers import exact
from pivotrl.verifiers.execute import Execution
from pivotrl.verifiers.outcome import Outcome

TWO = VerificationOptions(num_workers=2, timeout_seconds=20)
PATIENCE = 10.0
"""Seconds to wait for another verdict that should be under way at the same time."""


def turn(name: str = "t", expected: str = "Done.") -> Turn:
    messages = (Message(role="user", content="hello"), Message(role="assistant", content=expected))
    return Turn(Trajectory(id=name, task_id=name, messages=messages), 1)


def say(text: str) -> Action:
    return Action(content=text)


def actions(*texts: str) -> list[tuple[Turn, Action]]:
    return [(TURN, say(text)) for text in texts]


TURN = turn()


def obedient(turn: Turn, action: Action) -> Verdict:
    """Does what the action says."""
    text = action.content or ""
    match text.split()[:1]:
        case ["sleep"]:
            time.sleep(float(text.split()[1]))
        case ["exit"]:
            os._exit(3)
        case ["killed"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["hog"]:
            return Verdict.passed(size=len(b"x" * (4 << 30)))
        case ["raise"]:
            raise KeyError(text)
        case ["mistake"]:
            raise InputError("no such file; give another")
        case ["who"]:
            return Verdict.passed(pid=os.getpid())
    return Verdict.passed(said=text) if text == turn.expected_action.content else Verdict.failed("other", said=text)


@dataclass(frozen=True)
class Here:
    """Obedient, but in this process."""

    rule: Any = obedient
    in_process: ClassVar[bool] = True
    concurrent: ClassVar[bool] = True

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        verdict: Verdict = self.rule(turn, action)
        return verdict


def open_half(turn: Turn, action: Action) -> Verdict:
    return Verdict.unknown("open") if len(action.content or "") % 2 else obedient(turn, action)


VERIFIERS: list[Verifier] = [
    obedient,
    Here(),
    plugins.load("verifiers", "first_decisive", verifiers=(open_half, Here())),
    plugins.load("verifiers", "all_of", verifiers=(Here(open_half), obedient, exact.verify)),
    plugins.load("verifiers", "any_of", verifiers=(obedient, exact.verify)),
]


# --- the same verdicts, in order ----------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, database=None)
@given(
    texts=st.lists(
        st.sampled_from(["Done.", "no", "no!", "raise", "raise it", "sleep 0.003", "answer 1"]), max_size=25
    ),
    which=st.integers(0, len(VERIFIERS) - 1),
    workers=st.integers(1, 3),
    in_flight=st.integers(1, 5),
    canary_every=st.integers(1, 9),
)
def test_verdicts_are_those_given_one_by_one(
    texts: list[str], which: int, workers: int, in_flight: int, canary_every: int
) -> None:
    turns = [turn(f"t{i}", f"answer {i}") for i in range(3)]
    cases = [(turns[i % 3], say(text)) for i, text in enumerate(texts)]
    options = VerificationOptions(num_workers=workers, max_in_flight=in_flight, canary_every=canary_every)
    with Verification(VERIFIERS[which]) as guarded:
        one_by_one = [judge_action(*case, guarded) for case in cases]
    with Verification(VERIFIERS[which], options, [TURN]) as guarded:
        assert guarded.judge_all(cases) == one_by_one


@pytest.mark.parametrize("number", [1, 4])
def test_a_batch_of_samples_keeps_its_order_with_malformed_ones_between(number: int) -> None:
    generator = random.Random(0)
    turns = [turn(f"t{i}", f"say {i}") for i in range(6)]
    bare = [list(group.verdicts_G) for group in sample_groups(turns, Recorded(generator), obedient, 7, Sampling())]
    options = VerificationOptions(num_workers=number)
    with Verification(obedient, options) as guarded:
        found = list(sample_groups(turns, Recorded(random.Random(0)), guarded, 7, Sampling()))
    assert [list(group.verdicts_G) for group in found] == bare
    assert [group.turn_id for group in found] == [one.id for one in turns]
    outcomes = {verdict.reason for group in found for verdict in group.verdicts_G}
    assert outcomes == {"match", "other", "cut_off"}


class Recorded:
    """A sampler whose samples are malformed by chance, and take their verifier different times."""

    identity: ClassVar[dict[str, str]] = {}

    def __init__(self, generator: random.Random) -> None:
        self.generator = generator

    def fits(self, turn: Turn, max_tokens: int) -> bool:
        return True

    def sample(self, turns: Any, num_samples: int, sampling: Sampling) -> Iterator[SampleGroup]:
        for one in turns:
            completions = [self.completion(one, number) for number in range(num_samples)]
            yield SampleGroup(turn_id=one.id, completions_G=tuple(completions))

    def completion(self, one: Turn, number: int) -> Completion:
        text = self.generator.choice([f"sleep 0.00{number}", str(one.expected_action.content), f"{one.id} {number}"])
        error = "cut_off" if self.generator.random() < 0.2 else None
        fields = {"token_ids_T": (1,), "logprobs_T": (0.0,), "finish_reason": "stop", "parse_error": error}
        return Completion(action=Action() if error else say(text), text=text, **fields)


def test_a_function_that_knows_nothing_of_batches_is_asked_one_by_one() -> None:
    asked = []

    def verify(turn: Turn, action: Action) -> Verdict:
        asked.append((action.content, threading.get_ident()))
        return Verdict.passed()

    fields = {"token_ids_T": (), "logprobs_T": (), "finish_reason": "stop"}
    done = [Completion(action=say(text), text=text, **fields) for text in "abc"]
    judge_all([(TURN, completion) for completion in done], verify)
    assert asked == [(text, threading.get_ident()) for text in "abc"]


# --- side by side -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Meets:
    """Passes when as many as ``number`` verdicts are under way at one time; each leaves a file behind."""

    folder: str
    number: int

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        Path(self.folder, f"{action.content}.{os.getpid()}").touch()
        until = time.monotonic() + (PATIENCE if self.number > 1 else 0)
        while len(list(Path(self.folder).iterdir())) < self.number and time.monotonic() < until:
            time.sleep(0.01)
        met = len(list(Path(self.folder).iterdir()))
        return Verdict.passed(met=met) if met >= self.number else Verdict.failed("alone")


def test_rules_run_in_several_processes_at_one_time(tmp_path: Path) -> None:
    options = VerificationOptions(num_workers=3, timeout_seconds=30)
    with Verification(Meets(str(tmp_path), 3), options) as guarded:
        assert [verdict.outcome for verdict in guarded.judge_all(actions("a", "b", "c"))] == ["pass"] * 3
    assert len({path.suffix for path in tmp_path.iterdir()}) == 3


def test_twin_one_worker_is_one_process_that_judges_one_after_the_other(tmp_path: Path) -> None:
    options = VerificationOptions(num_workers=1)
    with Verification(Meets(str(tmp_path), 1), options) as guarded:
        assert [verdict.details["met"] for verdict in guarded.judge_all(actions("a", "b", "c"))] == [1, 2, 3]
    assert len({path.suffix for path in tmp_path.iterdir()}) == 1


def judge(server: CrowdedServer, **options: Any) -> Any:
    pytest.importorskip("httpx", reason="needs the extra 'judge'")
    return plugins.load("verifiers", "judge", model="m", base_url=server.url, **options)


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def sentences(number: int) -> list[tuple[Turn, Action]]:
    return actions(*(f"It is done, number {i}." for i in range(number)))


@pytest.mark.usefixtures("direct")
def test_a_judge_has_as_many_verdicts_under_way_as_it_may_and_no_more() -> None:
    with CrowdedServer(expected=16) as server:
        options = VerificationOptions(max_in_flight=8)
        with Verification(judge(server), options, [TURN]) as guarded:
            verdicts = guarded.judge_all(sentences(40))
        assert server.peak == 16  # two requests a verdict
    assert [verdict.reason for verdict in verdicts] == ["judged_same"] * 40 and len(server.bodies) == 80


@pytest.mark.usefixtures("direct")
def test_a_judge_may_bound_its_requests_more_tightly() -> None:
    with CrowdedServer(expected=3) as server:
        with Verification(judge(server, max_requests=3), VerificationOptions(max_in_flight=8)) as guarded:
            guarded.judge_all(sentences(12))
        assert server.peak == 3


@pytest.mark.usefixtures("direct")
def test_rules_in_front_of_a_judge_run_in_processes_and_the_judge_is_asked_side_by_side() -> None:
    with CrowdedServer(expected=8) as server:
        both = plugins.load("verifiers", "first_decisive", verifiers=(open_even, judge(server)))
        options = VerificationOptions(num_workers=2, max_in_flight=6)
        with Verification(both, options) as guarded:
            verdicts = guarded.judge_all(sentences(30))
    assert server.peak in (8, 10, 12) and len(server.bodies) == 30  # of 15 verdicts
    asked = [verdict.reason == "judged_same" for verdict in verdicts]
    assert asked == [i % 2 == 0 for i in range(30)]
    pids = {part["details"]["pid"] for verdict in verdicts for part in verdict.details["parts"][:1]}
    assert len(pids) == 2 and os.getpid() not in pids


def open_even(turn: Turn, action: Action) -> Verdict:
    time.sleep(0.01)
    is_even = int((action.content or "").split()[-1].rstrip(".")) % 2 == 0
    return Verdict.unknown("open", pid=os.getpid()) if is_even else Verdict.failed("odd", pid=os.getpid())


@pytest.mark.usefixtures("direct")
def test_a_question_asked_twice_at_one_time_is_bought_once(tmp_path: Path) -> None:
    with CrowdedServer() as server:
        with Verification(judge(server, cache=str(tmp_path)), VerificationOptions(max_in_flight=8)) as guarded:
            verdicts = guarded.judge_all(actions(*["It is done, all of it."] * 12))
        assert len(server.bodies) == 2 and len(set(map(Verdict.model_dump_json, verdicts))) == 1


class Alone:
    """Uses something in this process that must not be used by two at one time, or by another thread."""

    in_process = True

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        self.threads.add(threading.get_ident())
        return Verdict.unknown("open")


def test_a_verifier_that_does_not_say_so_stays_in_the_thread_of_its_caller() -> None:
    for combine in (lambda v: v, lambda v: plugins.load("verifiers", "first_decisive", verifiers=(Here(), v))):
        alone = Alone()
        with Verification(combine(alone)) as guarded:
            guarded.judge_all(actions(*["raise"] * 20))
        assert alone.threads <= {threading.get_ident()}
    for known in (Outcome, Execution):
        assert known.in_process and not getattr(known, "concurrent", False)


# --- limits hold for each ------------------------------------------------------------------------------------------


def test_a_verdict_that_hangs_blocks_its_process_alone() -> None:
    options = VerificationOptions(num_workers=2, timeout_seconds=1.5)
    texts = ["sleep 60", *["who"] * 60]
    with Verification(obedient, options) as guarded:
        first, *others = guarded.judge_all(actions(*texts))
        assert first == Verdict.unknown("verifier_timeout", limit_seconds=1.5)
        assert {verdict.outcome for verdict in others} == {"pass"}
        assert len({verdict.details["pid"] for verdict in others}) == 1  # the other one judged all the rest meanwhile


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ("exit", "verifier_crashed", "exit status 3"),
        ("killed", "verifier_crashed", "ended by SIGKILL"),
        ("hog", "verifier_error", "MemoryError"),
    ],
)
def test_a_process_that_is_lost_costs_its_own_verdict_alone(text: str, reason: str, detail: str) -> None:
    options = VerificationOptions(num_workers=2, memory_gib=1.0)
    texts = ["who", "Done."] * 10
    texts[5:5] = [text, text]
    with Verification(obedient, options) as guarded:
        for _ in range(3):
            verdicts = guarded.judge_all(actions(*texts))
            lost = [number for number, verdict in enumerate(verdicts) if verdict.outcome == "no_verdict"]
            assert lost == [5, 6] and {verdicts[5].reason, verdicts[6].reason} == {reason}
            assert detail in str(verdicts[5].details)


def test_processes_forked_anew_live_on_to_the_next_batch() -> None:
    with Verification(obedient, TWO) as guarded:
        guarded.judge_all(actions(*["exit", "sleep 0.05"] * 4))
        before = {verdict.details.get("pid") for verdict in guarded.judge_all(actions(*["who"] * 40))}
        time.sleep(0.2)
        after = [guarded(TURN, say("who")) for _ in range(3)]
    assert {verdict.details["pid"] for verdict in after} <= before


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux")
def test_twin_a_process_dies_with_the_thread_that_forked_it() -> None:
    child = Killable(lambda line: line)
    thread = threading.Thread(target=child.ask, args=(b"x", 5))
    thread.start()
    thread.join()
    with contextlib.suppress(Crashed):  # Crashed as soon as the kernel has got to it
        for _ in range(100):
            assert child.ask(b"x", 5) == b"x"
            time.sleep(0.02)
        pytest.fail("it lives")
    child.close()


# --- stopping -----------------------------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@dataclass(frozen=True)
class Signs:
    """Obedient; its process signs in with a file first."""

    folder: str

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        Path(self.folder, str(os.getpid())).touch()
        return obedient(turn, action)


def pids(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir()]


def none_is_left(folder: Path) -> bool:
    until = time.monotonic() + 5
    while any(map(alive, pids(folder))) and time.monotonic() < until:
        time.sleep(0.01)
    return not any(map(alive, pids(folder)))


def test_a_users_mistake_stops_the_batch_at_once_and_leaves_no_process(tmp_path: Path) -> None:
    options = VerificationOptions(num_workers=3, timeout_seconds=60)
    start = time.monotonic()
    with (
        pytest.raises(InputError, match="no such file; give another"),
        Verification(Signs(str(tmp_path)), options) as guarded,
    ):
        guarded.judge_all(actions("sleep 50", "sleep 50", "sleep 0.3", "mistake", *["sleep 50"] * 20))
    assert time.monotonic() - start < 20 and len(pids(tmp_path)) == 3 and none_is_left(tmp_path)


@contextlib.contextmanager
def ctrl_c(folder: Path, number: int) -> Iterator[None]:
    """As soon as that many processes have signed in."""

    def press() -> None:
        until = time.monotonic() + PATIENCE
        while len(pids(folder)) < number and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    yield
    thread.join()


def test_ctrl_c_stops_at_once_leaves_no_process_and_no_answer_for_the_next_batch(tmp_path: Path) -> None:
    options = VerificationOptions(num_workers=3, timeout_seconds=60)
    with Verification(Signs(str(tmp_path)), options) as guarded:
        guarded.judge_all(actions("no", "Done.", "no"))
        for path in tmp_path.iterdir():
            path.unlink()
        start = time.monotonic()
        with ctrl_c(tmp_path, 3), pytest.raises(KeyboardInterrupt):
            guarded.judge_all(actions(*["sleep 50"] * 20))
        assert time.monotonic() - start < 20 and none_is_left(tmp_path)
        verdicts = guarded.judge_all(actions("no", "Done.", "no", "Done."))
        assert [verdict.details for verdict in verdicts] == [{"said": said} for said in ("no", "Done.") * 2]
    assert none_is_left(tmp_path)


def test_twin_without_an_end_the_processes_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GuardProcesses, "interrupt", lambda self: None)
    guarded = Verification(Signs(str(tmp_path)), VerificationOptions(num_workers=3, timeout_seconds=60))
    with ctrl_c(tmp_path, 3), pytest.raises(KeyboardInterrupt):
        guarded.judge_all(actions(*["sleep 50"] * 20))
    assert all(map(alive, pids(tmp_path)))
    guarded.__exit__()
    assert len(pids(tmp_path)) == 3 and none_is_left(tmp_path)


@pytest.mark.usefixtures("direct")
def test_ctrl_c_does_not_wait_for_a_judge() -> None:
    with CrowdedServer(expected=99) as server, Verification(judge(server, deadline_seconds=60.0)) as guarded:
        timer = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])
        timer.start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            guarded.judge_all(sentences(20))
        assert time.monotonic() - start < 5
        server.expected = 0


def test_after_the_end_nothing_is_forked_any_more(tmp_path: Path) -> None:
    with Verification(Signs(str(tmp_path)), TWO) as guarded:
        guarded.judge_all(actions("no", "no"))
    assert guarded(TURN, say("Done.")).reason == "verifier_crashed" and none_is_left(tmp_path)


def test_threads_give_results_in_order_and_the_first_error_stops_them() -> None:
    threads = Threads(4)
    assert threads.map(lambda number: time.sleep(0.01 * (number % 3)) or number * 2, range(30)) == list(range(0, 60, 2))
    assert threads.map(str, []) == []
    begun = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 5:
            raise SystemExit("five")
        time.sleep(0.01)
        return number

    with pytest.raises(SystemExit, match="five"):
        threads.map(work, range(1000))
    assert len(begun) < 50
    assert threads.map(str, range(3)) == ["0", "1", "2"]
    threads.close()


# --- canaries -----------------------------------------------------------------------------------------------------


class Logs:
    """Writes down what it is asked; a canary's known fail is an empty action."""

    in_process = concurrent = True

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        self.asked.append(action.content or "")
        return exact.verify(turn, action)

    @property
    def between(self) -> list[int]:
        """How many verdicts were given between two trials of the canary."""
        places = [place for place, text in enumerate(self.asked) if not text]
        return [after - before - 2 for before, after in itertools.pairwise(places)]


@pytest.mark.parametrize("sizes", [[35], [1, 9, 10, 15], [10, 10, 10, 5], [4] * 9])
def test_canaries_are_tried_between_the_same_verdicts_as_one_by_one(sizes: list[int]) -> None:
    one_by_one, together = Logs(), Logs()
    options = VerificationOptions(canary_every=10, max_in_flight=4)
    with Verification(one_by_one, options, [TURN]) as guarded:
        for _ in range(sum(sizes)):
            guarded(TURN, say("no"))
    with Verification(together, options, [TURN]) as guarded:
        for size in sizes:
            guarded.judge_all(actions(*["no"] * size))
    assert together.between == one_by_one.between == [10, 10, 10]
    assert len(together.asked) == len(one_by_one.asked)


@dataclass(frozen=True)
class OneBreaks:
    """One of its processes, the first to find the file, is broken from then on."""

    file: str
    broken: list[bool] = dataclasses.field(default_factory=list, repr=False)

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        if action.content == "break":
            with contextlib.suppress(FileNotFoundError):
                Path(self.file).unlink()
                self.broken.append(True)
        time.sleep(0.02)
        if self.broken:
            raise OSError("disk is gone")
        return exact.verify(turn, action)


@pytest.mark.parametrize("canary_every", [10, 1000])
def test_every_process_is_tried_and_one_that_is_broken_is_found(tmp_path: Path, canary_every: int) -> None:
    (tmp_path / "file").touch()
    options = dataclasses.replace(TWO, canary_every=canary_every)
    with Verification(OneBreaks(str(tmp_path / "file")), options, [TURN]) as guarded:
        first = guarded.judge_all(actions(*["break"] * 10))
        assert {verdict.outcome for verdict in first} == {"fail", "no_verdict"}  # one of the two still works
        expected = pytest.raises(InputError, match="cannot be trusted.*disk is gone")
        with expected if canary_every == 10 else contextlib.nullcontext():
            guarded.judge_all(actions("no", "no"))


# --- in a training step -------------------------------------------------------------------------------------------


STEPS = TrainingOptions(num_steps=4, turns_per_step=3, group_size=4, learning_rate=0.1, checkpoint_every=1)


@dataclass(frozen=True)
class MistakenFrom:
    """Cannot go on once the file is there."""

    file: str

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        if Path(self.file).exists() and turn.id == "t2#1":
            raise InputError("the database is gone; start it")
        return exact.verify(turn, action)


def test_a_verifier_that_raises_in_mid_step_costs_the_step_and_the_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    turns = [turn(f"t{i}", f"answer {i}") for i in range(6)]
    whole = train(TabularPolicy(), turns, exact.verify, tmp_path / "whole", STEPS)
    file = tmp_path / "gone"

    class Saboteur(Observer):
        def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
            if done == 1:
                file.touch()

    with (
        Verification(MistakenFrom(str(file)), TWO, turns) as guarded,
        pytest.raises(InputError, match="the database is gone"),
    ):
        train(TabularPolicy(), turns, guarded, tmp_path / "run", STEPS, Saboteur())
    steps = [line for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines() if line]
    file.unlink()
    with Verification(MistakenFrom(str(file)), TWO, turns) as guarded:
        resumed = train(TabularPolicy(), turns, guarded, tmp_path / "run", STEPS)
    assert 1 <= len(steps) < len(whole)
    assert (tmp_path / "run" / "groups.jsonl").read_bytes() == (tmp_path / "whole" / "groups.jsonl").read_bytes()
    for one, other in zip(resumed, whole, strict=True):
        assert {k: v for k, v in one.metrics.items() if "time/" not in k} == {
            k: v for k, v in other.metrics.items() if "time/" not in k
        }
