"""Sessions of OpenHands, Claude Code and Codex become what the model was shown and what it did.

The samples were written by the tools themselves (SOURCE.md in each folder). Run alone:
python -m pytest tests/test_readers_sessions.py
"""

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pivotrl.protocols import InputError
from pivotrl.readers import auto, claude_code, codex, openhands_completions, openhands_events, openhands_sdk
from pivotrl.records import Message, Refusal, Trajectory

DATA = Path(__file__).parent / "data" / "formats"
NATIVE = DATA / "openhands_completions" / "native"
TEXT = DATA / "openhands_completions" / "text"
TRAJECTORY = DATA / "openhands_events" / "native.json"
STORE = DATA / "openhands_events" / "store" / "demo" / "events"
CONVERSATION = DATA / "openhands_sdk" / "conversation"
REQUESTS = json.loads((DATA / "openhands_sdk" / "requests.json").read_text())
CLAUDE = DATA / "claude_code"
CODEX = DATA / "codex"
SAMPLES = {
    openhands_completions: [NATIVE, TEXT, max(NATIVE.iterdir())],
    openhands_events: [TRAJECTORY, STORE],
    openhands_sdk: [CONVERSATION],
    claude_code: sorted(CLAUDE.glob("*.jsonl")),
    codex: sorted(CODEX.glob("*.jsonl")),
}
EACH = [(module, path) for module, paths in SAMPLES.items() for path in paths]
Read = Callable[..., Iterator[Trajectory | Refusal]]


def read(module: Any, path: Path) -> list[Trajectory]:
    """Everything read, nothing refused."""
    found = list(module.read(path))
    assert not [item for item in found if isinstance(item, Refusal)]
    return found


def codes(trajectory: Trajectory) -> list[str]:
    return [loss.code for loss in trajectory.losses]


def roles(trajectory: Trajectory) -> str:
    return "".join(message.role[0] for message in trajectory.messages)


def gist(message: Message) -> tuple[Any, ...]:
    calls = [(call.id, call.name, call.arguments) for call in message.tool_calls]
    return message.role, message.content or "", calls, message.tool_call_id


def gists(trajectory: Trajectory) -> list[tuple[Any, ...]]:
    return [gist(message) for message in trajectory.messages]


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


# --- every reader -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("module", "path"), EACH, ids=lambda value: getattr(value, "stem", ""))
def test_a_sample_is_known_by_its_content_and_by_one_reader(module: Any, path: Path) -> None:
    assert auto.format_of(path) == module.__name__.rpartition(".")[2]


@pytest.mark.parametrize(("module", "path"), EACH, ids=lambda value: getattr(value, "stem", ""))
def test_reading_is_repeatable_and_places_are_right(module: Any, path: Path) -> None:
    found = [item for item in module.read(path) if isinstance(item, Trajectory)]
    assert found and found == [item for item in module.read(path) if isinstance(item, Trajectory)]
    assert len({trajectory.id for trajectory in found}) == len(found)
    assert len({trajectory.task_id for trajectory in found}) == 1  # one session stays on one side of a split
    for trajectory in found:
        assert all(trajectory.messages[index].role == "assistant" for index in trajectory.excluded)
        assert all(loss.message is None or loss.message < len(trajectory.messages) for loss in trajectory.losses)


@pytest.mark.parametrize("path", [path for _, path in EACH if path.suffix == ".jsonl"], ids=lambda path: path.stem)
def test_a_session_is_read_up_to_the_line_that_a_crash_cut(path: Path, tmp_path: Path) -> None:
    module = claude_code if path.parent == CLAUDE else codex
    lines = path.read_text().splitlines(keepends=True)
    cut = tmp_path / path.name
    cut.write_text("".join(lines[:-1]) + lines[-1][:40])
    *found, fault = module.read(cut)
    assert isinstance(fault, Refusal) and f"{cut}:{len(lines)} " in fault.place and "is not JSON" in fault.reason
    assert all(isinstance(item, Trajectory) for item in found) and len(found) == len(read(module, path))


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*place, key))


@pytest.mark.parametrize(
    ("module", "path"),
    [
        (openhands_completions, max(NATIVE.iterdir())),
        (openhands_events, TRAJECTORY),
        (openhands_sdk, CONVERSATION),
        (claude_code, CLAUDE / "compacted.jsonl"),
        (claude_code, CLAUDE / "requests.jsonl"),
        (codex, CODEX / "compacted.jsonl"),
        (codex, CODEX / "code_mode.jsonl"),
    ],
    ids=lambda value: getattr(value, "stem", ""),
)
def test_whatever_stands_in_a_log_is_read_or_refused(module: Any, path: Path, tmp_path: Path) -> None:
    if path == CONVERSATION:
        lines = [json.loads(file.read_text()) for file in sorted((path / "events").iterdir())]
    else:
        lines = lines_of(path) if path.suffix == ".jsonl" else json.loads(path.read_text())
    everywhere = [place for place in places(lines) if place]
    source = random.Random(0)
    for number in range(60):
        changed = copy.deepcopy(lines)
        *way, last = source.choice(everywhere)
        target = changed
        for key in way:
            target = target[key]
        target[last] = source.choice(
            [None, True, -1, 1.5, "", "x", [], {}, [None], ["x"], [[]], {"type": ["x"]}, {"type": "x"}]
        )
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps(changed) if isinstance(changed, dict) else "\n".join(map(json.dumps, changed)))
        assert module.recognises(changed if isinstance(changed, list) else [changed]) in (True, False)
        for item in module.read(file):
            assert isinstance(item, Trajectory | Refusal)


@pytest.mark.parametrize("module", SAMPLES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_other_things_are_not_claimed(module: Any, tmp_path: Path) -> None:
    heads = [
        [],
        [None],
        [[]],
        ["x"],
        [{}],
        [{"type": []}],
        [{"kind": {}}],
        [{"messages": [], "tools": []}],
        [{"history": 1}],
    ]
    assert not any(module.recognises(head) for head in heads)
    (tmp_path / "0.json").write_text("{}")
    (tmp_path / "base_state.json").write_text("{")
    assert not hasattr(module, "claims") or not any(
        map(module.claims, [tmp_path, tmp_path / "0.json", tmp_path / "no"])
    )
    with pytest.raises(InputError, match=r"no\.jsonl does not exist"):
        list(module.read(tmp_path / "no.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="/empty (contains no|is )"):
        list(module.read(tmp_path / "empty"))


# --- OpenHands, version 0 -----------------------------------------------------------------------------------------


def test_the_calls_of_one_run_are_one_trajectory() -> None:
    (run,) = read(openhands_completions, NATIVE)
    assert roles(run) == "suuattatuatata" and not run.excluded
    assert [tool.name for tool in run.tools] == ["execute_bash", "think", "finish", "str_replace_editor"]
    first = run.messages[3]
    assert [call.name for call in first.tool_calls] == ["str_replace_editor", "execute_bash"]
    assert first.tool_calls[1].arguments == '{"command":"ls /srv/demo", "security_risk": "LOW"}'  # as it was written
    assert first.reasoning == "The task names one file. I read it before I change it."  # only in its own log
    assert codes(run) == ["branch"]  # the call of run_tests was refused and is in no later request
    assert run.messages[-1].tool_calls[0].name == "finish"
    assert run.messages[:-1] == tuple(
        message.model_copy(update={"reasoning": first.reasoning}) if message.tool_calls == first.tool_calls else message
        for message in read(openhands_completions, max(NATIVE.iterdir()))[0].messages[:-1]
    )


def test_calls_written_as_text_are_tool_calls_and_a_condensed_run_goes_on_as_another_trajectory() -> None:
    before, own, after = openhands_completions.read(TEXT)
    assert isinstance(before, Trajectory) and isinstance(own, Refusal) and isinstance(after, Trajectory)
    assert "the harness itself" in own.reason and own.place.endswith("3390598.json")
    assert roles(before) == "suuatatata" and roles(after) == "suuatata"
    assert codes(before) == ["text_mode", "tools_not_logged"]
    assert codes(after) == ["compaction", "text_mode", "tools_not_logged"]
    assert before.messages[-1].tool_calls == after.messages[3].tool_calls  # learned from once
    assert (before.excluded, after.excluded) == ({}, {3: "context_only"})
    assert after.messages[2].content == "\n\nSUMMARY: hello.py was corrected."


@pytest.mark.parametrize(("events", "completions"), [(TRAJECTORY, NATIVE), (STORE, TEXT)], ids=["native", "condensed"])
def test_events_give_what_the_completion_logs_show_was_sent(events: Path, completions: Path) -> None:
    rebuilt = read(openhands_events, events)
    sent = [item for item in openhands_completions.read(completions) if isinstance(item, Trajectory)]
    assert len(rebuilt) == len(sent)
    for ours, theirs in zip(rebuilt, sent, strict=True):
        recalled = [loss.message for loss in ours.losses if loss.code == "context_not_logged"]
        pairs = zip(gists(ours)[: len(theirs.messages)], gists(theirs), strict=True)  # a last result was never sent
        assert [index for index, (one, other) in enumerate(pairs) if one != other] == recalled
        assert ours.excluded == theirs.excluded
    assert rebuilt[0].messages[3].reasoning == sent[0].messages[3].reasoning
    assert rebuilt[0].metadata["foreign"]["annotation_arguments"] == ["security_risk"]
    assert rebuilt[0].metadata["foreign"]["openhands_version"] == "0.62.0"


def test_an_evaluations_row_bears_the_instances_name(tmp_path: Path) -> None:
    history = json.loads(TRAJECTORY.read_text())
    rows = [
        {"instance_id": "astropy-1", "history": history, "test_result": {"resolved": True, "git_patch": "x" * 9999}},
        {},
    ]
    path = write(tmp_path / "output.jsonl", rows)
    assert auto.format_of(path) == "openhands_events"
    run, fault = openhands_events.read(path)
    assert isinstance(run, Trajectory) and (run.id, run.task_id) == ("astropy-1", "astropy-1")
    assert run.metadata["foreign"]["test_result"] == {"resolved": True}
    assert run.messages == read(openhands_events, TRAJECTORY)[0].messages
    assert isinstance(fault, Refusal) and "output.jsonl:2 " in fault.place and "history is missing" in fault.reason


# --- the OpenHands SDK --------------------------------------------------------------------------------------------


def sent_by_the_sdk() -> list[list[tuple[Any, ...]]]:
    def shown(row: dict[str, Any]) -> tuple[Any, ...]:
        calls = [(call["id"], call["name"], call["arguments"]) for call in row.get("tool_calls", ())]
        return row["role"], "\n".join(part["text"] for part in row["content"]), calls, row.get("tool_call_id")

    return [[shown(row) for row in request] for request in REQUESTS]


def test_each_turn_of_the_sdk_has_the_context_that_was_sent() -> None:
    trajectories = read(openhands_sdk, CONVERSATION)
    contexts = [
        gists(trajectory)[1:index]  # the recorded requests are without the system message
        for trajectory in trajectories
        for index, message in enumerate(trajectory.messages)
        if message.role == "assistant" and trajectory.excluded.get(index) != "context_only"
    ]
    assert contexts == sent_by_the_sdk()


def test_what_the_sdk_refused_and_condensed_is_told() -> None:
    before, after = read(openhands_sdk, CONVERSATION)
    assert roles(before) == "suattatatatatatu" and roles(after) == "suatuauata"
    first = before.messages[2]
    assert first.content == "I look at the file and at the folder." and len(first.tool_calls) == 2
    assert first.reasoning == "The task names one file. I read it before I change it."
    assert json.loads(first.tool_calls[1].arguments)["security_risk"] == "LOW"
    assert before.metadata["foreign"]["annotation_arguments"] == ["security_risk", "summary"]
    assert before.excluded == {7: "error_turn", 9: "error_turn"}  # an unknown tool, arguments that do not fit
    assert after.excluded == {2: "context_only"} and "SUMMARY" in (after.messages[1].content or "")
    assert codes(before) == ["tools_not_logged"] and codes(after) == ["compaction", "tools_not_logged"]


def test_the_same_events_as_lines_and_as_a_row(tmp_path: Path) -> None:
    events = [json.loads(file.read_text()) for file in sorted((CONVERSATION / "events").iterdir())]
    kept = [trajectory.messages for trajectory in read(openhands_sdk, CONVERSATION)]
    path = write(tmp_path / "events.jsonl", events)
    assert auto.format_of(path) == "openhands_sdk"
    assert [trajectory.messages for trajectory in read(openhands_sdk, path)] == kept
    path = write(tmp_path / "output.jsonl", [{"instance_id": "astropy-1", "history": events}])
    assert [(t.id, t.task_id) for t in read(openhands_sdk, path)] == [
        ("astropy-1", "astropy-1"),
        ("astropy-1-2", "astropy-1"),
    ]


def test_the_sdks_last_branch_is_followed_or_the_one_its_state_names(tmp_path: Path) -> None:
    events = [json.loads(file.read_text()) for file in sorted((CONVERSATION / "events").iterdir())]
    again = {**events[2], "id": "00000000-0000", "llm_response_id": "again", "parent_id": events[1]["id"]}
    (branch,) = read(openhands_sdk, write(tmp_path / "events.jsonl", [*events, again]))
    assert roles(branch) == "sua"
    assert [loss.detail for loss in branch.losses if loss.code == "branch"] == ["21 events"]
    shutil.copytree(CONVERSATION, tmp_path / "kept")
    (tmp_path / "kept" / "events" / "event-00023-00000000-0000.json").write_text(json.dumps(again))
    assert [roles(t) for t in read(openhands_sdk, tmp_path / "kept")] == ["suattatatatatatu", "suatuauata"]


# --- Claude Code --------------------------------------------------------------------------------------------------


def test_blocks_of_one_answer_are_one_turn_and_the_last_branch_is_followed() -> None:
    (session,) = read(claude_code, CLAUDE / "branch.jsonl")
    assert roles(session) == "uattatatataua"
    first = session.messages[1]
    assert (first.content, first.reasoning) == (
        "I look at the file and at the folder.",
        "The task names one file. I read it before I change it.",
    )
    assert [(call.id, call.name) for call in first.tool_calls] == [("toolu_00", "Read"), ("toolu_01", "Bash")]
    assert [message.tool_call_id for message in session.messages[2:4]] == ["toolu_00", "toolu_01"]
    assert session.messages[3].content == "dot.png\nhello.py"
    assert session.excluded == {6: "error_turn", 8: "error_turn"}  # no such tool; a wrong parameter
    assert session.messages[-2].content == "What does it do?"
    told = {loss.code: loss.detail for loss in session.losses}
    assert told["subagent"] == "4 lines of sub-agents" and told["branch"] == "2 answers on other branches"
    assert [loss.message for loss in session.losses if loss.code == "reasoning_encrypted"] == [4]
    assert session.metadata["foreign"] == {"model": "claude-sonnet-4-5", "version": "2.0.14"}


def test_a_compacted_session_goes_on_from_its_summary() -> None:
    before, after = read(claude_code, CLAUDE / "compacted.jsonl")
    assert before.excluded[14] == "error_turn" and "API Error: 400" in (before.messages[14].content or "")
    assert roles(after) == "uauatauata"
    told = (after.messages[0].content or "").splitlines()
    assert told[0].startswith("This session is being continued") and "hello.py was corrected." in "\n".join(told)
    assert any(line.startswith("Caveat:") for line in told)  # hidden from the screen, not from the model
    assert after.excluded == {1: "synthetic"} and after.messages[1].content == "No response requested."
    assert after.messages[3].tool_calls[0].arguments.startswith('{"command": "head -1')
    assert [loss.message for loss in after.losses if loss.code == "image"] == [8]
    assert "compaction" in codes(after) and "compaction" not in codes(before)


def test_logged_requests_give_system_message_tools_and_every_reminder() -> None:
    (session,) = read(claude_code, CLAUDE / "requests.jsonl")
    assert session.messages[0].content == (
        "You are a Claude agent, built on Anthropic's Claude Agent SDK.\nYou are a coding agent."
    )
    assert [tool.name for tool in session.tools] == [
        "mcp__demo__list_folder",
        "mcp__demo__read_file",
        "mcp__demo__replace",
    ]
    assert session.tools[1].parameters["required"] == ["path"]
    assert roles(session) == "suattatatauata"
    opening = session.messages[1].content or ""
    assert opening.startswith("<system-reminder>\n# Environment") and opening.endswith(
        "Correct the spelling in hello.py"
    )
    assert "tokens left" in (session.messages[4].content or "")  # added to a result, and nowhere in the tree
    assert session.excluded == {7: "error_turn"} and codes(session) == ["reasoning_encrypted"]


def test_without_its_requests_the_same_session_tells_the_same_turns(tmp_path: Path) -> None:
    lines = lines_of(CLAUDE / "requests.jsonl")
    bare = [line for line in lines if not line["type"].startswith("api-request")]
    (asked,) = read(claude_code, CLAUDE / "requests.jsonl")
    (walked,) = read(claude_code, write(tmp_path / "bare.jsonl", bare))
    turns = [[m for m in session.messages if m.role == "assistant"] for session in (asked, walked)]
    assert turns[0] == turns[1] and asked.task_id == walked.task_id
    # Parallel calls fork this tree: the result of the first lies beside the chain.
    assert [message.tool_call_id for message in walked.messages[2:4]] == ["toolu_00", "toolu_01"]
    assert {"tools_not_logged", "context_not_logged"} <= set(codes(walked)) and not walked.tools


def test_a_sub_agents_own_file_has_no_candidates(tmp_path: Path) -> None:
    lines = [line for line in lines_of(CLAUDE / "branch.jsonl") if line.get("isSidechain")]
    (session,) = read(claude_code, write(tmp_path / "agent.jsonl", lines))
    assert roles(session) == "uata" and session.excluded == {1: "subagent_turn", 3: "subagent_turn"}
    assert session.messages[0].content == "Count the lines of /srv/demo/hello.py"


# --- Codex --------------------------------------------------------------------------------------------------------


def test_a_rollout_is_cut_where_it_was_compacted() -> None:
    before, after = read(codex, CODEX / "compacted.jsonl")
    assert roles(before) == "ssuuattatatata" and roles(after) == "ssuuuuatauataua"
    first = before.messages[4]
    assert first.content == "I look at the file first."
    assert [call.arguments for call in first.tool_calls] == ['{"cmd": "cat hello.py"}', '{"cmd":"ls"}']
    patch = before.messages[7].tool_calls[0]
    assert patch.name == "apply_patch" and json.loads(patch.arguments)["input"].startswith("*** Begin Patch\n")
    assert before.excluded == {9: "error_turn", 11: "error_turn"}  # an unknown tool; arguments that are not JSON
    assert [loss.message for loss in before.losses if loss.code == "reasoning_encrypted"] == [4, 7]
    assert (
        before.metadata["foreign"]["model"] == "gpt-5.5" and before.messages[-1].content == "hello.py says Hello now."
    )
    assert after.messages[0] == before.messages[0]  # base_instructions
    assert "Summary: hello.py was corrected." in (after.messages[4].content or "")
    assert [(loss.code, loss.message) for loss in after.losses] == [
        ("compaction", None),
        ("image", 11),
        ("unknown_item", 14),  # a web search, whose results are nowhere
        ("tools_not_logged", None),
    ]
    assert after.excluded == {14: "context_incomplete"} and not after.excluded.keys() & {6, 8, 10}


def test_parallel_calls_are_one_turn_also_where_the_log_mixes_them_with_results() -> None:
    kinds = [line["payload"].get("type") for line in lines_of(CODEX / "old.jsonl") if line["type"] == "response_item"]
    assert kinds[4:8] == ["function_call", "function_call_output"] * 2
    before, after = read(codex, CODEX / "old.jsonl")
    assert roles(before) == "uuattatatauat"
    assert [call.id for call in before.messages[2].tool_calls] == ["call_0", "call_1"]
    assert [message.tool_call_id for message in before.messages[3:5]] == ["call_0", "call_1"]
    assert [call.name for call in before.messages[5].tool_calls] == ["local_shell"]
    assert after.messages[0].content == "Summary: hello.py defines greet."
    assert after.excluded == {1: "after_compaction", 3: "after_compaction"}  # this version logs only the summary


def test_tools_in_the_input_are_the_tools_and_the_instructions_are_said_once() -> None:
    (session,) = read(codex, CODEX / "code_mode.jsonl")
    assert [tool.name for tool in session.tools][:4] == [
        "exec",
        "wait",
        "request_user_input",
        "collaboration.followup_task",
    ]
    assert [message.role for message in session.messages[:6]] == ["system"] * 4 + ["user"] * 2
    assert len({message.content for message in session.messages[:4]}) == 4
    assert [message.tool_calls[0].name for message in (session.messages[6], session.messages[8])] == ["exec", "exec"]
    assert session.messages[7].content == "Script completed\nWall time 0.1 seconds\nOutput:\n\n2 hello.py\n"
    assert not session.excluded


def test_a_fork_does_not_show_what_came_before() -> None:
    (session,) = read(codex, CODEX / "fork.jsonl")
    assert roles(session) == "sua" and session.excluded == {2: "context_incomplete"}
    assert codes(session) == ["input_not_logged", "tools_not_logged"]
    assert session.metadata["foreign"]["forked_from_id"] == read(codex, CODEX / "compacted.jsonl")[0].id
