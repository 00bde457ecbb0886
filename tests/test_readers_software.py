"""Readers of agents that write software and use terminals, on files that the agents' own programs wrote."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pivotrl.readers.auto import format_of
from pivotrl.reading.audit import audit
from pivotrl.records import Refusal, Trajectory

FORMATS = Path(__file__).parent / "data" / "formats"
READERS = ("swe_agent", "mini_swe_agent", "atif", "terminus", "terminal_bench", "harbor_export")


def reader(name: str) -> Any:
    return importlib.import_module(f"pivotrl.readers.{name}")


def items(name: str, path: str | Path, **options: Any) -> list[Trajectory | Refusal]:
    return list(reader(name).read(FORMATS / name / path, **options))


def trajectories(name: str, path: str | Path, **options: Any) -> list[Trajectory]:
    found = items(name, path, **options)
    assert all(isinstance(item, Trajectory) for item in found), found
    return [item for item in found if isinstance(item, Trajectory)]


def one(name: str, path: str | Path, **options: Any) -> Trajectory:
    (found,) = trajectories(name, path, **options)
    return found


def losses(trajectory: Trajectory) -> list[tuple[str, int | None]]:
    return [(loss.code, loss.message) for loss in trajectory.losses]


def roles(trajectory: Trajectory) -> str:
    return "".join(message.role[0] for message in trajectory.messages)


def candidates(trajectory: Trajectory) -> list[int]:
    audited = audit(trajectory)
    turns = [index for index, message in enumerate(audited.messages) if message.role == "assistant"]
    return [turn for turn in turns if turn not in audited.excluded]


def json_file(directory: Path, name: str, value: Any) -> Path:
    path = directory / name
    path.write_text(json.dumps(value, indent=2))
    return path


def load(name: str, path: str) -> Any:
    return json.loads((FORMATS / name / path).read_text())


# --- all of them --------------------------------------------------------------------------------------------------


def samples() -> Iterator[tuple[str, Path]]:
    for name in READERS:
        if name == "terminal_bench":
            yield from ((name, path) for path in sorted((FORMATS / name).glob("*/*")))
        elif name != "harbor_export":
            yield from ((name, p) for p in sorted((FORMATS / name).iterdir()) if p.name != "SOURCE.md")


@pytest.mark.parametrize(("name", "path"), list(samples()), ids=lambda value: getattr(value, "name", value))
def test_a_sample_is_known_by_its_content_and_read_the_same_twice(name: str, path: Path) -> None:
    assert format_of(path) == name
    first, second = trajectories(name, path), trajectories(name, path)
    assert first and first == second
    for trajectory in first:
        assert all(trajectory.messages[index].role == "assistant" for index in trajectory.excluded)
        assert all(loss.message is None or loss.message < len(trajectory.messages) for loss in trajectory.losses)


STRANGE: list[Any] = [
    *(None, 7, "text", [], {}, [[]], {"messages": 3}, {"history": 3}, {"history": [None, {"role": 1}]}),
    *({"trajectory_format": ["x"]}, {"trajectory_format": 1}, {"schema_version": 1, "steps": []}),
    *({"schema_version": "ATIF-v1.8", "steps": [], "agent": 3}, {"schema_version": "ATIF-v1.8", "steps": {}}),
    *({"conversations": [], "agent": []}, {"attempts": [3]}, {"role": "user"}, {"role": [], "content": None}),
]


@pytest.mark.parametrize("name", [name for name in READERS if name != "terminal_bench"])
def test_recognising_never_fails(name: str) -> None:
    for value in STRANGE:
        assert reader(name).recognises([value]) in (True, False)
    assert not reader(name).recognises([])
    assert not reader(name).recognises([{"messages": [{"role": "user", "content": "hi"}]}])


# --- SWE-agent ----------------------------------------------------------------------------------------------------


def test_swe_agent_calls_functions() -> None:
    run = one("swe_agent", "marshmallow-1867_function_calling.traj")
    assert roles(run) == "su" + "at" * 11
    assert (run.task_id, run.reward, run.tools) == ("marshmallow-code__marshmallow-1867", None, ())
    task, first, answer, second = run.messages[1:5]
    assert (task.content or "").startswith("We're currently solving the following issue within our repository.")
    assert (first.content or "").startswith("Let's first start by reproducing the results of the issue.")
    (call,) = first.tool_calls
    assert (call.name, call.arguments) == ("create", '{"filename":"reproduce.py"}')
    assert answer.tool_call_id == call.id == "call_cyI71DYnRdoLHWwtZgIaW2wr"
    assert second.tool_calls[0].arguments.startswith('{ "replacement_text": "from marsh')  # the spaces of the log
    assert losses(run) == [("tools_not_logged", None), ("history_elided", None)]
    assert run.losses[1].detail == "by last_n_observations"
    foreign = run.metadata["foreign"]
    assert foreign["exit_status"] == "submitted" and "+        return int(round(" in foreign["submission"]
    assert candidates(run) == list(range(2, 24, 2))


def test_swe_agent_writes_its_actions_between_backticks() -> None:
    run = one("swe_agent", "marshmallow-1867_text.traj")
    assert roles(run) == "su" + "au" * 13 + "a"
    text = run.messages[10].content or ""
    assert text.startswith("Now let's paste in the example code from the issue.\n```\nedit 1:1\nfrom marshmallow")
    assert text.endswith("\nend_of_edit\n```")
    assert not any(message.tool_calls for message in run.messages)
    assert losses(run) == [("text_mode", None)]


def test_swe_agent_writes_its_actions_in_tags() -> None:
    run = one("swe_agent", "hello__xml.traj")
    assert (run.id, run.task_id) == ("hello__xml", "hello__xml")
    assert roles(run) == "su" + "auauaua"
    assert run.messages[2].content == "Let me look at the file.\n<command>\ncat hello.py\n</command>"
    # The model first forgot the tags; SWE-agent asks again and keeps only the second answer.
    assert run.messages[4].content == (
        "Now with tags: I mend it.\n<command>\nsed -i 's/world/world!/' hello.py\n</command>"
    )


def test_turns_of_a_demonstration_are_no_candidates() -> None:
    run = one("swe_agent", "hello__demo.traj")
    assert run.excluded == dict.fromkeys((2, 4, 6, 8), "copied_context")
    assert candidates(run) == [10, 12]
    assert (run.messages[9].content or "").startswith("We're solving this issue:")
    told = one("swe_agent", "hello__demo_text.traj")  # the same demonstration as one message of the user
    assert roles(told) == "suuaua" and candidates(told) == [3, 5]


@pytest.mark.parametrize(
    ("name", "reason", "text"),
    [("hello__cost", "synthetic", "Exit due to cost limit"), ("hello__format", "unparsable_action", "x")],
)
def test_swe_agent_leaves_words_of_its_own(name: str, reason: str, text: str) -> None:
    run = one("swe_agent", f"{name}.traj")
    assert run.messages[4].content == text
    assert run.excluded == {4: reason} and candidates(run) == [2]


def test_the_messages_of_a_helping_agent_are_left_out() -> None:
    run = one("swe_agent", "hello__sub.traj")
    assert roles(run) == "suauaua"
    assert (run.messages[3].content or "").startswith("I know.\n```\nanswer")  # what the helper said comes back
    assert [(loss.code, loss.detail) for loss in run.losses][1:] == [("subagent", "5 messages of ask_helper left out")]


def test_queries_tell_what_the_model_saw_otherwise(tmp_path: Path) -> None:
    """SWE-agent 1.x logs the messages of every query beside the step."""
    row = load("swe_agent", "marshmallow-1867_function_calling.traj")
    del row["replay_config"]
    shown = row["history"][:4]
    row["trajectory"][0]["query"] = shown[:2]
    row["trajectory"][1]["query"] = [*shown, {"role": "assistant", "content": "x"}, {"role": "user", "content": "?"}]
    elided = [{**entry, "content": "Old environment output: (2 lines omitted)"} for entry in row["history"][3:4]]
    row["trajectory"][2]["query"] = [*row["history"][:3], *elided, *row["history"][4:6]]
    run = one("swe_agent", json_file(tmp_path, "x.traj", row))
    assert run.excluded == {4: "context_incomplete"}  # it answers a complaint that the history does not hold
    assert ("history_elided", 6) in losses(run)


def test_an_agent_that_tries_again_has_a_trajectory_for_each_attempt(tmp_path: Path) -> None:
    attempts = [load("swe_agent", f"hello__{name}.traj") for name in ("cost", "xml")]
    path = json_file(tmp_path, "hello__retry.traj", {"attempts": attempts, **attempts[1]})
    assert format_of(path) == "swe_agent"
    runs = trajectories("swe_agent", path)
    assert [(run.id, run.task_id, len(run.messages)) for run in runs] == [
        ("hello__retry-attempt-0", "hello__retry", 5),
        ("hello__retry-attempt-1", "hello__retry", 9),
    ]


def test_thoughts_of_anthropic_models_are_reasoning(tmp_path: Path) -> None:
    row = load("swe_agent", "function_calling_simple.traj")
    row["history"][2]["thinking_blocks"] = [{"type": "thinking", "thinking": "A colon is missing.", "signature": "s"}]
    row["history"][4]["thinking_blocks"] = [{"type": "redacted_thinking", "data": "sealed"}]
    run = one("swe_agent", json_file(tmp_path, "x.traj", row))
    assert (run.messages[2].reasoning, run.messages[4].reasoning) == ("A colon is missing.", None)
    assert ("reasoning_encrypted", 4) in losses(run)


# --- mini-swe-agent -----------------------------------------------------------------------------------------------


def test_mini_swe_agent_calls_its_tool() -> None:
    run = one("mini_swe_agent", "tool.traj.json")
    assert roles(run) == "su" + "att" + "u" + "at" + "at" + "a"  # the closing entry of role exit is gone
    first, *results = run.messages[2:5]
    assert (first.content, first.reasoning) == ("Let me look at the file and run it.", "First see what is there.")
    assert [call.id for call in first.tool_calls] == [result.tool_call_id for result in results]
    assert results[1].content == '{\n  "returncode": 0,\n  "output": "hello world\\n"\n}'
    assert run.messages[6].tool_calls[0].arguments == '{"command":  "sed -i \'s/world/world!/\' hello.py"}'
    assert run.tools == () and ("tools_not_logged", None) in losses(run)
    assert run.excluded == {8: "truncated"}  # finish_reason length
    assert run.metadata["foreign"]["exit_status"] == "Submitted"
    assert run.metadata["foreign"]["submission"] == 'print("hello world!")\n'


def test_an_answer_that_was_refused_is_not_in_the_conversation() -> None:
    """Version 2 never shows it to the model again, so it would be a context that no turn had."""
    run = one("mini_swe_agent", "tool.traj.json")
    assert (run.messages[5].content or "").startswith("Tool call error:")
    assert not any("I will do it now" in (message.content or "") for message in run.messages)
    assert ("rejected_answer", 5) in losses(run)
    assert candidates(run) == [2, 6, 10]


def test_version_1_keeps_the_refused_answer() -> None:
    run = one("mini_swe_agent", "v1.traj.json")
    assert "ls\n```\n\n```bash\npwd" in (run.messages[4].content or "")
    assert run.excluded == {4: "error_turn"} and candidates(run) == [2, 6, 8]
    assert losses(run) == [("text_mode", None)]


def test_mini_swe_agent_writes_commands_as_text() -> None:
    run = one("mini_swe_agent", "text.traj.json")
    assert roles(run) == "suauuaua"
    assert run.messages[2].content == "THOUGHT: Look at the file.\n\n```mswea_bash_command\ncat hello.py\n```"
    assert losses(run) == [("rejected_answer", 4), ("text_mode", None)]
    assert candidates(run) == [2, 5, 7]


def test_mini_swe_agent_uses_the_responses_api() -> None:
    run = one("mini_swe_agent", "responses.traj.json")
    assert roles(run) == "su" + "att" + "u" + "at" + "a"
    first = run.messages[2]
    assert (first.content, first.reasoning) == ("Let me look.", "See the file first.")
    assert [(call.id, call.arguments) for call in first.tool_calls] == [
        ("c_1", '{"command": "cat hello.py"}'),
        ("c_2", '{"command": "ls"}'),
    ]
    assert [message.tool_call_id for message in run.messages[3:5]] == ["c_1", "c_2"]
    (tool,) = run.tools  # the response repeats the request's tools
    assert tool.name == "bash" and tool.parameters["required"] == ["command"]
    assert losses(run) == [("rejected_answer", 5), ("reasoning_encrypted", 6)]


def test_a_run_that_reaches_its_limit_ends_with_its_last_result() -> None:
    run = one("mini_swe_agent", "limit.traj.json")
    assert roles(run) == "suat" and run.metadata["foreign"]["exit_status"] == "LimitsExceeded"


def test_a_bare_list_of_messages_is_one_run() -> None:
    run = one("mini_swe_agent", "github_issue.traj.json")
    assert run.id == "github_issue" and roles(run) == "su" + "au" * 10
    assert (run.messages[-2].content or "").endswith("&& git add -A && git diff --cached\n```")


def test_the_instance_is_the_task(tmp_path: Path) -> None:
    row = load("mini_swe_agent", "text.traj.json") | {"instance_id": "django__django-11099"}
    assert one("mini_swe_agent", json_file(tmp_path, "x.traj.json", row)).task_id == "django__django-11099"


def test_a_turn_that_the_user_rejected_is_no_candidate(tmp_path: Path) -> None:
    row = load("mini_swe_agent", "tool.traj.json")
    rejection = {"role": "user", "content": "Commands not executed.", "extra": {"interrupt_type": "UserRejection"}}
    row["messages"].insert(5, rejection)
    assert one("mini_swe_agent", json_file(tmp_path, "x.traj.json", row)).excluded[2] == "error_turn"


# --- ATIF ---------------------------------------------------------------------------------------------------------


def test_every_version_of_atif_is_read() -> None:
    runs = trajectories("atif", "versions.jsonl")
    assert [run.metadata["foreign"]["schema_version"] for run in runs] == [f"ATIF-v1.{minor}" for minor in range(9)]
    assert {roles(run) for run in runs} == {"suata"}
    assert {run.messages[3].content for run in runs} == {"Rain"}  # text, or from 1.6 on a list of parts
    assert [bool(run.tools) for run in runs] == [False] * 5 + [True] * 4  # tool_definitions came with 1.5
    assert len({run.task_id for run in runs}) == 1


def test_a_trajectory_of_atif() -> None:
    run = one("atif", "delegating.json")
    assert run.id == "main-7" and roles(run) == "suauatattaa"
    assert [tool.name for tool in run.tools] == ["get_weather", "delegate"]
    asking, parallel = run.messages[4], run.messages[6]
    assert (asking.content, asking.reasoning) == ("I ask first.", "The capital is not named.")
    assert asking.tool_calls[0].arguments == '{"question": "What is the capital of France?"}'
    assert (parallel.content, [call.id for call in parallel.tool_calls]) == (None, ["c2", "c3"])
    results = [(message.tool_call_id, message.content) for message in run.messages[7:9]]
    assert results == [("c3", "Snow, -3 °C"), ("c2", "Sun, 20 °C")]
    assert run.excluded == {2: "copied_context", 9: "synthetic"}  # is_copied_context; llm_call_count 0
    assert candidates(run) == [4, 6, 10]
    assert losses(run) == [("subagent", 5), ("subagent", None)]


def test_sub_agents_are_read_when_asked_for() -> None:
    main, helper = trajectories("atif", "delegating.json", subagents=True)
    assert (helper.id, roles(helper), helper.reward) == ("helper-1", "ua", None)
    assert losses(main) == [("subagent", 5)]


def test_a_step_of_several_answers_is_no_single_decision(tmp_path: Path) -> None:
    row = load("atif", "delegating.json")
    row["steps"][4]["llm_call_count"] = 3
    run = one("atif", json_file(tmp_path, "x.json", row))
    assert run.excluded[4] == "merged_turn" and ("merged_turn", 4) in losses(run)


def test_images_and_sounds_of_atif_are_lost_and_told() -> None:
    run = one("atif", "multimodal.json")
    assert losses(run) == [("image", 0), ("image", 2), ("audio", 3)]
    assert [message.content for message in run.messages[:3]] == ["Which button is red?", "I look closer.", "zoomed"]
    assert candidates(run) == []


def test_results_without_an_id_answer_in_order_and_the_rest_is_the_users() -> None:
    """Harbor's converter of mini-swe-agent leaves the ids out, and puts complaints among the results."""
    run = one("atif", "from_mini_tool.json")
    original = one("mini_swe_agent", "tool.traj.json")
    assert roles(run) == roles(original)
    assert [m.tool_call_id for m in run.messages] == [m.tool_call_id for m in original.messages]
    assert [m.content for m in run.messages] == [m.content for m in original.messages]


def test_an_answer_written_a_second_time_is_no_thought() -> None:
    run = one("atif", "from_mini_text.json")
    assert (run.messages[2].content or "").startswith("THOUGHT: Look at the file.")
    assert all(message.reasoning is None for message in run.messages)


def test_what_harbor_makes_of_swe_agent_is_not_what_the_model_wrote() -> None:
    run = one("atif", "from_swe_agent.json")
    assert run.messages[0].tool_calls[0].name == "swe_agent_action"
    assert set(run.excluded.values()) == {"synthetic"} and candidates(run) == []
    assert losses(run) == [("arguments_not_logged", None)]


def trial(directory: Path, *, step: str | None = None, **changes: Any) -> Path:
    """A Harbor trial of mini-swe-agent, with the result of one that Harbor ran."""
    place = directory / "steps" / step if step else directory
    (place / "agent").mkdir(parents=True)
    shutil.copy(FORMATS / "atif" / "from_mini_tool.json", place / "agent" / "trajectory.json")
    result = load("terminus", "hello-file__parsed/result.json") | changes
    json_file(directory, "result.json", result)
    return place


def test_the_reward_is_that_of_the_trial(tmp_path: Path) -> None:
    place = trial(tmp_path / "a")
    assert format_of(place) == "atif"
    for path in (place, place / "agent" / "trajectory.json"):
        run = one("atif", path)
        assert (run.reward, run.task_id) == (1.0, "example/hello-file")
        assert run.metadata["foreign"]["trial_name"] == "hello-file__parsed"


@pytest.mark.parametrize(
    ("changes", "reward"),
    [
        ({"verifier_result": {"rewards": {"reward": 0}}}, 0.0),
        ({"verifier_result": {"rewards": {"tests": 0.25}}}, 0.25),
        ({"verifier_result": {"rewards": {"style": 1.0, "tests": 0.0}}}, None),
        ({"verifier_result": None}, None),
        ({"exception_info": {"exception_type": "AgentTimeoutError"}}, 1.0),
        ({"exception_info": {"exception_type": "APIConnectionError"}}, None),
    ],
)
def test_an_outcome_that_is_not_the_agents_is_no_reward(
    tmp_path: Path, changes: dict[str, Any], reward: float | None
) -> None:
    assert one("atif", trial(tmp_path / "a", **changes)).reward == reward


def test_a_step_of_a_trial_has_its_own_reward(tmp_path: Path) -> None:
    results = [{"step_name": name, "verifier_result": {"rewards": {"reward": r}}} for name, r in (("a", 1), ("b", 0))]
    place = trial(tmp_path / "t", step="b", step_results=results)
    assert format_of(place) == "atif" and one("atif", place).reward == 0.0


# --- Terminus -----------------------------------------------------------------------------------------------------

PLAN = """{
  "analysis": "The screen is empty.",
  "plan": "Write the file.",
  "commands": [
    {
      "keystrokes": "echo 'Hello, world!' > hello.txt\\n",
      "duration": 0.5
    }
  ]
}"""
"""What the model answered first; Harbor files it as "Analysis: ..." and a call of bash_command."""


def test_a_plan_of_terminus_is_put_together_again() -> None:
    run = one("terminus", "hello-file__parsed")
    raw = one("terminus", "hello-file__raw")
    assert run.messages[1].content == raw.messages[1].content == PLAN
    assert run.messages[1].reasoning == "A short task."
    assert json.loads(run.messages[5].content or "")["commands"][1] == {"keystrokes": "ls\n", "duration": 0.5}
    assert json.loads(run.messages[7].content or "") == {
        "analysis": "It is right.",
        "plan": "Finish.",
        "commands": [],
        "task_complete": True,
    }
    assert roles(run) == "uauauauauau" and not any(message.tool_calls for message in run.messages)
    assert losses(run) == [("text_mode", None), ("action_rebuilt", None)]
    assert losses(raw) == [("text_mode", None)]


def test_an_answer_that_terminus_could_not_parse_is_kept_as_it_was() -> None:
    run = one("terminus", "hello-file__parsed")
    assert run.messages[3].content == "Now I look at it."
    assert run.excluded == {3: "unparsable_action"} and candidates(run) == [1, 5, 7, 9]


def test_a_plan_in_xml_stays_xml() -> None:
    first, second = [m.content for m in one("terminus", "hello-file__xml").messages if m.role == "assistant"][:2]
    logged = FORMATS / "terminal_bench" / "hello-xml" / "hello-xml.1-of-1.run" / "agent-logs"
    assert first == (logged / "episode-0" / "response.txt").read_text()  # the same script, run by another program
    assert second == (logged / "episode-1" / "response.txt").read_text()


@pytest.mark.parametrize(("name", "reward"), [("parsed", 1.0), ("failed", 0.0)])
def test_the_verifier_of_the_trial_judges_terminus(name: str, reward: float) -> None:
    run = one("terminus", f"hello-file__{name}")
    assert (run.reward, run.task_id) == (reward, "example/hello-file")


def test_after_a_summary_the_context_of_terminus_is_another() -> None:
    run = one("terminus", "hello-file__summary")
    assert not any("Performed context summarization" in (m.content or "") for m in run.messages)
    assert run.excluded == dict.fromkeys((6, 8, 10), "after_compaction") and candidates(run) == [1, 3]
    assert ("compaction", 5) in losses(run) and ("subagent", 5) in losses(run)


def test_with_linear_history_each_context_is_a_trajectory() -> None:
    first, second = trajectories("terminus", "hello-file__linear")
    assert (roles(first), candidates(first)) == ("uauau", [1, 3])
    assert (roles(second), second.excluded) == ("uuauauauau", {2: "copied_context"})
    assert second.messages[2].content == "1. Is the file there?"
    assert candidates(second) == [4, 6, 8]
    assert first.reward == second.reward == 1.0


def test_the_writers_of_summaries_are_sub_agents() -> None:
    path = FORMATS / "terminus" / "hello-file__linear" / "agent" / "trajectory.summarization-1-answers.json"
    run = one("terminus", path)
    assert run.reward is None and candidates(run) == []
    assert run.excluded[max(run.excluded)] == "subagent_turn"
    assert len(candidates(one("terminus", path, subagents=True))) == 1


# --- folders of episodes ------------------------------------------------------------------------------------------


def episodes(name: str) -> Path:
    return FORMATS / "terminal_bench" / name / f"{name}.1-of-1.run"


def without_calls(name: str, directory: Path) -> Path:
    """The same trial as it is when the provider's calls were not logged."""
    return Path(shutil.copytree(episodes(name), directory / name, ignore=shutil.ignore_patterns("debug.json")))


def test_episodes_are_prompts_and_answers(tmp_path: Path) -> None:
    run = one("terminal_bench", episodes("hello-json"))
    assert (run.id, run.task_id, run.reward) == ("hello-json.1-of-1.run", "hello-json", 1.0)
    assert roles(run) == "uauauauaua"
    logs = episodes("hello-json") / "agent-logs"
    for number in range(5):
        folder = logs / f"episode-{number}"
        assert run.messages[2 * number].content == (folder / "prompt.txt").read_text()
        assert run.messages[2 * number + 1].content == (folder / "response.txt").read_text()
    assert run.excluded == {3: "unparsable_action"}
    assert losses(run) == [("text_mode", None)]
    assert one("terminal_bench", without_calls("hello-json", tmp_path)).messages == run.messages
    assert one("terminal_bench", logs).messages == run.messages


def test_an_answer_that_was_cut_is_in_the_context_but_no_candidate() -> None:
    run = one("terminal_bench", episodes("hello-cut"))
    assert roles(run) == "uauuauaua" and run.excluded == {1: "truncated"}
    assert (run.messages[2].content or "").startswith("ERROR!! NONE of the actions you just requested")
    assert run.messages[2] == run.messages[3]  # Terminus of this version says it twice
    assert run.reward is None  # is_resolved is null


def test_after_a_summary_a_new_trajectory_begins() -> None:
    first, second = trajectories("terminal_bench", episodes("hello-summary"))
    assert (roles(first), candidates(first)) == ("uaua", [1, 3])
    assert second.id == "hello-summary.1-of-1.run-part-2" and second.task_id == first.task_id
    assert (roles(second), second.excluded) == ("uuauauaua", {2: "copied_context"})
    assert second.messages[0] == first.messages[0]
    assert second.messages[2].content == "1. Is the file there?"
    assert ("compaction", None) in losses(first) and ("compaction", None) in losses(second)


def test_without_the_calls_the_turns_after_a_summary_are_excluded(tmp_path: Path) -> None:
    run = one("terminal_bench", without_calls("hello-summary", tmp_path))
    assert run.excluded == dict.fromkeys((5, 7, 9), "after_compaction")
    assert ("compaction", 4) in losses(run)


def test_answers_of_terminus_1_are_as_the_model_wrote_them() -> None:
    run = one("terminal_bench", episodes("hello-terminus1"))
    stored = (episodes("hello-terminus1") / "agent-logs" / "episode-0" / "response.json").read_text()
    text = run.messages[1].content or ""
    assert "\n" in stored and "\n" not in text and json.loads(stored) == json.loads(text)
    assert "\n" not in (run.messages[3].content or "")


@pytest.mark.parametrize(
    ("change", "reward"),
    [
        ({"is_resolved": False, "failure_mode": "unset"}, None),
        ({"is_resolved": False, "failure_mode": "agent_timeout"}, 0.0),
        ({"is_resolved": False, "failure_mode": "unknown_agent_error"}, None),
        ({"is_resolved": True, "failure_mode": "unset"}, 1.0),
    ],
)
def test_only_a_judged_trial_has_a_reward(tmp_path: Path, change: dict[str, Any], reward: float | None) -> None:
    place = without_calls("hello-json", tmp_path)
    json_file(place, "results.json", json.loads((place / "results.json").read_text()) | change)
    assert one("terminal_bench", place).reward == reward


def test_folders_of_another_agent_of_harbor_are_not_claimed(tmp_path: Path) -> None:
    shutil.copytree(episodes("hello-json") / "agent-logs", tmp_path / "agent")
    assert format_of(tmp_path) == "terminal_bench"
    shutil.copy(FORMATS / "atif" / "delegating.json", tmp_path / "agent" / "trajectory.json")
    assert format_of(tmp_path) == "atif"


def test_folders_of_harbors_terminus_have_the_trials_reward(tmp_path: Path) -> None:
    """The first versions of Harbor wrote folders and trajectory; the folders hold the text."""
    shutil.copytree(FORMATS / "terminus" / "hello-file__failed", tmp_path / "trial")
    shutil.copytree(episodes("hello-json") / "agent-logs", tmp_path / "trial" / "agent", dirs_exist_ok=True)
    assert format_of(tmp_path / "trial") == "terminal_bench"
    run = one("terminal_bench", tmp_path / "trial")
    assert (run.id, run.reward, run.task_id) == ("hello-file__failed", 0.0, "example/hello-file")
    assert (run.messages[1].content or "").startswith('{\n  "analysis"')


# --- rows that Harbor exports -------------------------------------------------------------------------------------


def rows(name: str) -> dict[str, Trajectory]:
    return {run.id: run for run in trajectories("harbor_export", name)}


def test_each_answer_of_a_trial_is_a_candidate_in_its_row() -> None:
    found = rows("all.jsonl")
    assert len(found) == 29
    for number in range(3):
        run = found[f"hello-file__raw-episode-{number}"]
        assert roles(run) == "ua" * (number + 1) and run.excluded == {}
        assert (run.reward, run.task_id) == (1.0, "example/hello-file")
    assert found["hello-file__failed-episode-1"].reward == 0.0
    first = found["hello-file__raw-episode-0"].messages[1]
    assert (first.content, first.reasoning) == (PLAN, "A short task.")


def test_an_answer_that_was_copied_from_before_a_summary_is_context() -> None:
    found = rows("all.jsonl")
    run = found["hello-file__linear-episode-4"]
    assert run.messages[2].content == "1. Is the file there?"
    assert run.excluded == {2: "context_only"} and candidates(run) == [4, 6, 8]
    alone = rows("last.jsonl")["hello-file__linear-episode-4"]  # nothing tells copied answers from its own
    assert alone.messages == run.messages and candidates(alone) == [8]
    assert candidates(rows("last.jsonl")["hello-file__raw-episode-2"]) == [1, 3, 5]


def test_rows_of_sub_agents_teach_nothing() -> None:
    found = [run for name, run in rows("all.jsonl").items() if "-summarization-" in name]
    assert len(found) == 6
    assert all(candidates(run) == [] and run.reward is None for run in found)


def test_plans_that_harbor_rewrote_are_no_candidates() -> None:
    run = rows("last.jsonl")["hello-file__parsed-episode-4"]
    assert (run.messages[1].content or "").startswith("Analysis: The screen is empty.\nPlan: Write the file.\n<tool")
    assert run.excluded[1] == "synthetic" and run.excluded[3] == "unparsable_action" and candidates(run) == []
    assert ("action_rebuilt", None) in losses(run)


def test_turns_after_a_summary_are_excluded_in_a_row() -> None:
    run = rows("last.jsonl")["hello-file__summary-episode-4"]
    assert run.messages[5].content == "Performed context summarization and handoff to continue task."
    assert [run.excluded[turn] for turn in (7, 9, 11)] == ["after_compaction"] * 3
    assert ("compaction", 5) in losses(run)


def test_calls_and_results_are_taken_out_of_the_text() -> None:
    found = rows("tools.jsonl")
    run = found["weather__1-episode-3"]
    assert [tool.name for tool in run.tools] == ["get_weather", "delegate"]
    assert run.messages[0].content == "You answer questions about the weather."  # a <tools> block went before
    asking, parallel = run.messages[4], run.messages[6]
    assert (asking.content, asking.reasoning) == ("I ask first.", "The capital is not named.")
    assert asking.tool_calls[0].arguments == '{"question": "What is the capital of France?"}'
    assert [call.arguments for call in parallel.tool_calls] == ['{"city": "Paris"}', '{"city": "Oslo"}']
    assert (run.messages[7].role, run.messages[7].content) == ("tool", "Snow, -3 °C\nSun, 20 °C")
    assert (run.reward, run.metadata["foreign"]["ending"]) == (None, "AgentTimeoutError")
    mini = found["mini-tool__1-episode-3"]
    assert mini.reward == 1.0 and candidates(mini) == [2, 4, 6, 8]
    assert mini.messages[2].content == "Let me look at the file and run it." and mini.messages[2].reasoning is None


def test_the_table_holds_what_the_lines_hold() -> None:
    pytest.importorskip("pyarrow")
    assert rows("all.parquet") == rows("all.jsonl")


def test_harbor_rows_are_known_by_their_columns() -> None:
    lines = (FORMATS / "harbor_export" / "last.jsonl").read_text().splitlines()
    assert reader("harbor_export").recognises([json.loads(line) for line in lines])
    assert not reader("harbor_export").recognises([{"conversations": [{"from": "human", "value": "hi"}]}])
