"""Real logs become the right trajectories, and whatever is wrong with a file is named with its place.

Run alone: python -m pytest tests/test_readers.py
"""

import copy
import inspect
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pivotrl.json_lines import MAX_DOCUMENT_BYTES, MAX_LINE_BYTES, entries
from pivotrl.protocols import InputError
from pivotrl.readers import chat, nemo_gym, tau_bench
from pivotrl.records import Message, ToolCall, Trajectory
from pivotrl.store import RecordFile

DATA = Path(__file__).parent / "data"
TAU = DATA / "tau_bench" / "gpt-4o-airline.json"
CHAT = DATA / "chat" / "three_agents.jsonl"
GYM = DATA / "nemo_gym"
READERS = {
    "chat": (chat.read, CHAT),
    "tau_bench": (tau_bench.read, TAU),
    "nemo_gym": (nemo_gym.read, GYM / "xlam_fc.jsonl"),
}
Read = Callable[..., Iterator[Trajectory]]

USER = {"role": "user", "content": "hello"}
ANSWER = {"role": "assistant", "content": "hi"}


def roles(trajectory: Trajectory) -> str:
    return "".join(message.role[0] for message in trajectory.messages)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_chat(tmp_path: Path, **row: Any) -> Trajectory:
    return next(chat.read(write(tmp_path / "log.jsonl", row)))


# --- every reader -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("read", "path"), READERS.values(), ids=READERS)
def test_what_is_read_can_be_stored_and_read_again(read: Read, path: Path, tmp_path: Path) -> None:
    trajectories = list(read(path))
    RecordFile(tmp_path / "trajectories.jsonl", Trajectory, lambda t: t.id).append(trajectories)
    assert list(RecordFile(tmp_path / "trajectories.jsonl", Trajectory, lambda t: t.id)) == trajectories


@pytest.mark.parametrize(("read", "sample"), READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"\n \n\n", "holds no trajectory"),
        (b"[]", "holds no trajectory"),
        (b"\xff\xfe{}", "is not UTF-8 text"),
        (b"\x1f\x8b\x08\x00", "is not"),
        (b"id,messages\n1,hello\n", "bad.jsonl:1 is not JSON"),
        (b'{"messages": [', "bad.jsonl:1 is not JSON"),
        (b'[{"messages": []},\n{"messages": }]', "bad.jsonl:2 is not JSON"),
        (b"{\n}\n", "is not a trajectory"),
        (b"5", "needed, not number"),
        (b"[[]]", "element 1 is not a trajectory: an object is needed, not array"),
        (b'{"a": 1, "a": 1}', "'a' occurs twice"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": ' + b"[" * 5000, "nested deeper than 100"),
    ],
)
def test_files_that_are_no_log(read: Read, sample: Path, data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        list(read(path))
    assert reason in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("read", "sample"), READERS.values(), ids=READERS)
def test_paths_that_are_no_file(read: Read, sample: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.jsonl does not exist"):
        list(read(tmp_path / "nowhere.jsonl"))
    with pytest.raises(InputError, match="is a directory"):
        list(read(tmp_path))


@pytest.mark.parametrize(("read", "sample"), READERS.values(), ids=READERS)
def test_bad_entries_stop_the_reader_or_are_counted(read: Read, sample: Path, tmp_path: Path) -> None:
    good = [entry.load() for entry in entries(sample)][:2]
    path = write(tmp_path / "mixed.jsonl", good[0], {}, "x", 1, good[1], None)
    with pytest.raises(InputError, match=r"mixed\.jsonl:2 is not a trajectory: .* skip_bad=True"):
        list(read(path))
    with pytest.warns(UserWarning, match=r"4 of 6 entries were skipped: .*mixed\.jsonl:2 .*:3 .*:4 is not[^;]*$"):
        kept = list(read(path, skip_bad=True))
    assert len(kept) == 2 and [t.messages for t in kept] == [t.messages for t in list(read(sample))[:2]]
    with pytest.raises(InputError, match="no usable trajectory: 2 of 2"):
        list(read(write(tmp_path / "hopeless.jsonl", {}, []), skip_bad=True))


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
    (chat.read, [entry.load() for entry in entries(CHAT)]),
    (tau_bench.read, [entry.load() for entry in entries(TAU)][:2]),
    (nemo_gym.read, [next(entries(file)).load() for file in sorted(GYM.glob("[!r]*.jsonl"))]),
]


@pytest.mark.parametrize(("read", "rows"), SEEDS, ids=READERS)
@settings(max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_spoilt_row_is_read_or_refused_in_one_line(read: Read, rows: list[Any], data: Any, tmp_path: Path) -> None:
    row = data.draw(st.sampled_from(rows).flatmap(mutations))
    try:
        list(read(write(tmp_path / "spoilt.jsonl", row)))
    except InputError as error:
        assert "spoilt.jsonl:1 is not a trajectory: " in str(error) and "\n" not in str(error)


# --- lines --------------------------------------------------------------------------------------------------------


def test_lines_are_read_one_at_a_time(tmp_path: Path) -> None:
    reading = chat.read(write(tmp_path / "log.jsonl", {"messages": [USER, ANSWER]}, {"messages": 5}))
    assert next(reading).id == "log-1"
    with pytest.raises(InputError, match=r"log\.jsonl:2 "):
        next(reading)


def test_a_line_of_over_64_mib_is_refused_or_skipped(tmp_path: Path) -> None:
    path = write(tmp_path / "long.jsonl", {"messages": [USER, ANSWER]})
    with path.open("ab") as file:
        file.truncate(file.tell() + MAX_LINE_BYTES + 1)
        file.seek(0, 2)
        file.write(b"\n" + json.dumps({"messages": [USER, ANSWER]}).encode())
    with pytest.raises(InputError, match=r"long\.jsonl:2 is longer than 64 MiB"):
        list(chat.read(path))
    with pytest.warns(UserWarning, match="1 of 3 entries"):
        assert [t.id for t in chat.read(path, skip_bad=True)] == ["long-1", "long-3"]


def test_a_document_of_over_a_gigabyte_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    path.write_bytes(b"[\n")
    with path.open("ab") as file:
        file.truncate(MAX_DOCUMENT_BYTES + 1)
    with pytest.raises(InputError, match=r"huge\.json is one document of over 1 GiB"):
        list(chat.read(path))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.jsonl", "{row}\n{row}\n"),
        ("log.jsonl", "\r\n{row}\r\n\r\n{row}"),
        ("log.jsonl", "\ufeff{row}\n{row}\n"),
        ("log.json", "{row}\n{row}\n"),
        ("log.json", "[{row},\n {row}]"),
        ("log.jsonl", "\n [\n{row}, {row}]\n"),
    ],
)
def test_lines_and_documents_are_told_apart(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(text.replace("{row}", json.dumps({"messages": [USER, ANSWER]})).encode())
    assert [roles(t) for t in chat.read(path)] == ["ua", "ua"]
    assert len({t.id for t in chat.read(path)}) == 2


@pytest.mark.parametrize("indent", [None, 0, 2])
def test_one_object_is_one_trajectory(indent: int | None, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"messages": [USER, ANSWER]}, indent=indent))
    assert [t.id for t in chat.read(path)] == ["one-1"]


def test_an_id_may_not_repeat(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", *[{"id": "a", "messages": [USER, ANSWER]}] * 2)
    with pytest.raises(InputError, match=r"log\.jsonl:2 repeats the id 'a' of .*log\.jsonl:1"):
        list(chat.read(path))


# --- chat ---------------------------------------------------------------------------------------------------------


def test_real_chat_logs() -> None:
    airline, mini, swe = chat.read(CHAT)
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
    assert (airline.lost, mini.lost, swe.lost) == (("no tool schemas",), (), ("no tool schemas",))
    assert all(t.turn_indices is None for t in (airline, mini, swe))


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
    assert (trajectory.id, trajectory.task_id, trajectory.reward, trajectory.lost) == ("7", "t", 0.5, ())
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
    first, second, third, fourth = (t.task_id for t in chat.read(path))
    assert first == second and len({first, third, fourth}) == 3


def assistant_call(name: str, arguments: str, id: str | None = None) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"id": id, "function": {"name": name, "arguments": arguments}}]}


def test_turns_that_cannot_be_judged_stay_as_context_only(tmp_path: Path) -> None:
    trajectory = read_chat(
        tmp_path,
        tools=[{"name": "f"}],
        messages=[
            USER,
            assistant_call("f", '{"a": 1', "1"),
            {"role": "tool", "tool_call_id": "1", "content": "error"},
            assistant_call("g", "{}", "2"),
            {"role": "tool", "tool_call_id": "2", "content": "error"},
            assistant_call("f", "[1]", "3"),
            {"role": "tool", "tool_call_id": "3", "content": "error"},
            {"role": "assistant", "content": " "},
            assistant_call("f", '{"a": 1}', "4"),
        ],
    )
    assert roles(trajectory) == "uatatataa" and trajectory.turn_indices == (8,)
    assert trajectory.messages[1].tool_calls[0].arguments == '{"a": 1'
    assert trajectory.lost == (
        "no system message",
        "message 1: arguments of f are not JSON",
        "message 3: g is not among the tools",
        "message 5: arguments of f are not a JSON object",
        "message 7: empty",
    )


def test_unpaired_calls_and_results_are_told(tmp_path: Path) -> None:
    trajectory = read_chat(
        tmp_path,
        tools=[{"name": "f"}],
        messages=[
            {"role": "system", "content": "s"},
            {"role": "tool", "tool_call_id": "0", "content": "x"},
            assistant_call("f", "{}", "1"),
            {"role": "tool", "tool_call_id": "other", "content": "x"},
            assistant_call("f", "{}", "2"),
            USER,
        ],
    )
    assert trajectory.turn_indices is None
    assert trajectory.lost == (
        "message 1: tool result without a call",
        "message 3: tool result without a call",
        "message 2: call of f has no result",
        "message 4: call of f has no result",
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"id": "x"}, "messages is missing"),
        ({"messages": "hello"}, "messages is string, not array"),
        ({"messages": []}, "no message is the assistant's"),
        ({"messages": [USER]}, "no message is the assistant's"),
        ({"messages": [USER, "hi"]}, "messages[1]: an object is needed, not string"),
        ({"messages": [USER, {"content": "hi"}]}, "messages[1]: role is missing"),
        ({"messages": [{"role": "robot"}, ANSWER]}, "messages[0]: unknown role 'robot'; there are system, developer,"),
        ({"messages": [{**USER, "content": {"a": 1}}, ANSWER]}, "messages[0]: content is object, not text"),
        ({"messages": [{**USER, "content": ["hi"]}, ANSWER]}, "content part of type 'string'"),
        ({"messages": [{**USER, "content": [{"type": "image_url"}]}, ANSWER]}, "content part of type 'image_url'"),
        ({"messages": [{**USER, "content": [{"type": "input_audio"}]}, ANSWER]}, "content part of type 'input_audio'"),
        ({"messages": [{**USER, "content": [{"type": "text"}]}, ANSWER]}, "messages[0]: text is missing"),
        ({"messages": [USER, {**ANSWER, "audio": {"id": "a"}}]}, "messages[1]: holds audio"),
        ({"messages": [{**USER, "tool_calls": [{"name": "f"}]}, ANSWER]}, "a user message with tool calls"),
        ({"messages": [USER, {**ANSWER, "tool_calls": [{}]}]}, "messages[1]: tool_calls[0]: name is missing"),
        ({"messages": [USER, {**ANSWER, "tool_calls": [{"type": "custom"}]}]}, "tool call of type 'custom'"),
        ({"messages": [USER, {**ANSWER, "tool_calls": {}}]}, "tool_calls is object, not array"),
        ({"messages": [USER, {**ANSWER, "reasoning": ["hm"]}]}, "reasoning is array, not string"),
        ({"messages": [USER, ANSWER], "tools": [{"type": "web_search"}]}, "tools[0]: name is missing"),
        ({"messages": [USER, ANSWER], "tools": "f, g"}, "Expecting value"),
        ({"messages": [USER, ANSWER], "reward": "good"}, "reward: Input should be a valid number"),
        ({"messages": [USER, ANSWER], "id": ["a"]}, "id is array, not a name"),
        ({"messages": [USER, ANSWER], "note": "\ud800"}, "half of a surrogate pair"),
    ],
)
def test_bad_chat_rows(row: Any, reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / "bad.jsonl", {"messages": [USER, ANSWER]}, row)
    with pytest.raises(InputError) as caught:
        list(chat.read(path))
    assert reason in str(caught.value) and f"{path}:2 is not " in str(caught.value)


# --- tau-bench ----------------------------------------------------------------------------------------------------


def test_real_tau_bench_results() -> None:
    episodes = list(tau_bench.read(TAU))
    assert {t.id: (t.task_id, t.reward, roles(t)) for t in episodes} == {
        "tau_bench-airline-12-3": ("12", 1.0, "suauauauau"),
        "tau_bench-airline-37-3": ("37", 1.0, "suauauat"),
        "tau_bench-airline-41-1": ("41", 1.0, "suauatauatauat"),
        "tau_bench-airline-41-2": ("41", 0.0, "suauauauatau"),
        "tau_bench-airline-10-1": ("10", 0.0, "suauatauat"),
        "tau_bench-airline-32-2": ("32", 0.0, "suauauatauauatauauauatau"),
    }
    for episode in episodes:
        assert episode.lost == ("tools inferred from observed calls",)
        assert episode.turn_indices is None and episode.context_window is None
        assert episode.metadata["foreign"]["info"]["task"]["instruction"]
    assert episodes[4].messages[4].content is None
    assert Counter(call.name for t in episodes for m in t.messages for call in m.tool_calls)["think"] == 1


def test_tools_are_inferred_from_the_whole_file() -> None:
    episodes = list(tau_bench.read(TAU))
    tools = {tool.name: tool.parameters for tool in episodes[0].tools}
    assert all(episode.tools == episodes[0].tools for episode in episodes)
    assert sorted(tools) == sorted({call.name for t in episodes for m in t.messages for call in m.tool_calls})
    assert tools["get_user_details"] == {
        "type": "object",
        "properties": {"user_id": {"type": "string"}},
        "required": ["user_id"],
    }
    booking = tools["book_reservation"]["properties"]
    assert booking["flights"] == {"type": "array"} and booking["total_baggages"] == {"type": "integer"}


def tau_episode(trial: int, *arguments: str) -> dict[str, Any]:
    return {"task_id": 3, "trial": trial, "reward": 1.0, "traj": [USER, *(assistant_call("f", a) for a in arguments)]}


def test_inferred_types_and_required_arguments(tmp_path: Path) -> None:
    path = tmp_path / "retail.json"
    calls = '{"a": 1, "b": 1, "c": null}', '{"a": 2, "b": 0.5, "c": "x", "d": true}', '{"a": '
    path.write_text(json.dumps([tau_episode(0, *calls[:1]), tau_episode(1, *calls[1:])]))
    first, second = tau_bench.read(path)
    assert first.id == "tau_bench-retail-3-0" and first.task_id == second.task_id == "3"
    assert first.tools[0].parameters["properties"] == {
        "a": {"type": "integer"},
        "b": {"type": "number"},
        "c": {"type": ["null", "string"]},
        "d": {"type": "boolean"},
    }
    assert first.tools[0].parameters["required"] == ["a", "b", "c"]
    assert second.turn_indices == (1,) and "message 2: arguments of f are not JSON" in second.lost


def test_tau_bench_names(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"task_id": 0, "reward": 0.0, "traj": [USER, ANSWER], "trial": 0}]))
    assert [(t.id, t.tools) for t in tau_bench.read(path)] == [("tau_bench-0-0", ())]
    assert next(tau_bench.read(path, environment="bank")).id == "tau_bench-bank-0-0"


@pytest.mark.parametrize(
    ("episode", "reason"),
    [
        (
            {"task_id": 0, "traj": [], "info": {"error": "boom", "traceback": "..."}},
            "ended in an error of the benchmark",
        ),
        ({"task_id": 0, "traj": [], "info": {}}, "no message is the assistant's"),
        ({"task_id": 0}, "traj is missing"),
        ({"traj": [USER, ANSWER]}, "task_id is missing"),
    ],
)
def test_bad_tau_bench_episodes(episode: Any, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([tau_episode(0, "{}"), episode]))
    with pytest.raises(InputError) as caught:
        list(tau_bench.read(path))
    assert f"{path}, element 2 is not a trajectory: " in str(caught.value) and reason in str(caught.value)


# --- NeMo Gym -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shapes", "calls", "num_tools", "lost"),
    [
        ("single_step_tool_use", "suaua suata suatatataua suauatatatataua suauataua", "10101", 14, ()),
        ("parallel_tool_calls", "sua sua sua sua sua", "32210", 1, ()),
        ("swe_pivot", "sua sua sua sua sua", "11111", 0, ("no tool schemas",)),
        ("terminus_judge", "ua ua ua ua ua", "00000", 0, ("no system message",)),
        ("xlam_fc", "sua sua sua sua sua", "21111", 1, ()),
        ("rollouts_single_step_tool_use", "suata suaua", "01", 14, ()),
    ],
)
def test_real_nemo_gym_rows(name: str, shapes: str, calls: str, num_tools: int, lost: tuple[str, ...]) -> None:
    rows = list(nemo_gym.read(GYM / f"{name}.jsonl"))
    assert [roles(t) for t in rows] == shapes.split()
    assert "".join(str(len(t.messages[-1].tool_calls)) for t in rows) == calls
    assert [t.id for t in rows] == [f"{name}-{number}" for number in range(1, len(rows) + 1)]
    for row in rows:
        assert row.turn_indices == (len(row.messages) - 1,)
        assert row.reward is None and row.lost == lost
        assert "response" not in row.metadata["foreign"]
    assert len(rows[0].tools) == num_tools


def test_reasoning_text_and_calls_between_inputs_are_one_message() -> None:
    row = next(nemo_gym.read(GYM / "rollouts_single_step_tool_use.jsonl"))
    thought, result = row.messages[2:4]
    assert thought.reasoning and thought.reasoning.startswith("\nOkay, let's see.") and thought.content is None
    assert [call.name for call in thought.tool_calls] == ["authenticate_user"]
    assert result.tool_call_id == thought.tool_calls[0].id and result.content == '{"returns": true}'


def gym_row(given: Any, expected: dict[str, Any] | None = None, **extra: Any) -> dict[str, Any]:
    expected = expected or {"expected_action": {"type": "message", "content": "done"}}
    return {"responses_create_params": {"input": given, **extra.pop("parameters", {})}, **expected, **extra}


def read_gym(tmp_path: Path, *args: Any, **kwargs: Any) -> Trajectory:
    return next(nemo_gym.read(write(tmp_path / "rows.jsonl", gym_row(*args, **kwargs))))


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
    assert row.turn_indices == (6,)
    assert row.lost == (
        "1 assistant items without text, such as encrypted reasoning",
        "the input ends with an assistant message, next to the expected action",
    )


def test_hidden_reasoning_leaves_no_empty_message(tmp_path: Path) -> None:
    row = read_gym(tmp_path, [USER, {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}])
    assert roles(row) == "ua" and row.messages[1].content == "done"
    assert "1 assistant items without text, such as encrypted reasoning" in row.lost


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
        ({"expected_answer": '{"commands": []}'}, {"content": '{"commands": []}'}),
        ({"expected_answer": "ls"}, {"content": "ls"}),
    ],
)
def test_every_form_of_the_expected_action(expected: dict[str, Any], message: dict[str, Any], tmp_path: Path) -> None:
    row = read_gym(tmp_path, "go", expected)
    assert row.messages == (Message(role="user", content="go"), Message(role="assistant", **message))


def test_an_expected_action_that_cannot_be_judged_is_no_candidate(tmp_path: Path) -> None:
    broken = read_gym(tmp_path, "go", {"expected_action": {**CALL, "arguments": "{"}})
    assert broken.turn_indices == () and "message 1: arguments of f are not JSON" in broken.lost
    unknown = read_gym(tmp_path, "go", {"expected_action": CALL}, parameters={"tools": [{"name": "g"}]})
    assert unknown.turn_indices == () and "message 1: f is not among the tools" in unknown.lost


def test_rows_of_one_source_trajectory_are_one_task_and_keep_their_provenance(tmp_path: Path) -> None:
    path = write(
        tmp_path / "rows.jsonl",
        gym_row("go", trajectory_id="t1", pass_rate=0.5, reward=1.0, response={"output": []}),
        gym_row("on", trajectory_id="t1", uuid="u"),
        gym_row("go", metadata={"source_trajectory_uid": "t2"}),
        gym_row("go"),
    )
    first, second, third, fourth = nemo_gym.read(path)
    assert (first.task_id, second.task_id, third.task_id) == ("t1", "t1", "t2")
    assert fourth.task_id.startswith("task-")
    assert first.metadata == {"foreign": {"trajectory_id": "t1", "pass_rate": 0.5, "reward": 1.0}}
    assert second.metadata == {"foreign": {"trajectory_id": "t1", "uuid": "u"}}
    assert first.reward is None


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"expected_action": CALL}, "responses_create_params is missing"),
        ({"responses_create_params": {"input": "go"}}, "no expected_action, expected_answers or expected_answer"),
        (gym_row("go", {"expected_answers": []}), "no expected_action, expected_answers or expected_answer"),
        (gym_row("go", {"expected_action": {"type": "click"}}), "expected_action of unknown type 'click'"),
        (gym_row("go", {"expected_action": {"type": "function_call"}}), "expected_action[0]: name is missing"),
        (gym_row(None), "input is missing"),
        (gym_row([{"type": "web_search_call"}]), "input[0]: unknown item of type 'web_search_call'"),
        (gym_row([{"role": "robot", "content": "x"}]), "input[0]: unknown role 'robot'"),
        (gym_row([{"role": "user", "content": [{"type": "input_image"}]}]), "content part of type 'input_image'"),
        (gym_row([{"type": "function_call_output", "output": "x"}]), "input[0]: call_id is missing"),
    ],
)
def test_bad_nemo_gym_rows(row: Any, reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / "bad.jsonl", gym_row("go"), row)
    with pytest.raises(InputError) as caught:
        list(nemo_gym.read(path))
    assert reason in str(caught.value) and f"{path}:2 is not a trajectory: " in str(caught.value)


def test_rollouts_without_an_expected_action_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"rollouts_swe_pivot\.jsonl:1 .* so it is no pivot row"):
        list(nemo_gym.read(GYM / "rollouts_swe_pivot.jsonl"))


# --- the contract with the plugin loader --------------------------------------------------------------------------


def test_a_clean_file_gives_no_warning() -> None:
    for read, path in READERS.values():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert list(read(path, skip_bad=True))


@pytest.mark.parametrize(("read", "path"), READERS.values(), ids=READERS)
def test_options_are_keyword_only(read: Read, path: Path) -> None:
    first, *options = inspect.signature(read).parameters.values()
    assert first.name == "path" and all(p.kind is p.KEYWORD_ONLY for p in options) and options
