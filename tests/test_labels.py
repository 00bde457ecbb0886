"""`pivotrl select --labels`: turns that a person drops, further actions that a person accepts, notes.

Run alone: python -m pytest tests/test_labels.py
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pivotrl.protocols import Turn
from pivotrl.reading.alternatives import action_key, with_alternatives
from pivotrl.reading.alternatives import with_labels as with_accepted
from pivotrl.records import Action, Completion, Label, Message, SampleGroup, Selection, ToolCall, Trajectory, Verdict
from pivotrl.runs.files import RunFiles
from pivotrl.runs.manifest import read_manifest
from pivotrl.selection import Facts, SelectionOptions, select
from pivotrl.selection.actions import meaning_of
from pivotrl.selection.labels import with_labels
from pivotrl.storage.record_files import read_records, sha256_of_file
from pivotrl.verifiers import exact, tool_call
from test_cli import call, refused
from test_pipeline import write_logs

TRAIN = ["--num-steps", "6", "--turns-per-step", "8", "--group-size", "8", "--learning-rate", "1"]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A profiled run of messages: 51 turns, 8 samples each, of a policy that chooses among four."""
    directory = tmp_path / "run"
    assert call("read", write_logs(tmp_path / "logs.jsonl"), "-o", directory) == 0
    assert call("profile", directory, "--policy", "tabular", "--verifier", "exact", "--num-samples", "8") == 0
    capsys.readouterr()
    return directory


def exported(run: Path, *labels: dict[str, Any], **changes: Any) -> Path:
    """A file as the page exports it."""
    content = {
        "format": "pivotrl-labels-1",
        "run": run.name,
        "trajectories_sha256": sha256_of_file(run / "trajectories.jsonl"),
        "labels": list(labels),
    }
    path = run.parent / "labels.json"
    path.write_text(json.dumps(content | changes))
    return path


def usual_mistakes(run: Path) -> dict[str, tuple[Action, int]]:
    """By turn, the wrong action that the profile took most often, and how often."""
    found = {}
    for group in read_records(run / "profiles.jsonl", SampleGroup):
        pairs = zip(group.completions_G, group.verdicts_G, strict=True)
        wrong = Counter(c.action for c, v in pairs if v.outcome == "fail")
        if wrong:
            found[group.turn_id] = wrong.most_common(1)[0]
    return found


def accepting(mistakes: dict[str, tuple[Action, int]]) -> list[dict[str, Any]]:
    return [
        {"turn_id": name, "accept": [action.model_dump()], "note": "right, too"}
        for name, (action, _) in mistakes.items()
    ]


def selections(run: Path, name: str = "selection") -> dict[str, Selection]:
    return {row.turn_id: row for row in read_records(run / f"{name}.jsonl", Selection)}


def rewards_of(run: Path, training: str, mistakes: dict[str, tuple[Action, int]]) -> list[float | None]:
    groups = read_records(run / training / "groups.jsonl", SampleGroup)
    return [
        verdict.reward
        for group in groups
        for completion, verdict in zip(group.completions_G, group.verdicts_G, strict=True)
        if group.turn_id in mistakes and completion.action == mistakes[group.turn_id][0]
    ]


def test_an_accepted_action_counts_in_the_selection_and_is_rewarded_in_training(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mistakes = usual_mistakes(run)
    assert len(mistakes) > 20
    assert call("select", run, "--rule", "all", "--name", "twin") == 0
    assert call("select", run, "--rule", "all", "--labels", exported(run, *accepting(mistakes))) == 0
    assert f"{sum(n for _, n in mistakes.values())} samples of the profile" in " ".join(capsys.readouterr().out.split())
    before, after = selections(run, "selections/twin"), selections(run)
    for name, (_, times) in mistakes.items():
        told, was = after[name].reward_mean, before[name].reward_mean
        assert told is not None and was is not None and told == pytest.approx(was + times / 8)
    assert call("train", run, *TRAIN) == 0
    assert call("train", run, "--selection", "twin", "--name", "twin", *TRAIN) == 0
    accepted, failed = rewards_of(run, "train", mistakes), rewards_of(run, "trainings/twin", mistakes)
    assert len(accepted) > 20 and set(accepted) == {1.0}
    assert len(failed) > 20 and set(failed) == {0.0}
    manifest = read_manifest(run / "train.manifest.json")
    assert "selection.labels.jsonl" in manifest.inputs
    assert "selection.labels.jsonl" not in read_manifest(run / "trainings/twin.manifest.json").inputs


def test_a_dropped_turn_is_no_pivot_and_takes_no_place(run: Path) -> None:
    assert call("select", run) == 0
    pivots = [name for name, row in selections(run).items() if row.selected]
    labels = exported(run, *({"turn_id": name, "drop": True, "note": "wrong log"} for name in pivots[:3]))
    for name, options in (("plain", []), ("drawn", ["--max-pivots", "2"]), ("random", ["--rule", "random"])):
        assert call("select", run, "--labels", labels, "--name", name, *options) == 0
        rows = selections(run, f"selections/{name}")
        assert [rows[pivot].reason for pivot in pivots[:3]] == ["dropped_by_label"] * 3
        num_left = len(pivots) - 3
        assert sum(row.selected for row in rows.values()) == (2 if name == "drawn" else num_left)
    counts = read_manifest(run / "selections/plain.manifest.json").counts
    assert counts["labels"] == {
        "turns": 3, "dropped": 3, "accepted_actions": 0, "samples_accepted": 0, "notes": 3
    }  # fmt: skip
    assert RunFiles(run).labels("plain")[0].note == "wrong log"


def test_other_labels_are_another_selection(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Notes alone change no row, and yet the selection is another one."""
    one = exported(run, {"turn_id": "log1#2", "note": "first"})
    assert call("select", run, "--labels", one) == 0
    rows = (run / "selection.jsonl").read_bytes()
    assert call("select", run) == 0, "nothing was trained from it, so it is replaced"
    assert not (run / "selection.labels.jsonl").exists() and (run / "selection.jsonl").read_bytes() == rows
    assert call("select", run, "--labels", one) == 0
    assert call("train", run, *TRAIN) == 0
    assert call("select", run, "--labels", one) == 0, "the same again"
    kept = run / "selection.labels.jsonl"
    copy = run.parent / kept.name
    copy.write_bytes(kept.read_bytes())
    assert call("select", run, "--labels", kept) == 0, "a run's own file can be read again"
    assert "another run" in refused(capsys, 2, "select", run, "--labels", copy)
    replaced = run / "replaced/1/selection.labels.jsonl"  # it may be of other trajectories
    replaced.parent.mkdir(parents=True)
    replaced.write_bytes(kept.read_bytes())
    assert "that was replaced" in refused(capsys, 2, "select", run, "--labels", replaced)
    assert "was made with other settings" in refused(capsys, 2, "select", run)
    two = exported(run, {"turn_id": "log1#2", "note": "second"})
    told = refused(capsys, 2, "select", run, "--labels", two)
    assert "labels" in told and "Made from it: train" in told
    assert call("select", run, "--labels", two, "--name", "second") == 0
    kept.write_bytes(kept.read_bytes()[:-9])
    assert "selection.labels.jsonl was changed" in refused(capsys, 2, "train", run, *TRAIN)
    one = exported(run, {"turn_id": "log1#2", "note": "first"})
    assert call("select", run, "--labels", one) == 0, "a damaged file is rewritten as it was"
    assert kept.read_bytes() == copy.read_bytes()


FAULTS = {
    "other run": ([], {"trajectories_sha256": "0" * 64}, "was made for other trajectories"),
    "unknown field": ([{"turn_id": "log1#2", "reward": 1}], {}, "label 1 (log1#2): reward: Extra inputs"),
    "unknown field of the file": ([], {"author": "me"}, "author: Extra inputs"),
    "other format": ([], {"format": "pivotrl-labels-9"}, "is no file of labels (pivotrl-labels-1)"),
    "unknown turn": ([{"turn_id": "log1#2", "note": "x"}, {"turn_id": "log1#99"}], {}, "label 2 (log1#99): the run"),
    "odd number": ([{"turn_id": "log1#02", "drop": True}], {}, "label 1 (log1#02): the run has no such turn"),
    "no such trajectory": ([{"turn_id": "nobody#2"}], {}, "label 1 (nobody#2): the run has no such turn"),
    "no assistant": ([{"turn_id": "log1#1", "accept": [{"content": "a"}]}], {}, "message 1 is of the role user"),
    "twice": ([{"turn_id": "log1#2"}, {"turn_id": "log1#2"}], {}, "the turn has two labels"),
    "empty action": ([{"turn_id": "log1#2", "accept": [{"content": " "}]}], {}, "accepted action 1 is empty"),
    "no arguments": (
        [{"turn_id": "log1#2", "accept": [{"tool_calls": [{"name": "f", "arguments": "[1]"}]}]}],
        {},
        "its arguments are not a JSON object",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_file_is_refused_by_place_fault_and_remedy(
    run: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    labels, changes, told = FAULTS[fault]
    said = refused(capsys, 2, "select", run, "--labels", exported(run, *labels, **changes))
    assert told in said and "labels.json" in said and ("xport the labels again" in said or "select in the run" in said)
    assert not (run / "selection.jsonl").exists()


def test_text_that_is_no_json_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run.parent / "labels.json"
    for text in ('{"format": ', '{"a": 1, "a": 2}', "[" * 500):
        path.write_text(text)
        assert "is not JSON" in refused(capsys, 2, "select", run, "--labels", path)
    assert "cannot read --labels" in refused(capsys, 2, "select", run, "--labels", run)
    assert "cannot read --labels" in refused(capsys, 2, "select", run, "--labels", run / "nothing.json")


def test_only_notes_are_kept_at_held_out_turns(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held_out = RunFiles(run).heldout()[0].id
    labels = exported(run, {"turn_id": f"{held_out}#2", "drop": True, "accept": [{"content": "a"}], "note": "odd"})
    assert call("select", run, "--labels", labels) == 0
    assert f"only the notes are kept, so that measurements stay comparable: {held_out}#2" in capsys.readouterr().err
    assert RunFiles(run).labels() == [Label(turn_id=f"{held_out}#2", note="odd")]


def test_labels_of_a_selection_that_is_replaced_are_kept(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They may be the only copy, even where the new selection reads them from there."""
    assert call("select", run, "--labels", exported(run, {"turn_id": "log1#2", "note": "mine"})) == 0
    own = run / "selection.labels.jsonl"
    assert call("select", run, "--labels", own, "--max-mean", "0.5") == 0
    assert [label.note for label in read_records(own, Label)] == ["mine"]
    assert call("select", run) == 0
    assert not own.exists()
    kept = sorted((run / "replaced").rglob("selection.labels.jsonl"))
    assert kept and all([label.note for label in read_records(path, Label)] == ["mine"] for path in kept)


def test_a_verifier_that_looks_at_the_demonstration_alone_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training would punish what the labels accept."""
    assert call("select", run, "--labels", exported(run, *accepting(usual_mistakes(run)))) == 0
    verifier = run.parent / "narrow.py"
    verifier.write_text(
        "from pivotrl.records import Verdict\n"
        "def verify(turn, action):\n"
        "    same = action == turn.expected_action\n"
        "    return Verdict.passed() if same else Verdict.failed('not_the_demonstrated_one')\n"
    )
    monkeypatch.syspath_prepend(str(run.parent))
    told = refused(
        capsys, 2, "train", run, "--verifier", "narrow:verify", "--profile-may-differ-in", "verifier", *TRAIN
    )
    assert "fails actions that the labels of the selection accept" in told and "not_the_demonstrated_one" in told
    assert not (run / "train.manifest.json").exists()
    dropped = [{**label, "drop": True} for label in accepting(usual_mistakes(run))]
    assert call("select", run, "--rule", "all", "--labels", exported(run, *dropped)) == 0
    assert call("train", run, "--verifier", "narrow:verify", "--profile-may-differ-in", "verifier", *TRAIN) == 0, (
        "what is accepted at turns that are no pivots does not matter"
    )


def test_an_export_holds_what_labels_accept(run: Path) -> None:
    mistakes = usual_mistakes(run)
    labels = exported(run, *accepting(mistakes))
    assert call("select", run, "--rule", "all", "--labels", labels) == 0
    assert call("export", run, "trl", "-o", run.parent / "rows") == 0
    rows = [json.loads(line) for line in (run.parent / "rows/train.jsonl").read_text().splitlines()]
    alternatives = {row["pivotrl_turn_id"]: json.loads(row["pivotrl_turn"]).get("alternatives", {}) for row in rows}
    for name, (action, _) in mistakes.items():
        (accepted,) = alternatives[name].values()
        assert [Action.model_validate(one) for one in accepted] == [action]
    name, (action, _) = next(iter(mistakes.items()))
    [turn] = RunFiles(run).turns([name], RunFiles(run).labels())
    assert turn.accepted_actions[1] == action


def test_tools_that_the_log_does_not_declare_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "find", "arguments": '{"n": 1}'}}]
    tools = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]
    rows = [
        {"id": f"log{n}", "task_id": f"t{n}", "tools": tools,
         "messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "tool_calls": calls}]}
        for n in range(12)
    ]  # fmt: skip
    logs, run = tmp_path / "logs.jsonl", tmp_path / "run"
    logs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert call("read", logs, "-o", run) == 0
    assert call("profile", run, "--policy", "tabular", "--verifier", "exact", "--num-samples", "4") == 0
    name = RunFiles(run).trajectories()[0].id
    capsys.readouterr()
    accept = [{"content": None, "tool_calls": [{"name": tool, "arguments": "{}"}]} for tool in ("find", "search")]
    call("select", run, "--rule", "all", "--labels", exported(run, {"turn_id": f"{name}#1", "accept": accept}))
    assert f"does not declare: search at {name}#1" in capsys.readouterr().err


# --- properties ------------------------------------------------------------------------------------------------------

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""On a busy machine an example may take long."""
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("xy", max_size=1), inner),
    max_leaves=6,
)
CALLS = st.builds(
    lambda name, arguments: ToolCall(name=name, arguments=json.dumps(arguments)),
    st.sampled_from("fg"),
    st.dictionaries(st.sampled_from("xyz"), VALUES, max_size=2),
)
ACTIONS = st.builds(
    lambda content, calls: Action(content=content, tool_calls=tuple(calls)),
    st.none() | st.sampled_from(["a", " a ", "b", ""]),
    st.lists(CALLS, max_size=2),
).filter(lambda action: not action.is_empty)


def respelt(action: Action) -> Action:
    """The same action in another spelling."""
    calls = []
    for one in action.tool_calls:
        arguments = dict(reversed(json.loads(one.arguments).items()))
        calls.append(ToolCall(name=one.name, arguments=json.dumps(arguments, indent=1), id="other"))
    return Action(content=f"\n{action.content or ''} ", tool_calls=tuple(calls))


@PATIENT
@given(ACTIONS, ACTIONS)
def test_equality_of_labels_is_that_of_alternatives(one: Action, other: Action) -> None:
    assert (meaning_of(one) == meaning_of(other)) == (action_key(one) == action_key(other))
    assert meaning_of(one) == meaning_of(respelt(one))


@PATIENT
@given(ACTIONS, st.lists(ACTIONS, max_size=3), st.lists(ACTIONS, max_size=3))
def test_verifiers_pass_what_labels_accept_in_any_spelling(
    expected: Action, alternatives: list[Action], accepted: list[Action]
) -> None:
    messages = (
        Message(role="user", content="q"),
        Message(role="assistant", content=expected.content, tool_calls=expected.tool_calls),
    )
    logged = Trajectory(id="t", task_id="t", messages=messages, alternatives={1: tuple(alternatives)})
    label = Label(turn_id="t#1", accept=tuple(accepted))
    [trajectory] = with_accepted(with_alternatives([logged]), [label])
    turn = Turn(trajectory, 1)
    keys = [action_key(action) for action in turn.accepted_actions]
    assert len(keys) == len(set(keys)), "no action twice"
    wanted = [expected, *alternatives, *accepted]
    assert set(keys) == set(map(action_key, wanted))
    for action in wanted:
        assert exact.verify(turn, respelt(action)).outcome == "pass"
        assert tool_call.verify(turn, respelt(action)).outcome == "pass"


@PATIENT
@given(
    st.lists(st.tuples(ACTIONS, st.booleans(), st.sampled_from(["pass", "fail", "no_verdict"])), max_size=6), ACTIONS
)
def test_labels_only_turn_equal_actions_into_passes(samples: list[tuple[Action, bool, str]], accepted: Action) -> None:
    made = {"pass": Verdict.passed(reward=0.5), "fail": Verdict.failed("x"), "no_verdict": Verdict.unknown("x")}
    group = SampleGroup(
        turn_id="t#1",
        completions_G=tuple(
            Completion(action=action, text="", token_ids_T=(), logprobs_T=(), finish_reason="stop",
                       parse_error="broken" if is_broken else None)
            for action, is_broken, _ in samples
        ),
        verdicts_G=tuple(made[outcome] for *_, outcome in samples),
    )  # fmt: skip
    other = group.model_copy(update={"turn_id": "t#3"})
    found, untouched = with_labels([group, other], [Label(turn_id="t#1", accept=(respelt(accepted),))])
    assert untouched == other
    for (action, is_broken, outcome), before, after in zip(samples, group.verdicts_G, found.verdicts_G, strict=True):
        is_accepted = meaning_of(action) == meaning_of(accepted) and not is_broken
        assert after == (Verdict.passed("accepted_by_label") if is_accepted and outcome != "pass" else before)


@PATIENT
@given(
    st.sets(st.integers(0, 9)), st.sampled_from(["mixed", "mean_only", "random", "all"]), st.none() | st.integers(1, 5)
)
def test_dropped_turns_change_nothing_but_themselves(dropped: set[int], rule: Any, max_pivots: int | None) -> None:
    verdicts = (Verdict.passed(), *(Verdict.failed("x"),) * 3)
    completion = Completion(
        action=Action(content="a"), text="a", token_ids_T=(1,), logprobs_T=(0.0,), finish_reason="stop"
    )
    groups = [SampleGroup(turn_id=f"t{n}#1", completions_G=(completion,) * 4, verdicts_G=verdicts) for n in range(10)]
    options = SelectionOptions(rule=rule, max_pivots=max_pivots)
    names = {f"t{n}#1" for n in dropped}
    rows = select(groups, options, Facts(dropped=names))
    without = select([group for group in groups if group.turn_id not in names], options)
    assert {row.turn_id for row in rows if row.reason == "dropped_by_label"} == names
    assert [row.selected for row in rows if row.turn_id not in names] == [row.selected for row in without]
