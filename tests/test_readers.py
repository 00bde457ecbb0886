"""Real logs of chats, tau-bench and NeMo Gym become the right trajectories; what is wrong with a file is named.

Run alone: python -m pytest tests/test_readers.py
"""

import copy
import inspect
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pivotrl.protocols import InputError
from pivotrl.readers import auto, chat, nemo_gym, tau_bench
from pivotrl.reading.sources import entries, head
from pivotrl.records import Loss, Message, Refusal, ToolCall, Trajectory
from pivotrl.storage.record_files import RecordFile

DATA = Path(__file__).parent / "data"
TAU = DATA / "tau_bench" / "gpt-4o-airline.json"
CHAT = DATA / "chat" / "three_agents.jsonl"
FORMATS = DATA / "formats"
GYM = DATA / "nemo_gym"
READERS = {
    "chat": (chat.read, CHAT),
    "tau_bench": (tau_bench.read, TAU),
    "nemo_gym": (nemo_gym.read, GYM / "xlam_fc.jsonl"),
}
Read = Callable[..., Iterator[Trajectory | Refusal]]

USER = {"role": "user", "content": "hello"}
ANSWER = {"role": "assistant", "content": "hi"}


def roles(trajectory: Trajectory) -> str:
    return "".join(message.role[0] for message in trajectory.messages)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def trajectories(items: Iterator[Trajectory | Refusal]) -> list[Trajectory]:
    """All of them; a refusal fails the test."""
    found = list(items)
    assert all(isinstance(item, Trajectory) for item in found), found
    return found


def read_chat(tmp_path: Path, **row: Any) -> Trajectory:
    return trajectories(chat.read(write(tmp_path / "log.jsonl", row)))[0]


def codes(trajectory: Trajectory) -> list[tuple[str, int | None]]:
    return [(loss.code, loss.message) for loss in trajectory.losses]


# --- every reader -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("read", "path"), READERS.values(), ids=READERS)
def test_what_is_read_can_be_stored_and_read_again(read: Read, path: Path, tmp_path: Path) -> None:
    found = trajectories(read(path))
    RecordFile(tmp_path / "trajectories.jsonl", Trajectory, lambda t: t.id).append(found)
    assert list(RecordFile(tmp_path / "trajectories.jsonl", Trajectory, lambda t: t.id)) == found


@pytest.mark.parametrize(("read", "path"), READERS.values(), ids=READERS)
def test_reading_twice_gives_the_same(read: Read, path: Path) -> None:
    assert [t.model_dump_json() for t in read(path)] == [t.model_dump_json() for t in read(path)]


@pytest.mark.parametrize(("read", "sample"), READERS.values(), ids=READERS)
def test_bad_entries_are_refused_and_the_rest_goes_on(read: Read, sample: Path, tmp_path: Path) -> None:
    good = [entry.load() for entry in entries(sample)][:2]
    path = write(tmp_path / "mixed.jsonl", good[0], {}, "x", 1, good[1], None)
    found = list(read(path))
    assert [isinstance(item, Trajectory) for item in found] == [True, False, False, False, True, False]
    assert [t.messages for t in found if isinstance(t, Trajectory)] == [t.messages for t in list(read(sample))[:2]]
    places = [item.place.split(" ")[0] for item in found if isinstance(item, Refusal)]
    assert places == [f"{path}:{line}" for line in (2, 3, 4, 6)]
    assert "expected an object, not string" in found[2].reason


def mutations(value: Any) -> st.SearchStrategy[Any]:
    """The value with one part of it, at any depth, replaced by something else."""
    junk: st.SearchStrategy[Any] = st.sampled_from(
        [None, True, 0, -1.5, "", "x", "{", [], {}, [None], ["x"], {"type": "x"}, {"role": []}]
    )
    places: list[tuple[Any, ...]] = []

    def walk(part: Any, place: tuple[Any, ...]) -> None:
        places.append(place)
        for key, item in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
            walk(item, (*place, key))

    def replace(place: tuple[Any, ...], new: Any) -> Any:
        holder = {"": copy.deepcopy(value)}
        *way, last = ("", *place)
        target: Any = holder
        for key in way:
            target = target[key]
        target[last] = new
        return holder[""]

    walk(value, ())
    return st.builds(replace, st.sampled_from(places[1:]), junk)


SEEDS: list[tuple[Read, list[Any]]] = [
    (chat.read, [*head(CHAT), *head(FORMATS / "chat" / "verifiers.jsonl")]),
    (tau_bench.read, head(TAU)[:2]),
    (nemo_gym.read, [head(file)[0] for file in sorted(GYM.glob("*.jsonl"))]),
]


@pytest.mark.parametrize(("read", "rows"), SEEDS, ids=READERS)
@settings(max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_spoilt_row_is_read_or_refused_in_one_line(read: Read, rows: list[Any], data: Any, tmp_path: Path) -> None:
    row = data.draw(st.sampled_from(rows).flatmap(mutations))
    recognisers = chat.recognises, tau_bench.recognises, nemo_gym.recognises
    assert all(isinstance(recognises([row]), bool) for recognises in recognisers)
    for item in read(write(tmp_path / "spoilt.jsonl", row)):
        if isinstance(item, Refusal):
            assert item.reason.startswith("is not a trajectory: ") and "\n" not in item.reason
            assert item.place.startswith(str(tmp_path / "spoilt.jsonl:1"))


@pytest.mark.parametrize("junk", [None, 5, "x", [], [[]], {}, {"messages": 5}, {"traj": None}, {"result": []}])
def test_junk_is_no_format(junk: Any) -> None:
    assert not any(module.recognises([junk]) for module in (chat, tau_bench, nemo_gym))
    assert not any(module.recognises([]) for module in (chat, tau_bench, nemo_gym))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (CHAT, "chat"),
        (FORMATS / "chat" / "verifiers.jsonl", "chat"),
        (FORMATS / "chat" / "messages_json.parquet", "chat"),
        (FORMATS / "chat" / "prompt_completion.parquet", "chat"),
        (TAU, "tau_bench"),
        *((file, "nemo_gym") for file in sorted(GYM.glob("*.jsonl"))),
        *((file, "nemo_gym") for file in sorted((FORMATS / "nemo_gym").glob("*.jsonl"))),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_the_format_is_found_by_its_content(path: Path, name: str) -> None:
    assert auto.format_of(path) == name


# --- chat ---------------------------------------------------------------------------------------------------------


def test_real_chat_logs() -> None:
    airline, mini, swe = trajectories(chat.read(CHAT))
    assert [roles(t) for t in (airline, mini, swe)] == ["suauatauauau", "su" + "au" * 10, "su" + "at" * 5]
    assert (airline.id, airline.task_id, airline.reward) == ("airline-49-0", "49", 1.0)
    assert (mini.id, mini.reward, mini.tools) == ("three_agents-2", None, ())
    assert airline.messages[4].content and airline.messages[4].tool_calls
    assert airline.messages[5].tool_call_id == airline.messages[4].tool_calls[0].id
    assert [call.name for m in swe.messages for call in m.tool_calls] == [
        "find_file",
        "open",
        "edit",
        "bash",
        "submit",
    ]
    assert all(t.excluded == {} and t.losses == () for t in (airline, mini, swe))


def test_rollouts_of_verifiers() -> None:
    called, said = trajectories(chat.read(FORMATS / "chat" / "verifiers.jsonl"))
    assert [(t.task_id, t.reward, roles(t)) for t in (called, said)] == [("0", 1.0, "suata"), ("1", 0.0, "sua")]
    assert called.messages[2].tool_calls == (ToolCall(name="add", arguments='{"x": 2, "y": 3}', id="c1"),)
    assert called.messages[3].content == "5" and called.excluded == {}
    assert called.metadata["foreign"] == {"task": "default", "answer": "5", "exact": 1.0}


def test_tables_with_json_columns_and_with_objects() -> None:
    whole = trajectories(chat.read(FORMATS / "chat" / "messages_json.parquet"))
    split = trajectories(chat.read(FORMATS / "chat" / "prompt_completion.parquet"))
    assert [roles(t) for t in whole] == ["suauatauatauat", "suauauatauauatauauauatau"]
    assert [roles(t) for t in split] == ["suauatauataua", "suauauatauauatauauauata"]
    for long, short in zip(whole, split, strict=True):
        assert [m.tool_calls for m in long.messages][: len(short.messages)] == [m.tool_calls for m in short.messages]
        assert long.excluded == {} and long.tools == short.tools
        assert {*short.excluded.values()} == {"context_only"} and len(short.messages) - 1 not in short.excluded
    assert whole[0].messages[4].tool_calls[0].arguments == '{"reservation_id": "3RK2T9"}'
    assert whole[0].tools[1].name == "get_user_details"
    assert whole[0].tools[1].parameters["properties"] == {"user_id": {"type": "string"}}


def test_a_prompt_and_a_completion_may_be_texts(tmp_path: Path) -> None:
    trajectory = read_chat(tmp_path, prompt="2 + 2?", completion="4", answer="4")
    assert [(m.role, m.content) for m in trajectory.messages] == [("user", "2 + 2?"), ("assistant", "4")]
    assert trajectory.metadata == {"foreign": {"answer": "4"}}


def test_a_system_text_beside_the_messages_goes_first(tmp_path: Path) -> None:
    assert read_chat(tmp_path, system="be kind", messages=[USER, ANSWER]).messages[0].content == "be kind"
    own = read_chat(tmp_path, system="be kind", messages=[{"role": "system", "content": "own"}, USER, ANSWER])
    assert roles(own) == "sua" and own.messages[0].content == "own"


def test_images_are_a_loss_and_calls_in_the_text_are_told(tmp_path: Path) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    call = '<tool_call>{"name": "f", "arguments": {</tool_call>'
    trajectory = read_chat(
        tmp_path,
        messages=[
            {**USER, "content": [{"type": "text", "text": "look"}, image]},
            ANSWER,
            USER,
            {**ANSWER, "content": call},
        ],
    )
    assert codes(trajectory) == [("image", 0), ("text_mode", 3)]
    assert trajectory.messages[0].content == "look"
    assert not chat.recognises([{"messages": [USER, {**ANSWER, "content": call}]}])


def test_every_field_of_a_chat_log(tmp_path: Path) -> None:
    parameters = {"type": "object", "properties": {"x": {"type": "integer"}}}
    trajectory = read_chat(
        tmp_path,
        trajectory_id=7,
        task_id="t",
        score=0.5,
        model="m",
        tools=[
            {"type": "function", "function": {"name": "f", "description": "F", "parameters": parameters}},
            {"type": "function", "name": "g", "parameters": None},
        ],
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "be"}, {"type": "text", "text": "kind"}]},
            USER,
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"z": 1, "a": "é"}}},
                    {"id": "c2", "type": "function", "function": {"name": "g", "arguments": ""}},
                ],
            },
            {"role": "tool", "tool_call_id": "c2", "content": ""},
            {"role": "tool", "tool_call_id": "c1", "content": "1"},
            {"role": "assistant", "reasoning": "well", "function_call": {"name": "f", "arguments": '{"x":  1}'}},
            {"role": "function", "name": "f", "content": "2"},
            {**ANSWER, "tool_calls": None},
        ],
    )
    assert (trajectory.id, trajectory.task_id, trajectory.reward, trajectory.losses) == ("7", "t", 0.5, ())
    assert trajectory.metadata == {"foreign": {"model": "m"}}
    assert [(t.name, t.description, t.parameters) for t in trajectory.tools] == [("f", "F", parameters), ("g", "", {})]
    assert trajectory.messages == (
        Message(role="system", content="be\nkind"),
        Message(role="user", content="hello"),
        Message(
            role="assistant",
            reasoning="hm",
            tool_calls=(
                ToolCall(name="f", arguments='{"z": 1, "a": "é"}', id="c1"),
                ToolCall(name="g", arguments="{}", id="c2"),
            ),
        ),
        Message(role="tool", content="", tool_call_id="c2"),
        Message(role="tool", content="1", tool_call_id="c1"),
        Message(role="assistant", reasoning="well", tool_calls=(ToolCall(name="f", arguments='{"x":  1}'),)),
        Message(role="tool", content="2"),
        Message(role="assistant", content="hi"),
    )


def test_tools_may_be_json_text(tmp_path: Path) -> None:
    trajectory = read_chat(tmp_path, messages=[USER, ANSWER], tools='[{"name": "f"}]')
    assert [tool.name for tool in trajectory.tools] == ["f"]


def test_runs_that_begin_alike_are_one_task(tmp_path: Path) -> None:
    system, other = {"role": "system", "content": "s"}, {"role": "user", "content": "other"}
    path = write(
        tmp_path / "log.jsonl",
        {"messages": [system, USER, ANSWER]},
        {"messages": [system, USER, {**ANSWER, "content": "other"}, other, ANSWER], "reward": 1},
        {"messages": [system, other, ANSWER]},
        {"messages": [USER, ANSWER]},
    )
    first, second, third, fourth = (t.task_id for t in trajectories(chat.read(path)))
    assert first == second and len({first, third, fourth}) == 3


def assistant_call(name: str, arguments: str, id: str | None = None) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"id": id, "function": {"name": name, "arguments": arguments}}]}


# --- tau-bench ----------------------------------------------------------------------------------------------------


def test_real_tau_bench_results() -> None:
    episodes = trajectories(tau_bench.read(TAU))
    assert {t.id: (t.task_id, t.reward, roles(t)) for t in episodes} == {
        "tau_bench-airline-12-3": ("12", 1.0, "suauauauau"),
        "tau_bench-airline-37-3": ("37", 1.0, "suauauat"),
        "tau_bench-airline-41-1": ("41", 1.0, "suauatauatauat"),
        "tau_bench-airline-41-2": ("41", 0.0, "suauauauatau"),
        "tau_bench-airline-10-1": ("10", 0.0, "suauatauat"),
        "tau_bench-airline-32-2": ("32", 0.0, "suauauatauauatauauauatau"),
    }
    for episode in episodes:
        assert codes(episode) == [("tools_not_logged", None)]
        assert episode.tools == () and episode.excluded == {} and episode.context_window is None
        assert episode.metadata["foreign"]["info"]["task"]["instruction"]
    assert episodes[4].messages[4].content is None
    assert Counter(call.name for t in episodes for m in t.messages for call in m.tool_calls)["think"] == 1


def test_tau_bench_names(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"task_id": 0, "reward": 0.0, "traj": [USER, ANSWER], "trial": 0}]))
    assert [t.id for t in trajectories(tau_bench.read(path))] == ["tau_bench-0-0"]
    assert trajectories(tau_bench.read(path, environment="bank"))[0].id == "tau_bench-bank-0-0"


# --- NeMo Gym -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shapes", "calls", "num_tools"),
    [
        ("single_step_tool_use", "suaua suata suatatataua suauatatatataua suauataua", "10101", 14),
        ("parallel_tool_calls", "sua sua sua sua sua", "32210", 1),
        ("swe_pivot", "sua sua sua sua sua", "11111", 0),
        ("terminus_judge", "ua ua ua ua ua", "00000", 0),
        ("xlam_fc", "sua sua sua sua sua", "21111", 1),
        ("rollouts_single_step_tool_use", "suata suaua", "01", 14),
    ],
)
def test_real_pivot_rows(name: str, shapes: str, calls: str, num_tools: int) -> None:
    rows = trajectories(nemo_gym.read(GYM / f"{name}.jsonl"))
    assert [roles(t) for t in rows] == shapes.split()
    assert "".join(str(len(t.messages[-1].tool_calls)) for t in rows) == calls
    assert [t.id for t in rows] == [f"{name}-{number}" for number in range(1, len(rows) + 1)]
    for row in rows:
        given = [i for i, message in enumerate(row.messages[:-1]) if message.role == "assistant"]
        assert row.excluded == dict.fromkeys(given, "context_only")
        assert row.reward is None and row.losses == ()
        assert "response" not in row.metadata["foreign"]
    assert len(rows[0].tools) == num_tools


def test_a_rollout_is_its_response_with_its_reward() -> None:
    called, told = trajectories(nemo_gym.read(GYM / "rollouts_single_step_tool_use.jsonl", which="rollout"))
    expected = trajectories(nemo_gym.read(GYM / "rollouts_single_step_tool_use.jsonl"))
    assert (called.reward, told.reward) == (1.0, 1.0) and expected[0].reward is None
    assert [roles(t) for t in (called, told)] == ["suata", "suaua"]
    assert called.messages[:-1] == expected[0].messages[:-1] and called.messages[-1] != expected[0].messages[-1]
    assert (called.messages[-1].content or "").startswith("Thank you for providing your User ID and Event Con")
    assert told.messages[-1].tool_calls[0].name == "authenticate_user" and told.messages[-1].content
    assert (called.excluded, told.excluded) == ({2: "context_only"}, {2: "context_only"})


def test_a_rollout_that_expects_nothing_is_read_as_one() -> None:
    rows = trajectories(nemo_gym.read(GYM / "rollouts_swe_pivot.jsonl"))
    assert [(roles(t), t.reward, t.excluded) for t in rows] == [("sua", 0.0, {})] * 5
    assert (rows[0].messages[2].content or "").startswith("```python\n!pytest")
    [terminal] = trajectories(nemo_gym.read(FORMATS / "nemo_gym" / "rollouts_terminus_judge.jsonl", which="rollout"))
    assert (roles(terminal), terminal.reward) == ("ua", 0.0)
    assert json.loads(terminal.messages[1].content or "")["is_task_complete"] is False


def test_a_rollout_whose_prompt_is_not_logged_has_no_candidates() -> None:
    [run] = trajectories(nemo_gym.read(FORMATS / "nemo_gym" / "rollouts_swe_claude_code.jsonl"))
    assert (roles(run), run.task_id, run.reward) == ("atata", "astropy__astropy-12907", 0.0)
    assert codes(run) == [("input_not_logged", None)]
    assert run.excluded == dict.fromkeys((0, 2, 4), "context_incomplete")
    assert not {"instance_config", "model_patch"} & run.metadata["foreign"].keys()


def test_reasoning_text_and_calls_between_inputs_are_one_message() -> None:
    row = trajectories(nemo_gym.read(GYM / "rollouts_single_step_tool_use.jsonl"))[0]
    thought, result = row.messages[2:4]
    assert thought.reasoning and thought.reasoning.startswith("\nOkay, let's see.") and thought.content is None
    assert [call.name for call in thought.tool_calls] == ["authenticate_user"]
    assert result.tool_call_id == thought.tool_calls[0].id and result.content == '{"returns": true}'


def gym_row(given: Any, expected: dict[str, Any] | None = None, **extra: Any) -> dict[str, Any]:
    expected = expected or {"expected_action": {"type": "message", "content": "done"}}
    return {"responses_create_params": {"input": given, **extra.pop("parameters", {})}, **expected, **extra}


def read_gym(tmp_path: Path, *args: Any, **kwargs: Any) -> Trajectory:
    return trajectories(nemo_gym.read(write(tmp_path / "rows.jsonl", gym_row(*args, **kwargs))))[0]


def test_responses_items_merge_as_gym_renders_them(tmp_path: Path) -> None:
    def function_call(name: str) -> dict[str, Any]:
        return {"type": "function_call", "call_id": f"c_{name}", "name": name, "arguments": "{}"}

    row = read_gym(
        tmp_path,
        [
            {"role": "developer", "content": "policy"},
            {"role": "user", "content": [{"type": "input_text", "text": "go"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "first"}]},
            {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "on it"}]},
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "second"}]},
            function_call("f"),
            function_call("g"),
            {"type": "function_call_output", "call_id": "c_f", "output": "1"},
            {"type": "function_call_output", "call_id": "c_g", "output": [{"type": "input_text", "text": "2"}]},
            {"role": "assistant", "content": "nearly"},
        ],
        parameters={"instructions": "be kind", "tools": [{"type": "function", "name": n} for n in "fg"]},
    )
    assert row.messages == (
        Message(role="system", content="be kind\n\npolicy"),
        Message(role="user", content="go"),
        Message(
            role="assistant",
            content="on it",
            reasoning="first\nsecond",
            tool_calls=(ToolCall(name="f", id="c_f"), ToolCall(name="g", id="c_g")),
        ),
        Message(role="tool", content="1", tool_call_id="c_f"),
        Message(role="tool", content="2", tool_call_id="c_g"),
        Message(role="assistant", content="nearly"),
        Message(role="assistant", content="done"),
    )
    assert row.excluded == {2: "context_only", 5: "context_only"}
    assert codes(row) == [("reasoning_encrypted", 2), ("adjacent_turns", 6)]


def test_hidden_reasoning_leaves_no_empty_message(tmp_path: Path) -> None:
    row = read_gym(tmp_path, [USER, {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}])
    assert roles(row) == "ua" and row.messages[1].content == "done"
    assert codes(row) == [("reasoning_encrypted", None)]


def test_what_a_hosted_tool_did_makes_the_pivot_unfit(tmp_path: Path) -> None:
    row = read_gym(tmp_path, [USER, {"type": "web_search_call", "id": "ws", "status": "completed"}])
    assert row.losses == (Loss(code="unknown_item", detail="web_search_call"),)
    assert row.excluded == {1: "context_incomplete"}


CALL = {"type": "function_call", "name": "f", "arguments": '{"a": 1}'}


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"expected_action": CALL}, {"tool_calls": (ToolCall(name="f", arguments='{"a": 1}'),)}),
        (
            {"expected_action": {"type": "function_call_batch", "calls": [CALL, {**CALL, "name": "g"}]}},
            {"tool_calls": (ToolCall(name="f", arguments='{"a": 1}'), ToolCall(name="g", arguments='{"a": 1}'))},
        ),
        (
            {"expected_answers": [{"name": "f", "arguments": {"a": 1}}]},
            {"tool_calls": (ToolCall(name="f", arguments='{"a": 1}'),)},
        ),
        ({"expected_answer": json.dumps(CALL)}, {"tool_calls": (ToolCall(name="f", arguments='{"a": 1}'),)}),
        ({"metadata": {"expected_action": CALL}}, {"tool_calls": (ToolCall(name="f", arguments='{"a": 1}'),)}),
    ],
)
def test_every_form_of_the_expected_action(expected: dict[str, Any], message: dict[str, Any], tmp_path: Path) -> None:
    row = read_gym(tmp_path, "go", expected)
    assert row.messages == (Message(role="user", content="go"), Message(role="assistant", **message))
    assert row.excluded == {}


def test_an_expected_answer_is_an_action_only_where_the_prompt_asks_for_such(tmp_path: Path) -> None:
    plan = '{"analysis": "", "commands": [{"keystrokes": "ls"}]}'
    row = read_gym(tmp_path, 'Answer with {"commands": [{"keystrokes": "..."}]}', {"expected_answer": plan})
    assert row.messages[1] == Message(role="assistant", content=plan)
    for prompt, answer in (
        ("go", plan),
        ("What is 6 * 7?", "42"),
        ("go", '{"answer": 42}'),
        ("go", "Point 1: it rose."),
    ):
        (refused,) = nemo_gym.read(write(tmp_path / "rows.jsonl", gym_row(prompt, {"expected_answer": answer})))
        assert isinstance(refused, Refusal) and "what a grader compares with" in refused.reason


def test_rows_of_one_source_trajectory_are_one_task_and_keep_their_provenance(tmp_path: Path) -> None:
    path = write(
        tmp_path / "rows.jsonl",
        gym_row("go", trajectory_id=7, reward=1.0, response={"output": []}),
        gym_row("on", trajectory_id=7, uuid="u"),
        gym_row("go", metadata={"source_trajectory_uid": "t2", "pivot_agent_turn_index": 3}),
        gym_row("go"),
    )
    first, second, third, fourth = trajectories(nemo_gym.read(path))
    assert (first.task_id, second.task_id, third.task_id) == ("7", "7", "t2")
    assert fourth.task_id.startswith("task-")
    assert first.metadata == {"foreign": {"trajectory_id": 7, "reward": 1.0}}
    assert second.metadata == {"foreign": {"trajectory_id": 7, "uuid": "u"}}
    assert first.reward is None


def test_the_profile_of_another_policy_is_named_as_foreign(tmp_path: Path) -> None:
    """The columns of NVIDIA's released conversational pivots."""
    released = {
        "trajectory_id": 12,
        "scenario": None,
        "num_unique_actions": 4,
        "meta_info": {"turn": 3, "step": 1, "assistant_depth": 5},
        "qwen_235b_info": {"reward_mean": 0.25, "rewards": [0, 0, 0, 1]},
        "pass_rate": 0.25,
        "pass_rate_total": 16,
        "pass_rate_passed": 4,
    }
    row = read_gym(tmp_path, "go", **released)
    assert row.metadata["foreign"] == released and row.reward is None
    assert row.metadata["foreign_profile"] == [
        *("num_unique_actions", "qwen_235b_info", "pass_rate", "pass_rate_total", "pass_rate_passed")
    ]


def test_a_masked_rollout_has_no_known_reward(tmp_path: Path) -> None:
    answer = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hm"}]}
    row = gym_row("go", {"response": {"output": [answer], "status": "incomplete"}}, reward=0.0, mask_sample=True)
    [rollout] = trajectories(nemo_gym.read(write(tmp_path / "rows.jsonl", row)))
    assert rollout.reward is None and rollout.excluded == {1: "truncated"}


def test_rows_alone_have_no_rollout() -> None:
    assert all(isinstance(item, Refusal) for item in nemo_gym.read(GYM / "xlam_fc.jsonl", which="rollout"))
    with pytest.raises(InputError, match="give 'expected' or 'rollout'"):
        nemo_gym.read(GYM / "xlam_fc.jsonl", which="both")


# --- the contract with the plugin loader --------------------------------------------------------------------------


@pytest.mark.parametrize(("read", "path"), READERS.values(), ids=READERS)
def test_options_are_keyword_only(read: Read, path: Path) -> None:
    first, *options = inspect.signature(read).parameters.values()
    assert first.name == "path" and all(p.kind is p.KEYWORD_ONLY for p in options)
