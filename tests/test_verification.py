"""A guarded verifier says what the bare one says, cannot hang or eat the machine, and is stopped when it is broken.

Run alone: python -m pytest tests/test_verification.py
"""

import concurrent.futures
import dataclasses
import json
import os
import re
import resource
import signal
import subprocess
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

from pivotrl import plugins
from pivotrl.judging.guarded import Verification, VerificationOptions
from pivotrl.judging.killable import Killable, TookTooLong
from pivotrl.policies.tabular import Policy as TabularPolicy
from pivotrl.protocols import InputError, Turn, Verifier
from pivotrl.readers import tau_bench
from pivotrl.readers.chat import read
from pivotrl.reading.audit import audit
from pivotrl.records import Action, Message, Trajectory, TurnResult, Verdict
from pivotrl.rollouts import judge_action
from pivotrl.runs.manifest import read_manifest
from pivotrl.stages.evaluating import evaluate_stage
from pivotrl.stages.reading import read_stage
from pivotrl.storage.record_files import read_records
from pivotrl.turns import cut
from pivotrl.verifiers import exact, tool_call

DATA = Path(__file__).parent / "data"
FAST = VerificationOptions(timeout_seconds=0.4)


def turn(expected: str = "Done.", name: str = "t", **fields: Any) -> Turn:
    messages = (Message(role="user", content="hello"), Message(role="assistant", content=expected))
    return Turn(Trajectory(id=name, task_id="t", messages=messages, **fields), 1)


def say(text: str) -> Action:
    return Action(content=text)


def bomb(turn: Turn, action: Action) -> Verdict:
    """Hangs on ``a...ab``, longer with every letter."""
    return Verdict.passed() if re.match(r"(a+)+$", action.content or "") else Verdict.failed("no_match")


def obedient(turn: Turn, action: Action) -> Verdict:
    """Does what the action says."""
    match action.content or "":
        case "power":
            return Verdict.passed(digits=9**9**9 % 10)
        case "hog":
            return Verdict.passed(size=len(b"x" * (4 << 30)))
        case "sleep":
            time.sleep(60)
        case "exit":
            os._exit(3)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "raise":
            raise KeyError("lost")
        case "not a verdict":
            return True  # type: ignore[return-value]
        case "not json":
            return Verdict.passed(what=object())
        case "user's mistake":
            raise InputError("no such file; give another")
        case "nan":
            return Verdict.passed(reward=float("nan"))
    return Verdict.passed() if action == turn.expected_action else Verdict.failed("other", said=action.content)


# --- the same verdicts --------------------------------------------------------------------------------------------


def test_real_turns_get_the_verdicts_that_the_bare_verifier_gives() -> None:
    turns = real_turns()
    actions = [t.expected_action for t in turns[:30]] + [Action(), say("x")]
    with Verification(tool_call.verify, canaries=turns) as guarded:
        verdicts = [(guarded(one, action), tool_call.verify(one, action)) for one in turns for action in actions]
    assert len(verdicts) > 500 and all(one == other for one, other in verdicts)
    assert {verdict.outcome for verdict, _ in verdicts} >= {"pass", "fail"}


def real_turns() -> list[Turn]:
    logs = tau_bench.read(DATA / "tau_bench" / "gpt-4o-airline.json")
    return cut([audit(log) for log in logs if isinstance(log, Trajectory)])[0]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, database=None)
@given(details=st.dictionaries(st.text(), JSON, max_size=3), reward=st.floats(0, 1), text=st.text(), extra=JSON)
def test_verdicts_and_turns_survive_the_way_unchanged(
    details: dict[str, Any], reward: float, text: str, extra: Any
) -> None:
    verdict = Verdict(outcome="fail", reward=reward, reason=text, details=details)
    with Verification(in_details) as guarded:
        place = turn(text, metadata={"verdict": json.loads(verdict.model_dump_json()), "extra": extra})
        assert guarded(place, say(text)) == verdict


def in_details(turn: Turn, action: Action) -> Verdict:
    assert action.content == turn.expected_action.content
    return Verdict.model_validate(turn.trajectory.metadata["verdict"])


def test_each_turn_is_judged_by_its_own_trajectory_however_many_there_are() -> None:
    turns = [turn(f"answer {i}", name="same id") for i in range(40)]
    with Verification(obedient, FAST) as guarded:
        for _ in range(2):
            for one in turns:
                for other in (one, turns[0]):
                    assert guarded(one, other.expected_action).outcome == ("pass" if one is other else "fail") or (
                        one is turns[0]
                    )
        assert guarded(turns[7], say("sleep")).reason == "verifier_timeout"
        assert [guarded(one, one.expected_action).outcome for one in turns] == ["pass"] * 40  # sent to the new child


# --- limits -------------------------------------------------------------------------------------------------------


def test_a_regular_expression_that_never_ends_is_killed_and_the_next_verdict_comes() -> None:
    with Verification(bomb, FAST) as guarded:
        assert guarded(turn(), say("aaa")).outcome == "pass"
        for _ in range(2):
            start = time.monotonic()
            verdict = guarded(turn(), say("a" * 60 + "b"))
            assert time.monotonic() - start < 10  # alone it takes for ever
            assert verdict == Verdict.unknown("verifier_timeout", limit_seconds=0.4)
        assert guarded(turn(), say("aaa")).outcome == "pass"


def test_twin_a_thread_with_a_time_limit_does_not_bound_it() -> None:
    letters = 20
    while True:  # as long as takes a second here
        start = time.monotonic()
        re.match(r"(a+)+$", "a" * letters + "b")
        if (alone := time.monotonic() - start) > 0.4:
            break
        letters += 1
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        start = time.monotonic()
        future = pool.submit(bomb, turn(), say("a" * letters + "b"))
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(timeout=0.05)
            raise concurrent.futures.TimeoutError  # it ended as soon as it could be asked
        assert time.monotonic() - start > alone / 2


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        ("power", "verifier_timeout", "0.4"),
        ("sleep", "verifier_timeout", "0.4"),
        ("hog", "verifier_error", "MemoryError"),
        ("exit", "verifier_crashed", "exit status 3"),
        ("segfault", "verifier_crashed", "SIGSEGV"),
        ("raise", "verifier_error", "KeyError: 'lost'"),
        ("not a verdict", "verifier_error", "returned True instead of a Verdict"),
        ("not json", "verifier_error", "object"),
        ("nan", "verifier_error", "finite number"),
        ("\ud800", "verifier_error", "surrogate"),
    ],
)
def test_whatever_happens_there_is_no_verdict_and_the_next_one_is_right(text: str, reason: str, detail: str) -> None:
    options = dataclasses.replace(FAST, memory_gib=1.0)
    with Verification(obedient, options) as guarded:
        verdict = judge_action(turn(), Action.model_construct(content=text, tool_calls=()), guarded)
        assert (verdict.outcome, verdict.reason, verdict.reward) == ("no_verdict", reason, None)
        assert detail in str(verdict.details)
        assert guarded(turn(), say("Done.")).outcome == "pass"
        assert guarded(turn(), say("no")).details == {"said": "no"}


def test_a_users_mistake_that_a_verifier_finds_stops_the_run() -> None:
    with Verification(obedient) as guarded, pytest.raises(InputError, match="no such file; give another"):
        judge_action(turn(), say("user's mistake"), guarded)


def test_ctrl_c_while_waiting_leaves_no_answer_behind_for_the_next_verdict() -> None:
    with Verification(obedient) as guarded:
        guarded(turn(), say("Done."))
        timer = threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            guarded(turn(), say("sleep"))
        timer.join()
        assert guarded(turn(), say("no")).details == {"said": "no"}


# --- the child ----------------------------------------------------------------------------------------------------


def surroundings(turn: Turn, action: Action) -> Verdict:
    own = {}
    for path in Path("/dev/fd").iterdir():
        try:
            own[path.name] = str(path.readlink())
        except OSError:  # the listing's own
            continue
    handlers = [str(number) for number in signal.valid_signals() if callable(signal.getsignal(number))]
    soft = resource.getrlimit(resource.RLIMIT_AS)
    return Verdict.passed(files=own, handlers=handlers, pid=os.getpid(), group=os.getpgrp(), limits=list(soft))


def test_the_child_has_nothing_of_its_parent(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with (tmp_path / "secret").open("w"), Verification(surroundings) as guarded:
            details = guarded(turn(), say("x")).details
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert details["files"]["0"] == "/dev/null" and not any("secret" in path for path in details["files"].values())
    assert sorted(set(details["files"]) - {"0", "1", "2"}, key=int)[1:] == []  # the link alone
    assert details["handlers"] == []
    assert details["pid"] == details["group"] != os.getpid()
    soft, hard = details["limits"]
    assert soft > 8 * 2**30 and (hard < 0 or hard >= soft)
    assert not alive(details["pid"])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.is_file() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_child_dies_with_its_parent_even_in_the_middle_of_a_verdict() -> None:
    code = (
        "import os, sys, threading; sys.path[:0] = [HERE]; from test_verification import *\n"
        "def verify(turn, action):\n"
        "    print(os.getpid(), flush=True)\n"
        "    return bomb(turn, say('a' * 90 + 'b'))\n"
        "Verification(verify, VerificationOptions(timeout_seconds=60))(turn(), say('x'))\n"
    ).replace("HERE", repr(str(Path(__file__).parent)))
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert parent.stderr is not None
    child = int(parent.stderr.readline())
    assert alive(child)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(child)
    parent.stderr.close()


def test_forks_beside_busy_threads_answer() -> None:
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            json.dumps([{"x": "y" * 1000}] * 50)
            Path(os.devnull).open().close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        with Verification(obedient, VerificationOptions(timeout_seconds=5)) as guarded:
            for _ in range(15):
                assert guarded(turn(), say("exit")).reason == "verifier_crashed"
                assert guarded(turn(), say("Done.")).outcome == "pass"
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_guard_costs_little() -> None:
    turns = real_turns()[:4]
    with Verification(tool_call.verify, canaries=turns) as guarded:
        seconds = {}
        for name, verify in (("bare", tool_call.verify), ("guarded", guarded)):
            for number in (20, 500):
                start = time.perf_counter()
                for i in range(number):
                    verify(turns[i % 4], turns[i % 4].expected_action)
                seconds[name] = (time.perf_counter() - start) / number
    overhead = seconds["guarded"] - seconds["bare"]
    print(f"bare {seconds['bare'] * 1e3:.3f} ms, guarded {seconds['guarded'] * 1e3:.3f} ms a verdict")
    assert overhead < 1.5e-3  # 0.1 ms on an idle core


def test_a_killable_function_is_asked_again_in_a_new_child_and_none_is_left() -> None:
    child = Killable(lambda line: b"%d %b" % (os.getpid(), line if line != b"wait" else time.sleep(9) or b""))
    first = child.ask(b"one", 5)
    assert child.ask(b"two", 5).split() == [first.split()[0], b"two"]
    with pytest.raises(TookTooLong):
        child.ask(b"wait", 0.1)
    assert not child.running and not alive(int(first.split()[0]))
    second = child.ask(b"three" * 100_000, 5)
    assert second.split()[0] != first.split()[0] and second.endswith(b"three" * 100_000)
    child.close()
    assert not alive(int(second.split()[0]))
    child.close()


# --- where a verifier runs ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Here:
    """Passes when it runs in the test's process, with the policy it was bound to."""

    pid: int
    policy: str = "none"
    in_process: ClassVar[bool] = True

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        return Verdict(outcome="pass", reward=1.0, reason=self.policy, details={"here": os.getpid() == self.pid})

    def with_policy(self, sampler: Any) -> "Here":
        return dataclasses.replace(self, policy=sampler)


def elsewhere(turn: Turn, action: Action) -> Verdict:
    return Verdict.unknown("not_me", pid=os.getpid())


def test_a_verifier_that_needs_the_process_runs_in_it_bound_to_the_policy() -> None:
    with Verification(Here(os.getpid()), policy="the policy") as guarded:  # type: ignore[arg-type]
        verdict = guarded(turn(), say("x"))
    assert verdict.details == {"here": True} and verdict.reason == "the policy"


def test_the_other_parts_of_a_combination_are_guarded_all_the_same() -> None:
    both = plugins.load("verifiers", "first_decisive", verifiers=(bomb_once, elsewhere, Here(os.getpid())))
    with Verification(both, FAST, policy="the policy") as guarded:  # type: ignore[arg-type]
        verdict = guarded(turn(), say("a" * 60 + "b"))
    assert verdict.outcome == "pass"
    timeout, other, here = verdict.details["parts"]
    assert timeout["reason"] == "verifier_timeout" and here["details"] == {"here": True}
    assert other["reason"] == "not_me" and other["details"]["pid"] != os.getpid()


def bomb_once(turn: Turn, action: Action) -> Verdict:
    bomb(turn, action)
    return Verdict.unknown("no_bomb")


# --- canaries -----------------------------------------------------------------------------------------------------


def reversed_exact(turn: Turn, action: Action) -> Verdict:
    return Verdict.failed("different") if exact.verify(turn, action).outcome == "pass" else Verdict.passed()


def always_error(turn: Turn, action: Action) -> Verdict:
    raise OSError("disk is gone")


def always_pass(turn: Turn, action: Action) -> Verdict:
    return Verdict.passed()


def always_fail(turn: Turn, action: Action) -> Verdict:
    return Verdict.failed("never_right")


def always_hangs(turn: Turn, action: Action) -> Verdict:
    return bomb(turn, say("a" * 60 + "b"))


@pytest.mark.parametrize(
    ("verifier", "said"),
    [
        (reversed_exact, r"fail \(different\) of the demonstrated action.*pass \(match\) of an empty one"),
        (always_error, r"at log1#1.*OSError: disk is gone.*OSError"),
        (always_hangs, r"verifier_timeout"),
    ],
)
def test_a_verifier_that_is_wrong_of_both_known_actions_is_refused_at_the_start(verifier: Verifier, said: str) -> None:
    turns = [turn(name=f"log{i}") for i in range(1, 3)]
    with pytest.raises(InputError, match=said), Verification(verifier, FAST, turns):
        pytest.fail("it was entered")


@pytest.mark.parametrize("verifier", [exact.verify, always_pass, always_fail])
def test_one_that_is_right_of_one_of_them_is_not(verifier: Verifier) -> None:
    with Verification(verifier, canaries=[turn()]) as guarded:
        assert guarded(turn(), say("Done.")) == verifier(turn(), say("Done."))


def test_turns_whose_demonstration_cannot_be_judged_say_nothing_unless_there_are_no_others() -> None:
    blank = turn(" ", name="blank")
    with Verification(exact.verify, canaries=[blank, blank, turn()]) as guarded:
        assert guarded(turn(), say("Done.")).outcome == "pass"
    with (
        pytest.raises(InputError, match=r"at blank#1.*no_expected_action"),
        Verification(exact.verify, canaries=[blank]),
    ):
        pass


def test_a_verifier_that_breaks_on_the_way_is_noticed_after_so_many_verdicts() -> None:
    options = VerificationOptions(canary_every=10)
    with Verification(Tires(8), options, [turn()]) as guarded:  # the canary is its first two
        outcomes = [guarded(turn(), say("Done.")).outcome for _ in range(10)]
        assert outcomes == ["pass"] * 6 + ["no_verdict"] * 4
        with pytest.raises(InputError, match=r"at t#1 it says no verdict \(verifier_error .*tired"):
            guarded(turn(), say("Done."))
    with Verification(Tires(1000), options, [turn()]) as guarded:
        assert all(guarded(turn(), say("Done.")).outcome == "pass" for _ in range(45))


class Tires:
    def __init__(self, strength: int) -> None:
        self.strength = strength

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        self.strength -= 1
        if self.strength < 0:
            raise RuntimeError("tired")
        return exact.verify(turn, action)


# --- in a stage ---------------------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    for name in ("logs", "heldout"):
        with (tmp_path / f"{name}.jsonl").open("w") as file:
            for i in range(3):
                said = (("user", f"{name} q{i}"), ("assistant", f"answer {i} of {name}"))
                messages = [{"role": role, "content": content} for role, content in said]
                row = {"id": f"{name}{i}", "task_id": f"{name}-task{i}", "messages": messages}
                file.write(json.dumps(row) + "\n")
    read_stage(str(tmp_path / "logs.jsonl"), tmp_path / "run", reader=read, heldout=str(tmp_path / "heldout.jsonl"))
    yield tmp_path / "run"


def test_a_stage_stops_before_it_samples_and_names_the_bare_verifier_in_its_manifest(directory: Path) -> None:
    with pytest.raises(InputError, match="cannot be trusted"):
        evaluate_stage(directory, name="before", policy=TabularPolicy(), verifier=always_error)
    assert not (directory / "evaluations" / "before.turns.jsonl").exists()
    (directory / "evaluations" / "before.manifest.json").unlink()
    evaluate_stage(directory, name="before", policy=TabularPolicy(), verifier=exact.verify)
    manifest = read_manifest(directory / "evaluations" / "before.manifest.json")
    assert manifest.options["verifier"] == "pivotrl.verifiers.exact:verify"
    assert manifest.counts["turns"] > 0


def test_a_stage_binds_the_policy_and_keeps_its_process(directory: Path) -> None:
    evaluate_stage(directory, name="before", policy=TabularPolicy(), verifier=ToPolicy())
    results = read_records(directory / "evaluations" / "before.turns.jsonl", TurnResult)
    assert {result.reason for result in results} == {"TabularPolicy"}


class ToPolicy:
    in_process = True

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        return Verdict.unknown("unbound")

    def with_policy(self, sampler: Any) -> Verifier:
        assert isinstance(sampler, TabularPolicy)
        return lambda turn, action: Verdict.failed("empty") if action.is_empty else Verdict.passed("TabularPolicy")


@pytest.mark.parametrize("in_process", [False, True])
def test_details_are_bounded_with_a_note_and_small_ones_stay(in_process: bool) -> None:
    def verify(_: Turn, action: Action) -> Verdict:
        return Verdict.failed(
            "r" * 10_000, num_rollout_turns=3, page="x" * 2_000_000, path="$.city", seen=["y"] * 9_000
        )

    verify.in_process = in_process  # type: ignore[attr-defined]
    with Verification(verify) as guarded:
        verdict = judge_action(turn(), say("a"), guarded)
    assert judge_action(turn(), say("a"), lambda *_: verdict) == verdict
    assert len(verdict.model_dump_json()) < 34_000
    assert verdict.details["left_out"] == "2045022 bytes; a verdict keeps 32 KiB of details"
    assert {name: verdict.details[name] for name in ("num_rollout_turns", "path")} == {
        "num_rollout_turns": 3,
        "path": "$.city",
    }
    assert verdict.reason == "r" * 200


def test_details_within_the_bound_are_kept_as_they_are() -> None:
    def verify(_: Turn, action: Action) -> Verdict:
        return Verdict.failed("wrong", page="x" * 30_000)

    with Verification(verify) as guarded:
        assert judge_action(turn(), say("a"), guarded) == Verdict.failed("wrong", page="x" * 30_000)
