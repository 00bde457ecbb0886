"""The verifier lint: what it counts, what it finds in verifiers known to be wrong, and when training is refused.

Run alone: python -m pytest tests/test_checking.py
"""

from __future__ import annotations

import functools
import importlib
import json
import linecache
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

import verifier_report
from pivotrl.cli import main
from pivotrl.cli.check_table import print_check
from pivotrl.intervals import clustered_mean
from pivotrl.judging.guarded import VerificationOptions
from pivotrl.judging.lint import CheckOptions, check, check_stage, fault_of, require_checked
from pivotrl.judging.probes.refusal import doubtful_groups, verdict_of, worst_groups
from pivotrl.judging.probes.report import CheckReport, Rate, Row
from pivotrl.plugins import load
from pivotrl.policies.tabular import Policy
from pivotrl.profiling import ProfileOptions
from pivotrl.protocols import InputError, Turn
from pivotrl.records import Action, Message, Trajectory, Verdict
from pivotrl.stages.profiling import profile_stage
from pivotrl.verifiers import exact, tool_call
from pivotrl.verifiers.first_decisive import FirstDecisive
from sloppy_verifiers import SLOPPY
from verifier_corpus import turns

TAU = "tau_bench/gpt-4o-airline.json"
TURNS = list(turns(TAU).values())


def report(verifier: str, source: str = TAU, **options: int) -> CheckReport:
    return check(list(turns(source).values()), load("verifiers", verifier), CheckOptions(**options))


def pays_everything(turn: Turn, action: Action) -> Verdict:
    return Verdict.passed()


def pays_nothing(turn: Turn, action: Action) -> Verdict:
    return Verdict.failed("no")


def says_nothing(turn: Turn, action: Action) -> Verdict:
    return Verdict.unknown("asleep")


class Waits:
    """As a judge behind a server: many answers can be waited for at one time."""

    in_process = concurrent = True

    def __init__(self) -> None:
        self.lock, self.now, self.most = threading.Lock(), 0, 0

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.002)
        with self.lock:
            self.now -= 1
        return Verdict.failed("no")


def breaks(turn: Turn, action: Action) -> Verdict:
    raise RuntimeError("out of order")


def graded(turn: Turn, action: Action) -> Verdict:
    same = exact.verify(turn, action).outcome == "pass"
    return Verdict.passed() if same else Verdict.failed("near", reward=0.25 if action.tool_calls else 0.0)


# --- what is counted ----------------------------------------------------------------------------------------------


def test_extreme_verifiers_get_the_extreme_rates() -> None:
    all_paid, none_paid, silent = (check(TURNS, v) for v in (pays_everything, pays_nothing, says_nothing))
    assert all_paid.false_pass and all_paid.false_fail and all_paid.accepts_expected
    # What is no action at all never reaches the verifier.
    assert 0.9 < all_paid.false_pass.mean < 1.0 and all_paid.false_fail.mean == 0.0
    assert all_paid.accepts_expected.mean == 1.0
    assert all_paid.by_kind["malformed/truncated"].false_pass
    assert all_paid.by_kind["malformed/no_closing_tag"].false_pass.mean == 0.0  # type: ignore[union-attr]
    assert none_paid.false_pass and none_paid.false_pass.mean == 0.0
    assert none_paid.false_fail and none_paid.false_fail.mean == 1.0
    assert none_paid.reward_values == (0.0,) and none_paid.num_turns_of_one_reward == len(TURNS)
    assert silent.no_verdict and silent.no_verdict.mean > 0.9
    assert silent.reasons_of_refused == {"no_verdict: asleep": len(TURNS)}


def test_a_verifier_that_breaks_is_counted_as_no_verdict() -> None:
    found = check(TURNS[:3], breaks)
    assert found.accepts_expected and found.accepts_expected.count == 0
    assert found.reasons_of_refused == {"no_verdict: verifier_error": 3}


def test_rates_and_intervals_are_those_of_the_probes_clustered_by_task() -> None:
    found = check(TURNS, tool_call.verify)
    total = sum(row.false_pass.num_probes for row in found.by_kind.values() if row.false_pass)
    wrong = sum(row.false_pass.count for row in found.by_kind.values() if row.false_pass)
    assert found.false_pass and (found.false_pass.num_probes, found.false_pass.count) == (total, wrong)
    assert found.num_turns == len(TURNS) and found.num_tasks == len({t.trajectory.task_id for t in TURNS})
    expected = clustered_mean([1.0] * len(TURNS), [turn.trajectory.task_id for turn in TURNS])
    got = found.accepts_expected
    assert got and (got.mean, got.low, got.high) == (expected.mean, expected.low, expected.high)
    assert set(found.by_turn) == {"messages", "calls"} and set(found.by_language) == {"en"}
    assert found.by_argument["book_reservation.cabin"].false_pass
    assert {"book_reservation", "think"} <= set(found.by_tool)


def test_graded_rewards_are_listed() -> None:
    assert check(TURNS, graded).reward_values == (0.0, 0.25, 1.0)


def test_turns_are_drawn_round_robin_over_tasks_and_always_the_same() -> None:
    few = check(TURNS, tool_call.verify, CheckOptions(check_turns=5))
    again = check(TURNS, tool_call.verify, CheckOptions(check_turns=5))
    assert few.num_turns == few.num_tasks == 5
    assert few.model_copy(update={"verdicts_per_second": 0}) == again.model_copy(update={"verdicts_per_second": 0})


def test_time_ends_a_check_after_the_action_in_hand() -> None:
    found = check(TURNS, tool_call.verify, CheckOptions(check_seconds=1e-9))
    assert (found.num_turns, found.num_turns_skipped, found.num_verdicts) == (1, len(TURNS) - 1, 1)


def test_a_check_that_was_cut_short_is_not_enough(directory: Path) -> None:
    short = check_stage(directory, TURNS, exact.verify, CheckOptions(check_seconds=1e-9))
    assert short.num_turns_skipped
    assert require_checked(directory, TURNS, exact.verify)[1]


def test_the_worst_examples_name_what_was_accepted() -> None:
    found = report("gym_compat")
    assert len(found.worst) == 10 and all(example.certain for example in found.worst)
    assert len({example.kind for example in found.worst}) == 10
    empty = next(example for example in found.worst if example.kind == "empty/text")
    assert (empty.text, empty.reward) == ("", 1.0) and empty.turn_id.startswith("tau_bench")


def test_verdicts_side_by_side_give_the_report_of_one_by_one(directory: Path) -> None:
    options = CheckOptions(check_turns=8)
    one, three = (
        check_stage(directory, TURNS, tool_call.verify, options, verification=VerificationOptions(num_workers=number))
        for number in (1, 3)
    )
    assert one.model_copy(update={"verdicts_per_second": 0}) == three.model_copy(update={"verdicts_per_second": 0})
    assert one.num_verdicts > 100


def test_many_slow_verdicts_are_under_way_at_one_time(directory: Path) -> None:
    waits = Waits()
    check_stage(directory, TURNS, waits, CheckOptions(check_turns=2))
    assert waits.most > 4


def test_nothing_to_check_is_said() -> None:
    with pytest.raises(InputError, match="no candidate turns"):
        check([], tool_call.verify)


# --- what it finds ------------------------------------------------------------------------------------------------


@functools.cache
def lint(name: str) -> CheckReport:
    return verifier_report.run(name)


@pytest.mark.parametrize(
    ("hole", "kind", "run"), verifier_report.HOLES, ids=[hole for hole, _, _ in verifier_report.HOLES]
)
def test_the_known_holes_of_gyms_rules_are_found(hole: str, kind: str, run: str) -> None:
    assert verifier_report.shown_wrong(lint(run).by_kind.get(kind)) > 0


@pytest.mark.parametrize("kind", sorted({kind for _, kind, _ in verifier_report.HOLES}))
def test_ours_have_none_of_these_holes(kind: str) -> None:
    """The twin, on the same rows."""
    ours = ("tool_call on single_step rows", "tool_call on tau-bench", "command, edit, tool_call on SWE rows")
    rows = [lint(run).by_kind[kind] for run in ours if kind in lint(run).by_kind]
    assert rows and not any(verifier_report.shown_wrong(row) for row in rows)


def test_the_line_between_ours_and_gyms_is_where_the_default_draws_it() -> None:
    limit = CheckOptions().max_false_pass
    for name in verifier_report.RUNS:
        rate = lint(name).false_pass
        assert rate and (rate.mean > limit) is name.startswith("Gym"), (name, rate)
        assert (fault_of(lint(name), limit) is None) is not name.startswith("Gym"), name


def test_the_document_shows_the_committed_results() -> None:
    text = verifier_report.DOCUMENT.read_text()
    assert verifier_report.render(text, json.loads(verifier_report.RESULTS.read_text())) == text


# --- what it refuses ----------------------------------------------------------------------------------------------


def test_training_is_refused_by_rates_and_told_what_to_do() -> None:
    told = fault_of(report("gym_compat"), 0.02) or ""
    assert "gym_compat" in told and "--max-false-pass" in told and "judge/" in told
    assert "pivotrl check" not in told, "it is what `pivotrl check` itself says; profiling and training add it"
    assert fault_of(report("gym_compat"), 1.0) is None
    assert fault_of(report("tool_call"), 0.02) is None
    assert fault_of(report("exact"), 0.0) is None


def test_a_verifier_that_accepts_no_demonstration_is_refused() -> None:
    for verifier in (pays_nothing, says_nothing):
        assert "accepts no demonstrated action" in (fault_of(check(TURNS[:4], verifier), 1.0) or "")


def test_what_a_broken_verifier_said_is_told() -> None:
    def broken(turn: Turn, action: Action) -> Verdict:
        raise KeyError("boo")

    found = check(TURNS[:2], broken)
    assert "KeyError" in found.first_error and "boo" in (fault_of(found, 1.0) or "")


def test_doubtful_probes_never_block() -> None:
    found = check(TURNS, tool_call.verify)
    assert found.uncertain_pass and found.uncertain_pass.num_probes > 0
    certain = found.false_pass or pytest.fail("no certain attack")
    worse = Rate(count=9, num_probes=9, num_tasks=1, mean=1.0, low=0.9, high=1.0)
    assert fault_of(found.model_copy(update={"uncertain_pass": worse}), certain.mean) is None
    assert fault_of(found.model_copy(update={"false_pass": worse}), certain.mean)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    main(["read", str(Path(__file__).parent / "data" / TAU), "-o", str(tmp_path / "run")])
    return tmp_path / "run"


def test_a_check_is_made_once_for_each_verifier_and_log(directory: Path) -> None:
    path = directory / "check.json"
    made, is_new = require_checked(directory, TURNS, exact.verify)
    assert is_new
    assert CheckReport.model_validate_json(path.read_text()) == made
    before = path.stat().st_mtime_ns
    assert require_checked(directory, TURNS, exact.verify) == (made, False)
    assert require_checked(directory, TURNS[:2], exact.verify, same_turns=False) == (made, False)
    assert path.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="gym_compat"):  # another verifier: checked anew, and refused
        require_checked(directory, TURNS, load("verifiers", "gym_compat"))
    with (directory / "trajectories.jsonl").open("a") as log:  # another log
        log.write("\n")
    assert require_checked(directory, TURNS[:2], load("verifiers", "exact"))[0].num_turns == 2
    path.write_text(path.read_text()[:100])  # cut: made again
    assert require_checked(directory, TURNS[:3], exact.verify)[0].num_turns == 3
    assert require_checked(directory, TURNS[1:3], exact.verify)[0].num_turns == 2  # other turns of the same log
    check_stage(directory, TURNS[:3], exact.verify, CheckOptions(check_turns=1))
    assert require_checked(directory, TURNS[:3], exact.verify)[0].num_turns == 3  # a quicker check is not enough


OWN = """
from pivotrl import Verdict
from pivotrl.verifiers.exact import verify as exact

def verify(turn, action):
    return {body}
"""


def test_a_verifier_of_ones_own_is_checked_again_when_its_file_changes(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "own_rules.py"
    monkeypatch.syspath_prepend(str(tmp_path))

    def loaded(body: str) -> Callable[[Turn, Action], Verdict]:
        module.write_text(OWN.format(body=body))
        importlib.invalidate_caches()
        sys.modules.pop("own_rules", None)
        linecache.clearcache()
        return load("verifiers", "own_rules:verify")

    assert require_checked(directory, TURNS, loaded("exact(turn, action)"))[1]
    assert not require_checked(directory, TURNS, loaded("exact(turn, action)"))[1]
    with pytest.raises(InputError, match="wrong actions"):
        require_checked(directory, TURNS, loaded("Verdict.passed()"))
    assert require_checked(directory, TURNS, loaded("exact(turn, action)"))[1]


def test_overwrite_forgets_nothing_for_a_verifier_that_is_refused(directory: Path) -> None:
    profile_stage(directory, sampler=Policy(), verifier=tool_call.verify, profiling=ProfileOptions(num_samples=2))
    bought = (directory / "profiles.jsonl").read_bytes()
    with pytest.raises(InputError, match="wrong actions"):
        profile_stage(
            directory,
            sampler=Policy(),
            verifier=load("verifiers", "gym_compat"),
            profiling=ProfileOptions(num_samples=2),
            overwrite=True,
        )
    assert (directory / "profiles.jsonl").read_bytes() == bought
    profile_stage(
        directory, sampler=Policy(), verifier=exact.verify, profiling=ProfileOptions(num_samples=3), overwrite=True
    )
    assert (directory / "profiles.jsonl").read_bytes() != bought


def test_a_part_that_looks_at_effects_excuses_only_what_it_decides() -> None:
    """The first part is paid for anything that begins like the demonstration; the second never gets to speak."""

    def first_letter(turn: Turn, action: Action) -> Verdict:
        same = [c.arguments[:3] for c in action.tool_calls] == [
            c.arguments[:3] for c in turn.expected_action.tool_calls
        ]
        return Verdict.passed() if same and action.tool_calls else Verdict.failed("other")

    turns = [turn for turn in TURNS if turn.expected_action.tool_calls]
    alone, combined = check(turns, first_letter), check(turns, FirstDecisive(verifiers=(first_letter, Effects())))
    assert alone.false_pass and combined.false_pass and alone.false_pass.mean > 0.1
    assert combined.false_pass.mean == alone.false_pass.mean


def test_a_refused_verifier_leaves_the_run_free_for_another(directory: Path) -> None:
    with pytest.raises(InputError, match="wrong actions"):
        profile_stage(
            directory,
            sampler=Policy(),
            verifier=load("verifiers", "gym_compat"),
            profiling=ProfileOptions(num_samples=2),
        )
    assert not (directory / "profile.manifest.json").exists()
    profile_stage(directory, sampler=Policy(), verifier=tool_call.verify, profiling=ProfileOptions(num_samples=2))


class Effects:
    """Says that all commands do the same, which two commands may."""

    judges_effects = True

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        if not action.tool_calls or not action.tool_calls[0].arguments.strip("{ }"):
            return Verdict.failed("no_call")
        return Verdict.passed()


def test_what_may_have_the_same_effect_is_no_certain_attack_on_a_verifier_of_effects() -> None:
    found = check([turn for turn in TURNS if turn.expected_action.tool_calls], Effects())
    assert found.false_pass and found.uncertain_pass
    assert found.false_pass.num_probes > 0 and found.false_pass.mean < 0.5 < found.uncertain_pass.mean
    kinds = {kind.partition("/")[0] for kind, row in found.by_kind.items() if row.false_pass}
    assert kinds == {"empty", "malformed", "talk", "judge"}


def test_a_verifier_that_hangs_does_not_hang_the_check(directory: Path) -> None:
    found = check_stage(
        directory,
        TURNS[:1],
        hangs,
        CheckOptions(check_turns=1, probes_per_kind=1),
        verification=VerificationOptions(timeout_seconds=0.05),
    )
    assert found.accepts_expected and found.accepts_expected.count == 1
    assert found.no_verdict and found.no_verdict.count > 0


def hangs(turn: Turn, action: Action) -> Verdict:
    if action.content == ".":
        while True:
            pass
    return Verdict.passed()


# --- what is shown ------------------------------------------------------------------------------------------------


def test_the_terminal_shows_rates_kinds_examples_and_the_refusal(capsys: pytest.CaptureFixture[str]) -> None:
    print_check(report("gym_compat"), CheckOptions(), as_json=False)
    shown = capsys.readouterr().out
    for words in ("false pass", "empty/text", "calls", "book_reservation", "0, 1", "(nothing)", "refused: "):
        assert words in shown, words
    print_check(report("tool_call"), CheckOptions(), as_json=False)
    told = capsys.readouterr().out
    assert "refused" not in told and "sound: " in told
    print_check(check(TURNS[:1], tool_call.verify), CheckOptions(), as_json=False)
    assert "too few tasks to say: " in capsys.readouterr().out


def test_an_example_is_shown_where_it_differs(capsys: pytest.CaptureFixture[str]) -> None:
    long = turn_saying("The first part of this message is the same in both of them. " * 20 + "Seat 12A is yours.")
    print_check(check([long], pays_everything), CheckOptions(), as_json=False)
    shown = " ".join(capsys.readouterr().out.split())
    assert "...The first" not in shown and "Seat 12A" in shown and "Seat 13A" in shown


def turn_saying(text: str, task: str = "t") -> Turn:
    said = (Message(role="user", content="Hello?"), Message(role="assistant", content=text))
    return Turn(Trajectory(id=task, task_id=task, messages=said), 1)


# --- groups -------------------------------------------------------------------------------------------------------

LOGS = {
    "tau-bench": (TAU,),
    "NeMo Gym": ("nemo_gym/single_step_tool_use.jsonl", "nemo_gym/parallel_tool_calls.jsonl"),
    "ShareGPT": ("formats/sharegpt",),
    "tau2-bench": ("formats/tau2_bench",),
    "OpenHands, Codex, Claude Code": ("formats/openhands_completions", "formats/codex", "formats/claude_code"),
}


@pytest.mark.parametrize("log", LOGS)
def test_a_verifier_that_is_sloppy_in_one_thing_is_refused_on_every_log(log: str) -> None:
    found = [turn for source in LOGS[log] for turn in turns(source).values()]
    few = CheckOptions(check_turns=14)
    passed = [name for name, verifier in SLOPPY.items() if fault_of(check(found, verifier, few), 0.02) is None]
    assert not passed
    assert fault_of(check(found, exact.verify, few), 0.02) is None  # the twin, without the one thing


def test_a_hole_at_one_kind_of_turn_is_not_hidden_by_the_others() -> None:
    """Any Chinese message passes for any other, beside calls that are judged rightly."""

    def verify(turn: Turn, action: Action) -> Verdict:
        said = turn.expected_action.content or ""
        is_paid = not turn.expected_action.tool_calls and not said.isascii() and not action.tool_calls
        return Verdict.passed() if is_paid and action.content else exact.verify(turn, action)

    chinese = [turn_saying(f"您的预约已经取消。第{n}号。", f"zh{n}") for n in "一二三"]
    calls = [turn for turn in TURNS if turn.expected_action.tool_calls]
    found = check([*calls, *chinese], verify)
    assert found.by_turn["calls"].false_pass and found.by_turn["calls"].false_pass.count == 0
    told = fault_of(found, 0.15) or ""
    assert found.false_pass and found.false_pass.mean < 0.15 and "zh, Cjk" in str(list(found.by_language))
    assert "messages" in told or "said/" in told
    sound = check([*calls, *chinese], tool_call.verify)
    assert fault_of(sound, 0.02) is None and sound.by_language["zh, Cjk"].false_pass is not None


def test_a_single_pass_in_a_small_group_only_warns() -> None:
    found = check(TURNS, exact.verify)
    one = Rate(count=1, num_probes=3, num_tasks=3, mean=1 / 3, low=0.06, high=0.8)
    rows = {**found.by_kind, "near/number": Row(false_pass=one, false_fail=None)}
    report = found.model_copy(update={"by_kind": rows})
    assert fault_of(report, 0.02) is None
    assert [group.name for group in doubtful_groups(report, 0.02)] == ["as near/number"]
    many = Rate(count=3, num_probes=3, num_tasks=1, mean=1.0, low=0.0, high=1.0)
    rows["near/number"] = Row(false_pass=many, false_fail=None)
    told = fault_of(found.model_copy(update={"by_kind": rows}), 0.02) or ""
    assert "near/number" in told and "raise --max-false-pass to 1." in told


@pytest.mark.parametrize(
    "options", ["ignore_arguments=('cabin', 'limit')", "rules={'*.cabin': 'ignore'}", "ignore_case=True"]
)
def test_what_the_user_asked_for_is_no_hole(options: str) -> None:
    found = [turn for turn in TURNS if turn.expected_action.tool_calls]
    assert fault_of(check(found, load("verifiers", f"tool_call({options})")), 0.02) is None


def test_an_argument_that_nobody_looks_at_is_a_hole() -> None:
    loose = load("verifiers", "tool_call(ignore_arguments=('cabin',))")
    told = check([turn for turn in TURNS if turn.expected_action.tool_calls], lambda turn, action: loose(turn, action))
    assert "in the argument book_reservation.cabin" in {group.name for group in worst_groups(told, 0.02)}


def test_the_verifier_that_is_made_for_such_turns_is_named() -> None:
    told = fault_of(report("gym_compat", "formats/mini_swe_agent"), 0.02) or ""
    assert '--verifier "command"' in told
    misplaced = verdict_of(report("tool_call", "formats/mini_swe_agent"), 0.02)
    assert misplaced.startswith("sound: ") and misplaced.endswith('--verifier "command".')


def test_the_command_writes_the_report(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    main(["check", str(directory), "--verifier", "exact", "--check-turns", "4", "--json"])
    told = CheckReport.model_validate_json(capsys.readouterr().out)
    assert told == CheckReport.model_validate_json((directory / "check.json").read_text())
    assert told.num_turns == 4 and told.verifier == "pivotrl.verifiers.exact:verify"


def test_the_exit_code_tells_a_verifier_that_would_be_refused(directory: Path) -> None:
    main(["check", str(directory), "--verifier", "exact", "--check-turns", "4", "--json"])
    with pytest.raises(SystemExit) as stopped:
        main(["check", str(directory), "--verifier", "gym_compat", "--check-turns", "4", "--json"])
    assert stopped.value.code == 2
