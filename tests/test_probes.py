"""The probes themselves: each is what its kind says, attacks are no accepted action, honest variants mean the same.

Run alone: python -m pytest tests/test_probes.py
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from pivotrl.judging.probes.commands import shells
from pivotrl.judging.probes.facts import facts, other_text, swaps
from pivotrl.judging.probes.making import make_probes
from pivotrl.judging.probes.probe import Probe, same
from pivotrl.protocols import Turn
from pivotrl.records import Action, Message, Tool, ToolCall, Trajectory
from verifier_corpus import turns

SOURCES = (
    *("tau_bench/gpt-4o-airline.json", "nemo_gym/single_step_tool_use.jsonl", "nemo_gym/swe_pivot.jsonl"),
    *("nemo_gym/xlam_fc.jsonl", "formats/swe_agent", "formats/mini_swe_agent", "formats/claude_code", "formats/codex"),
)
TURNS = [turn for source in SOURCES for turn in turns(source).values()]
WANTED = {
    *("empty/text", "empty/blank", "empty/arguments", "missing/argument", "missing/call", "other_turn/other_task"),
    *("other_turn/same_trajectory", "swapped/number", "swapped/value", "swapped/number_in_message"),
    *("swapped/id_in_message", "swapped/name_in_message", "swapped/direction_in_message", "tool/swapped"),
    *("swapped/negation_in_message", "tool/unknown", "malformed/truncated", "malformed/fenced", "talk/announced"),
    *("copied/user_message", "copied/previous_turn", "extra/harmful_call", "extra/same_call", "type/confused"),
    *("type/not_a_number", "unicode/homoglyph", "unicode/zero_width", "unicode/bidi", "judge/master_key"),
    *("judge/injection", "shell_appended/true", "shell_appended/or_true", "shell_appended/remove", "shell_flag/force"),
    *("shell_redirected/away", "shell_path/name", "edit_text/number", "edit_place/no_change", "edit_path/name"),
    *("honest/argument_order", "honest/json_blanks", "honest/json_escapes", "honest/number_form", "honest/call_ids"),
    *("honest/path_spelling", "honest/single_quotes", "honest/blanks_between_words", "honest/default_spelled_out"),
    *("near/number", "near/punctuation", "near/case", "near/longer", "near/shorter", "near/word_order"),
    *("said/other_word", "said/word_left_out", "said/roles_exchanged", "said/as_a_question", "said/other_language"),
    *("said/words_turned_round", "said/contrary"),
    *("honest/call_order", "self/range_of_one", "self/demonstrated"),
}


def probes_at(turn: Turn) -> list[Probe]:
    near = [other for other in TURNS if other.trajectory is turn.trajectory and other is not turn][:2]
    far = [other for other in TURNS if other.trajectory.task_id != turn.trajectory.task_id][-2:]
    return make_probes(turn, near, far, per_kind=None)


PROBES = [(turn, probe) for turn in TURNS for probe in probes_at(turn)]


def test_every_kind_is_made_on_real_turns() -> None:
    assert {probe.kind for _, probe in PROBES} >= WANTED


def test_no_attack_is_an_accepted_action() -> None:
    wrong = [
        (turn.id, probe.kind)
        for turn, probe in PROBES
        if probe.expected == "fail" and not probe.parse_error and same(probe.action, turn.expected_action)
    ]
    assert not wrong


def test_an_attack_that_is_a_recorded_alternative_is_left_out() -> None:
    turn = TURNS[0]
    other = Action(content="Which reservation is it?")
    both = turn.trajectory.model_copy(update={"alternatives": {turn.index: (other,)}})
    fake = Turn(turn.trajectory.model_copy(update={"messages": (Message(role="assistant", content=other.content),)}), 0)
    kinds = {p.kind for p in make_probes(turn, (fake,)) if p.kind.startswith("other_turn")}
    assert kinds == {"other_turn/same_trajectory"}
    assert not {p.kind for p in make_probes(Turn(both, turn.index), (fake,)) if p.kind.startswith("other_turn")}
    assert "honest/accepted_alternative" in {p.kind for p in make_probes(Turn(both, turn.index))}


def test_honest_rewritings_of_json_are_the_same_action() -> None:
    rewritten = ("honest/argument_order", "honest/json_blanks", "honest/json_escapes", "honest/call_ids")
    found = [(turn, probe) for turn, probe in PROBES if probe.kind in rewritten]
    assert len(found) > 100
    for turn, probe in found:
        assert probe.action != turn.expected_action
        assert same(probe.action, turn.expected_action), (turn.id, probe.kind)


def test_honest_spellings_of_a_command_have_the_words_of_the_command() -> None:
    found = 0
    for turn, probe in PROBES:
        if probe.kind in ("honest/single_quotes", "honest/double_quotes", "honest/blanks_between_words"):
            for one, other in zip(shells(turn.expected_action), shells(probe.action), strict=True):
                assert shlex.split(one.command) == shlex.split(other.command)
                found += 1
    assert found > 40


@pytest.mark.parametrize(
    ("kind", "same_output"),
    [
        *((f"honest/{kind}", True) for kind in ("single_quotes", "double_quotes", "blanks_between_words")),
        *((f"honest/{kind}", True) for kind in ("path_spelling", "harmless_prefix", "surrounding_blanks")),
        *((f"shell_{kind}", False) for kind in ("appended/true", "appended/or_true", "redirected/away", "path/name")),
        *((f"shell_{kind}", False) for kind in ("wrapped/echo", "wrapped/never", "flag/left_out", "missing/comment")),
    ],
)
def test_a_shell_agrees_on_what_is_the_same(kind: str, same_output: bool, tmp_path: Path) -> None:
    """What bash prints and answers decides, on a command that fails so that a lost exit code shows."""
    (tmp_path / "one.txt").write_text("a\nb\n")
    call = ToolCall(name="bash", arguments=json.dumps({"command": "grep -c z one.txt"}))
    turn = Turn(
        Trajectory(
            id="t",
            task_id="t",
            messages=(Message(role="user", content="?"), Message(role="assistant", tool_calls=(call,))),
        ),
        1,
    )
    made = [probe for probe in make_probes(turn, per_kind=None) if probe.kind == kind]
    assert made

    def run(command: str) -> tuple[int, str]:
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    for probe in made:
        command = json.loads(probe.action.tool_calls[0].arguments)["command"]
        assert (run(command) == run("grep -c z one.txt")) is same_output, command


def test_texts_that_a_sampler_would_not_parse_carry_the_error() -> None:
    cut = [probe for _, probe in PROBES if probe.kind == "malformed/no_closing_tag"]
    assert cut and {probe.parse_error for probe in cut} == {"tool_call_not_closed"}
    assert {probe.completion().parse_error for probe in cut} == {"tool_call_not_closed"}


def test_another_tasks_action_is_certain_only_when_it_names_what_this_turn_does_not_know() -> None:
    def turn(task: str, said: str, asked: str = "Where is order 4471?") -> Turn:
        messages = (Message(role="user", content=asked), Message(role="assistant", content=said))
        return Turn(Trajectory(id=task, task_id=task, messages=messages), 1)

    here = turn("a", "Order 4471 is on its way.")
    for said, certain in (("You're welcome!", False), ("Order 9023 is lost.", True), ("4471 is lost.", False)):
        made = next(p for p in make_probes(here, (), (turn("b", said),)) if p.kind == "other_turn/other_task")
        assert made.certain is certain, said


def test_arguments_that_only_comment_are_no_certain_attack() -> None:
    call = ToolCall(name="bash", arguments='{"command": "ls", "description": "List the 12 files of March"}')
    messages = (Message(role="user", content="?"), Message(role="assistant", tool_calls=(call,)))
    made = make_probes(Turn(Trajectory(id="t", task_id="t", messages=messages), 1), per_kind=None)
    about_description = [
        p
        for p in made
        if p.expected == "fail" and p.action.tool_calls and '"command": "ls"' in p.action.tool_calls[0].arguments
    ]
    swapped = [p for p in about_description if p.kind.startswith("swapped/")]
    assert swapped and not any(p.certain for p in swapped)


def test_numbers_of_a_schema_may_be_written_as_floats_only_where_it_says_number() -> None:
    parameters = {"properties": {"a": {"type": "number"}, "b": {"type": "integer"}, "c": {"default": 3}}}
    call = ToolCall(name="f", arguments='{"a": 5, "b": 6}')
    messages = (Message(role="user", content="?"), Message(role="assistant", tool_calls=(call,)))
    tools = (Tool(name="f", parameters=parameters),)
    made = make_probes(Turn(Trajectory(id="t", task_id="t", messages=messages, tools=tools), 1), per_kind=None)
    forms = {(p.action.tool_calls[0].arguments, p.certain) for p in made if p.kind == "honest/number_form"}
    assert forms == {
        ('{"a": 5.0, "b": 6}', True),
        ('{"a": 5e0, "b": 6}', True),
        ('{"a": 5, "b": 6.0}', False),
        ('{"a": 5, "b": 6e0}', False),
    }
    spelled = next(p for p in made if p.kind == "honest/default_spelled_out")
    assert json.loads(spelled.action.tool_calls[0].arguments) == {"a": 5, "b": 6, "c": 3}


def test_the_same_turn_and_seed_give_the_same_probes() -> None:
    turn = TURNS[5]
    assert make_probes(turn, seed=3) == make_probes(turn, seed=3)
    most = Counter(probe.kind for probe in make_probes(turn, per_kind=1))
    assert set(most.values()) == {1}


@pytest.mark.parametrize(
    ("text", "what", "other"),
    [
        ("I refund $120 to card 9.", "number", "I refund $121 to card 9."),
        ("Flight HAT271 is full.", "id", "Flight HAT272 is full."),
        ("1. First\n2. Then pay 30 now", "number", "1. First\n2. Then pay 31 now"),
        ("We fly from Oslo to Rome today.", "direction", "We fly from Rome to Oslo today."),
        ("I cannot do it.", "negation", "I can do it."),
        ("Your bag is here.", "negation", "Your bag is not here."),
        ("It is for Sophia only.", "name", "It is for Morgan only."),
    ],
)
def test_a_swap_changes_one_fact(text: str, what: str, other: str) -> None:
    assert dict(swaps(text))[what] == other


def test_facts_and_other_values() -> None:
    assert facts("Order 4,471 of ORD12 went to Anna, 3 times.") == {"4471", "ord12", "anna"}
    assert [other_text(text) for text in ("yes", "HAT271", "src/a.py", "Paris", "?")] == [
        "no",
        "HAT272",
        "src/a_2.py",
        "Paris_2",
        "?x",
    ]
