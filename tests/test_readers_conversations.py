"""Real logs of tau2-bench, ShareGPT style, the Responses API and inspect-ai become the right trajectories.

Run alone: python -m pytest tests/test_readers_conversations.py
"""

import copy
import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pivotrl.protocols import InputError
from pivotrl.readers import auto, inspect_ai, responses, sharegpt, tau2_bench
from pivotrl.reading.formats.response_items import conversation, response_tools
from pivotrl.reading.sources import head
from pivotrl.reading.zip_files import unpacked
from pivotrl.records import Loss, Message, Refusal, ToolCall, Trajectory
from pivotrl.storage.record_files import RecordFile

DATA = Path(__file__).parent / "data"
FORMATS = DATA / "formats"
TAU2 = FORMATS / "tau2_bench" / "nemo_gym_rollouts.jsonl"
TELECOM = FORMATS / "tau2_bench" / "telecom_messages.json"
SHARE = FORMATS / "sharegpt"
RESPONSES = FORMATS / "responses"
INSPECT = FORMATS / "inspect_ai"
RESULTS = {name: FORMATS / "tau2_bench" / f"results_{name}.json" for name in ("mock", "telecom")}
SAMPLES = [
    *((tau2_bench, path) for path in (TAU2, *RESULTS.values())),
    *((sharegpt, SHARE / name) for name in ("glaive_toolcall_en_demo.json", "glaive_toolcall_zh_demo.json")),
    *((sharegpt, SHARE / name) for name in ("hermes.jsonl", "reason_tool_use_demo.jsonl")),
    *((responses, RESPONSES / name) for name in ("weather.json", "search.jsonl")),
    *((inspect_ai, INSPECT / name) for name in ("arithmetic.eval", "arithmetic.json", "delegation.eval")),
]
NAMES = [path.name for _, path in SAMPLES]
Read = Callable[..., Iterator[Trajectory | Refusal]]


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


def codes(trajectory: Trajectory) -> list[tuple[str, int | None]]:
    return [(loss.code, loss.message) for loss in trajectory.losses]


# --- every reader -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("module", "path"), SAMPLES, ids=NAMES)
def test_the_format_is_found_by_its_content(module: Any, path: Path) -> None:
    assert f"pivotrl.readers.{auto.format_of(path)}" == module.__name__


@pytest.mark.parametrize(("module", "path"), SAMPLES, ids=NAMES)
def test_what_is_read_can_be_stored_and_read_again(module: Any, path: Path, tmp_path: Path) -> None:
    found = trajectories(module.read(path))
    RecordFile(tmp_path / "trajectories.jsonl", Trajectory, lambda t: t.id).append(found)
    assert list(RecordFile(tmp_path / "trajectories.jsonl", Trajectory, lambda t: t.id)) == found
    assert [t.model_dump_json() for t in module.read(path)] == [t.model_dump_json() for t in found]


def mutations(value: Any) -> st.SearchStrategy[Any]:
    """The value with one part of it, at any depth, replaced by something else."""
    junk: st.SearchStrategy[Any] = st.sampled_from(
        [None, True, 0, -1.5, "", "x", "{", [], {}, [None], ["x"], {"type": "x"}, {"role": []}, [[0]], [[0, "x"]]]
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


def log_of_one_sample() -> dict[str, Any]:
    log = json.loads((INSPECT / "arithmetic.json").read_text(), parse_constant=lambda _: None)
    return {"eval": {"task": "t", "run_id": "r", "task_id": "i", "model": "m"}, "samples": log["samples"][:1]}


def results(*simulations: Any, **environment: Any) -> dict[str, Any]:
    """A results.json around simulations."""
    info = {"git_commit": "", "num_trials": 1, "max_steps": 200, "max_errors": 10, "user_info": {"implementation": "u"}}
    agent = {"implementation": "llm_agent", "llm": "m"}
    environment = {"domain_name": "retail", "policy": "Be fair.", **environment}
    return {
        "timestamp": "",
        "info": {**info, "agent_info": agent, "environment_info": environment},
        "tasks": [],
        "simulations": list(simulations),
    }


SEEDS: dict[str, tuple[Read, list[Any]]] = {
    "tau2_bench": (tau2_bench.read, [*head(TAU2), results(*(row["result"] for row in head(TAU2)))]),
    "sharegpt": (sharegpt.read, [value for module, path in SAMPLES if module is sharegpt for value in head(path)]),
    "responses": (responses.read, [*head(RESPONSES / "search.jsonl"), {"input": head(RESPONSES / "weather.json")}]),
    "inspect_ai": (inspect_ai.read, [log_of_one_sample()]),
}


@pytest.mark.parametrize(("read", "rows"), SEEDS.values(), ids=SEEDS)
@settings(max_examples=120, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_spoilt_row_is_read_or_refused_in_one_line(read: Read, rows: list[Any], data: Any, tmp_path: Path) -> None:
    row = data.draw(st.sampled_from(rows).flatmap(mutations))
    assert all(isinstance(module.recognises([row]), bool) for module in (tau2_bench, sharegpt, responses, inspect_ai))
    try:
        found = list(read(write(tmp_path / "spoilt.json", row)))
    except InputError as error:  # of what surrounds the samples of a log
        assert read is inspect_ai.read and str(error).startswith(str(tmp_path / "spoilt.json"))
        return
    for item in found:
        if isinstance(item, Refusal):
            assert item.reason.startswith("is not a trajectory: ") and "\n" not in item.reason


@pytest.mark.parametrize("junk", [None, 5, "x", [], [[]], [None], {}, {"messages": 5}, {"conversations": [5]}])
def test_junk_is_no_format(junk: Any) -> None:
    for module in (tau2_bench, sharegpt, responses, inspect_ai):
        assert not module.recognises([junk]) and not module.recognises([])


# --- tau2-bench ---------------------------------------------------------------------------------------------------


def simulation(number: int = 0, **changes: Any) -> dict[str, Any]:
    """One of the real simulations."""
    return {**copy.deepcopy(head(TAU2)[number]["result"]), **changes}


def read_tau2(tmp_path: Path, *simulations: Any, **environment: Any) -> list[Trajectory | Refusal]:
    path = tmp_path / "log.json"
    path.write_text(json.dumps(results(*simulations, **environment)))
    return list(tau2_bench.read(path))


def only(found: list[Trajectory | Refusal]) -> Trajectory:
    [trajectory] = found
    assert isinstance(trajectory, Trajectory), trajectory
    return trajectory


def test_real_rollouts_of_tau2_bench() -> None:
    retail, telecom = trajectories(tau2_bench.read(TAU2))
    assert [(t.task_id[:22], roles(t), t.reward) for t in (retail, telecom)] == [
        ("retail/50", "sauatatatatau", 1.0),
        ("telecom/[service_issue", "sauatatatatatau", 1.0),
    ]
    for run, num_tools in ((retail, 16), (telecom, 13)):
        assert (run.messages[0].content or "").startswith("<instructions>\nYou are a customer service agent")
        assert len(run.tools) == num_tools and run.losses == ()
        assert run.excluded == {1: "synthetic"} and run.messages[1].content == "Hi! How can I help you today?"
        assert run.metadata["foreign"]["termination_reason"] == "user_stop"
    called, answer = retail.messages[3:5]
    assert called.content is None and answer.tool_call_id == called.tool_calls[0].id
    assert called.tool_calls[0].arguments == '{"first_name": "Chen", "last_name": "Smith", "zip": "32278"}'
    both = retail.messages[9]  # against the policy the agent spoke and called in one message
    assert (both.content or "").startswith("\n\nI can see that order") and both.tool_calls[0].name.startswith(
        "transfer"
    )


def test_results_written_by_the_tool_itself() -> None:
    created, refused, continued = trajectories(tau2_bench.read(RESULTS["mock"]))
    assert [(t.task_id, roles(t), t.reward) for t in (created, refused, continued)] == [
        ("mock/create_task_1", "sauatau", 1.0),
        ("mock/update_task_1", "sauau", 0.0),
        ("mock/update_task_with_message_history", "suatauatau", 1.0),
    ]
    assert created.messages[3].tool_calls[0].arguments == '{"user_id": "user_1", "title": "Important Meeting"}'
    assert codes(created) == [("system_rebuilt", None), ("tools_not_logged", None)]
    # What the task began with was not done by this agent; what the agent did after it was.
    assert continued.excluded == {2: "copied_context", 4: "copied_context"}
    [telecom] = trajectories(tau2_bench.read(RESULTS["telecom"]))
    assert roles(telecom) == "sauauatauau" and telecom.reward == 1.0
    assert telecom.metadata["foreign"]["num_user_calls"] == 3
    assert [c.name for m in telecom.messages for c in m.tool_calls] == ["get_customer_by_phone"]
    assert "Airplane Mode is now OFF" not in "".join(m.content or "" for m in telecom.messages)


def test_results_hold_the_policy_and_seldom_the_tools(tmp_path: Path) -> None:
    bare = only(read_tau2(tmp_path, simulation(policy=None, trial=2)))
    assert (bare.id, bare.task_id, bare.messages[0].content) == ("tau2-retail-50-2", "retail/50", "Be fair.")
    assert codes(bare) == [("system_rebuilt", None), ("tools_not_logged", None)] and bare.tools == ()
    signature = {"name": "f", "doc": "Does f.", "params": {"type": "object", "properties": {}}, "returns": {}}
    full = only(read_tau2(tmp_path, simulation(), tool_defs={"f": signature}))
    assert (full.messages[0].content or "").startswith("# Retail agent policy") and codes(full) == [
        ("system_rebuilt", None)
    ]
    assert (full.tools[0].name, full.tools[0].description) == ("f", "Does f.")


def test_a_directory_of_simulations(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "first"
    (run / "simulations").mkdir(parents=True)
    (run / "results.json").write_text(json.dumps(results()))
    for number in (0, 1):
        (run / "simulations" / f"{number}.json").write_text(json.dumps(simulation(number, trial=number)))
    (run / "simulations" / "2.json").write_text("{")
    assert tau2_bench.claims(run) and not tau2_bench.claims(tmp_path) and not tau2_bench.claims(run / "results.json")
    found = list(auto.read(tmp_path / "runs"))
    assert [t.id[:13] if isinstance(t, Trajectory) else t.place for t in found] == [
        "tau2-retail-5",
        "tau2-retail-[",
        f"{run / 'simulations' / '2.json'}:1",
    ]
    assert list(tau2_bench.read(run / "results.json")) == list(tau2_bench.read(run))


def test_what_the_user_does_with_its_own_tools_is_not_seen_by_the_agent(tmp_path: Path) -> None:
    messages = json.loads(TELECOM.read_text())
    assert [m["role"][0] for m in messages] == list("auauutuautu"[:3] + "utuautu")
    run = only(read_tau2(tmp_path, simulation(messages=messages)))
    assert roles(run) == "sauauau" and run.metadata["foreign"]["num_user_calls"] == 2
    assert not any(message.tool_calls for message in run.messages)
    assert "Restarting network services" not in "".join(m.content or "" for m in run.messages)


def test_calls_that_the_user_requested_make_a_turn_unfit(tmp_path: Path) -> None:
    messages = simulation()["messages"]
    messages[2]["tool_calls"][0]["requestor"] = "user"
    run = only(read_tau2(tmp_path, simulation(messages=messages)))
    assert run.excluded == {1: "synthetic", 3: "user_requested_call"}


@pytest.mark.parametrize(
    ("end", "reward"),
    [
        ("agent_stop", 0.0),
        ("max_steps", 0.0),
        ("too_many_errors", 0.0),
        ("infrastructure_error", None),
        ("unexpected_error", None),
        ("user_error", None),
        ("context_window_exceeded", None),
    ],
)
def test_a_failure_that_is_not_the_agents_is_no_zero(end: str, reward: float | None, tmp_path: Path) -> None:
    run = only(read_tau2(tmp_path, simulation(termination_reason=end, reward_info={"reward": 0.0})))
    assert run.reward == reward


def test_results_of_parallel_calls_come_together(tmp_path: Path) -> None:
    messages = simulation()["messages"]
    first, second = messages[2:4]
    results_of = [{**second, "id": call_id, "content": call_id} for call_id in "ab"]
    first = {**first, "raw_data": None, "tool_calls": [{**first["tool_calls"][0], "id": call_id} for call_id in "ab"]}
    together = {"role": "tool", "tool_messages": results_of}
    run = only(read_tau2(tmp_path, simulation(messages=[*messages[:2], first, together, *messages[4:]])))
    assert roles(run)[:6] == "sauatt" and [m.tool_call_id for m in run.messages[4:6]] == ["a", "b"]
    assert run.messages[3].tool_calls[0].arguments == '{"first_name": "Chen", "last_name": "Smith", "zip": "32278"}'


def test_turns_that_the_model_did_not_write_or_not_in_this_context(tmp_path: Path) -> None:
    log = results(simulation())
    log["tasks"] = [{"id": "50", "initial_state": {"message_history": log["simulations"][0]["messages"][:4]}}]
    messages = log["simulations"][0]["messages"]
    messages[4]["context_truncation"] = {"messages_dropped": 3}
    messages[6]["raw_data"]["choices"][0]["finish_reason"] = "length"
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log))
    assert only(list(tau2_bench.read(path))).excluded == {
        1: "copied_context",
        3: "copied_context",
        5: "context_differs",
        7: "truncated",
    }


def test_without_a_user_the_task_is_not_in_the_messages(tmp_path: Path) -> None:
    alone = [message for message in simulation()["messages"][2:] if message["role"] != "user"]
    run = only(read_tau2(tmp_path, simulation(messages=alone)))
    assert {*run.excluded.values()} == {"context_incomplete"} and len(run.excluded) == roles(run).count("a")


def test_a_broken_simulation_does_not_spoil_the_others(tmp_path: Path) -> None:
    spoken = simulation(messages=None, ticks=[{"tick_id": 0}])
    empty = simulation(messages=[], termination_reason="infrastructure_error")
    good, *bad = read_tau2(tmp_path, simulation(), spoken, empty, {"id": "x"})
    assert isinstance(good, Trajectory)
    assert [item.place for item in bad if isinstance(item, Refusal)] == [
        f"{tmp_path / 'log.json'}, simulation {number}" for number in (2, 3, 4)
    ]
    reasons = [item.reason for item in bad if isinstance(item, Refusal)]
    assert "a spoken run in ticks" in reasons[0] and "there is no assistant message" in reasons[1]


# --- ShareGPT -----------------------------------------------------------------------------------------------------


def read_share(tmp_path: Path, *turns: Any, **row: Any) -> Trajectory:
    conversations = [{"from": speaker, "value": value} for speaker, value in turns]
    path = write(tmp_path / "share.jsonl", {"conversations": conversations, **row})
    return trajectories(sharegpt.read(path))[0]


def test_calls_of_llamafactory() -> None:
    recipes, talk, _, geometry, _ = trajectories(sharegpt.read(SHARE / "glaive_toolcall_en_demo.json"))
    assert [roles(t) for t in (recipes, talk, geometry)] == ["uauataua", "uauauauaua", "uatauatauata"]
    assert [[tool.name for tool in t.tools] for t in (recipes, talk, geometry)] == [
        ["search_recipes"],
        [],
        ["calculate_area", "calculate_discount"],
    ]
    assert recipes.messages[3] == Message(
        role="assistant",
        tool_calls=(ToolCall(name="search_recipes", arguments='{"ingredients": ["chicken", "bell peppers", "rice"]}'),),
    )
    assert (recipes.messages[4].content or "").startswith('{"recipes": [{"name": "Chicken and Bell Pepper')
    assert recipes.excluded == {} and recipes.losses == () and recipes.reward is None


def test_a_call_that_a_translation_broke_is_no_message_to_learn() -> None:
    [row] = trajectories(sharegpt.read(SHARE / "glaive_toolcall_zh_demo.json"))
    assert roles(row) == "uataua" and row.excluded == {1: "unparsable_action"}


def test_content_in_parts_with_thoughts_and_parallel_calls() -> None:
    rows = trajectories(sharegpt.read(SHARE / "reason_tool_use_demo.jsonl"))
    assert [roles(t) for t in rows] == ["sua", "suatauata", "suatauata", "sua", "suata", "sua"]
    assert [[len(m.tool_calls) for m in t.messages if m.role == "assistant"] for t in rows] == [
        *([0], [1, 0, 1, 0], [2, 0, 3, 0], [0], [2, 0], [2])
    ]
    answer = rows[0].messages[2]
    assert (answer.reasoning or "").startswith("Okay, the user is asking for schools near latitude 40")
    assert (answer.content or "").startswith("I'm sorry, but the available tools") and rows[0].tools[
        2
    ].name == "user_by_id"
    assert rows[1].messages[6].tool_calls[0].arguments == '{"title": "The Dark Knight"}'


def test_hermes_rows_with_python_literals() -> None:
    cameras, stocks = trajectories(sharegpt.read(SHARE / "hermes.jsonl"))
    assert (roles(cameras), roles(stocks)) == ("sua", "suatauataua")
    assert [call.name for call in cameras.messages[2].tool_calls] == [
        *("get_camera_live_feed", "record_camera_feed", "get_recorded_feed")
    ]
    assert cameras.messages[2].tool_calls[1].arguments == '{"camera_id": "front_door", "duration": 30}'
    assert cameras.messages[2].content is None and (cameras.messages[0].content or "").count("<tools>") == 2
    assert [tool.name for tool in cameras.tools][1:3] == ["list_all_cameras", "record_camera_feed"]
    assert cameras.tools[1].parameters["properties"]["include_offline"]["default"] is False
    called = stocks.messages[2]
    assert (called.reasoning or "").startswith("Alright, the user asked for the current") and called.content is None
    assert called.tool_calls == (ToolCall(name="get_stock_price", arguments='{"company": "Apple"}'),)
    assert stocks.messages[3].content == "{'stock_price': '$150.75'}"
    assert [tool.name for tool in stocks.tools] == ["get_stock_price", "get_movie_details"]


def test_text_around_a_call_stays_and_several_results_are_several_messages(tmp_path: Path) -> None:
    row = read_share(
        tmp_path,
        ("human", "go"),
        ("gpt", '<think>\nhm\n</think>\nI try. <tool_call>{"name": "f", "arguments": {"x":  1}}</tool_call>'),
        ("tool", "<tool_response>\n1\n</tool_response>\\n<tool_response>\n2\n</tool_response>"),
        ("gpt", " done\n"),
    )
    assert row.messages == (
        Message(role="user", content="go"),
        Message(
            role="assistant", content="I try.", reasoning="hm", tool_calls=(ToolCall(name="f", arguments='{"x": 1}'),)
        ),
        Message(role="tool", content="1"),
        Message(role="tool", content="2"),
        Message(role="assistant", content=" done\n"),
    )


@pytest.mark.parametrize(
    "said",
    [
        "<tool_call>{'name': 'f', 'arguments': {'x': 1}}",
        "<tool_call>{'arguments': {'x': 1, 'name': 'f'}}</tool_call>",
        "<tool_call>__import__('os').getcwd()</tool_call>",
        "<tool_call>{'name': 'f', 'arguments': {1, 2}}</tool_call>",
        '<tool_call>{"name": "f"}</tool_call>',
        '<tool_call>{"name": "f", "arguments": {}}</tool_call> <tool_call>f(</tool_call>',
    ],
)
def test_a_call_that_cannot_be_understood_stays_text_and_is_no_candidate(said: str, tmp_path: Path) -> None:
    row = read_share(tmp_path, ("human", "go"), ("gpt", said), ("human", "and?"), ("gpt", "no"))
    assert row.excluded == {1: "unparsable_action"} and row.messages[1].content == said
    assert row.messages[1].tool_calls == ()


@pytest.mark.parametrize("wrapped", ["\\n{}\\n", "[{}]", "\n{}\n"])
def test_a_payload_may_be_wrapped(wrapped: str, tmp_path: Path) -> None:
    payload = wrapped.replace("{}", "{'name': 'f', 'parameters': {'ok': True, 'none': None}}")
    row = read_share(tmp_path, ("human", "go"), ("gpt", f"<tool_call>{payload}</tool_call>"))
    assert row.messages[1].tool_calls == (ToolCall(name="f", arguments='{"ok": true, "none": null}'),)


def test_words_and_calls_in_neighbouring_turns_are_one_message(tmp_path: Path) -> None:
    """As ms-swift writes parallel calls."""
    call = '{"name": "f", "arguments": {"x": 1}}'
    rows = [{"role": "user", "content": "go"}, {"role": "assistant", "content": "I try."}]
    rows += [{"role": "tool_call", "content": call}] * 2 + [{"role": "tool_response", "content": "1"}] * 2
    path = write(tmp_path / "swift.jsonl", {"messages": rows, "system": "be kind", "id": 3, "score": 0.5})
    assert sharegpt.recognises(head(path))
    [row] = trajectories(sharegpt.read(path))
    assert roles(row) == "suatt" and row.messages[2].content == "I try." and len(row.messages[2].tool_calls) == 2
    assert (row.id, row.reward) == ("3", 0.5)


def test_turns_without_weight_are_context_and_media_are_losses(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": [{"type": "image_url", "value": "x.png"}, {"type": "text", "value": "look"}]},
        {"role": "assistant", "content": [{"type": "text", "value": "a"}], "loss_weight": 0.0},
        {"role": "user", "content": [{"type": "text", "value": "and?"}]},
        {"role": "assistant", "content": [{"type": "text", "value": "b"}], "loss_weight": 1.0},
    ]
    [row] = trajectories(sharegpt.read(write(tmp_path / "v1.jsonl", {"messages": turns})))
    assert row.excluded == {1: "context_only"} and codes(row) == [("image", 0)]
    marked = read_share(tmp_path, ("human", "<image>what?"), ("gpt", "a cat"), images=["x.png"])
    assert codes(marked) == [("image", 0)]


# --- Responses ----------------------------------------------------------------------------------------------------


def test_a_file_that_is_one_list_of_items_is_one_conversation(tmp_path: Path) -> None:
    [run] = trajectories(responses.read(RESPONSES / "weather.json"))
    assert (run.id, roles(run), run.excluded) == ("weather", "uatta", {})
    assert run.messages[1] == Message(
        role="assistant",
        content="I look.",
        reasoning="Two cities, two calls.",
        tool_calls=(
            ToolCall(name="get_weather", arguments='{"city":  "Paris"}', id="call_1"),
            ToolCall(name="get_weather", arguments='{"city": "Rome"}', id="call_2"),
        ),
    )
    assert [m.tool_call_id for m in run.messages[2:4]] == ["call_1", "call_2"]
    assert codes(run) == [("reasoning_encrypted", 4)]
    lines = write(tmp_path / "weather.jsonl", *head(RESPONSES / "weather.json"))
    assert trajectories(responses.read(lines))[0].messages == run.messages


def test_what_a_hosted_tool_found_is_not_in_the_log() -> None:
    [run] = trajectories(responses.read(RESPONSES / "search.jsonl"))
    assert (run.id, roles(run)) == ("search", "uata")
    assert run.losses == (Loss(code="unknown_item", message=1, detail="web_search_call"),)
    assert run.excluded == {1: "context_incomplete", 3: "context_incomplete"}


def api_calls() -> list[dict[str, Any]]:
    """Requests with the answers of the real API, from NeMo Gym's rollouts."""
    return [
        {"input": row["responses_create_params"]["input"], "response": row["response"]}
        for row in head(DATA / "nemo_gym" / "rollouts_single_step_tool_use.jsonl")
    ]


def test_real_answers_with_and_without_what_was_asked(tmp_path: Path) -> None:
    rows = api_calls()
    path = write(tmp_path / "log.jsonl", *rows, *(row["response"] for row in rows))
    assert auto.format_of(path) == "responses"
    called, told, bare_called, bare_told = trajectories(responses.read(path))
    assert [roles(t) for t in (called, told)] == [
        "suata",
        "suaua",
    ] and called.id == "resp_696194bdbb30819096430d8cb4c33d42"
    assert called.excluded == told.excluded == {} and called.losses == () and len(called.tools) == 14
    assert told.messages[4].tool_calls[0].name == "authenticate_user" and told.messages[4].content
    for alone, whole in ((bare_called, called), (bare_told, told)):
        assert alone.messages == whole.messages[-1:] and codes(alone) == [("input_not_logged", None)]
        assert alone.excluded == {0: "context_incomplete"}


def test_an_answer_that_was_cut_is_no_candidate(tmp_path: Path) -> None:
    row = api_calls()[0]
    row["response"] |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    [run] = trajectories(responses.read(write(tmp_path / "log.jsonl", {**row, "reward": 1, "task_id": "t"})))
    assert run.excluded == {4: "truncated"} and (run.reward, run.task_id) == (1.0, "t")


def test_every_kind_of_item() -> None:
    made = conversation(
        [
            {
                "role": "user",
                "content": [{"type": "input_image", "image_url": "x"}, {"type": "input_text", "text": "go"}],
            },
            {"type": "reasoning", "summary": []},
            {"type": "custom_tool_call", "call_id": "1", "name": "apply_patch", "input": "*** Begin"},
            {"type": "custom_tool_call_output", "call_id": "1", "output": "ok"},
            {"type": "local_shell_call", "call_id": "2", "action": {"type": "exec", "command": ["ls"]}},
            {"type": "local_shell_call_output", "id": "2", "output": "a.py"},
            {"type": "mcp_list_tools", "tools": [{"name": "search", "input_schema": {"type": "object"}}]},
            {"type": "mcp_call", "id": "3", "name": "search", "arguments": "{}", "output": "found"},
            {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            {"type": "compaction", "encrypted_content": "gAAA"},
            {"role": "user", "content": "on"},
            {"role": "assistant", "content": "more"},
        ]
    )
    assert "".join(message.role[0] for message in made.messages) == "uatatataua"
    calls = [call for message in made.messages for call in message.tool_calls]
    assert [(call.name, call.arguments, call.id) for call in calls] == [
        ("apply_patch", '{"input": "*** Begin"}', "1"),
        ("local_shell", '{"type": "exec", "command": ["ls"]}', "2"),
        ("search", "{}", "3"),
    ]
    assert made.messages[7].content == "No." and made.tools[0].name == "search"
    assert [(loss.code, loss.message) for loss in made.losses] == [
        ("image", 0),
        ("reasoning_stripped", 1),
        ("compaction", 7),
    ]
    assert made.excluded == {7: "context_incomplete", 9: "context_incomplete"}


def test_hosted_tools_are_a_loss_and_custom_ones_take_text() -> None:
    tools, losses = response_tools(
        [{"type": "function", "name": "f"}, {"type": "web_search"}, {"type": "custom", "name": "g"}]
    )
    assert [tool.name for tool in tools] == ["f", "g"] and tools[1].parameters["required"] == ["input"]
    assert losses == (Loss(code="unknown_item", detail="hosted tool web_search"),)


# --- inspect-ai ---------------------------------------------------------------------------------------------------


def test_both_kinds_of_log_hold_the_same() -> None:
    zipped = trajectories(inspect_ai.read(INSPECT / "arithmetic.eval"))
    plain = trajectories(inspect_ai.read(INSPECT / "arithmetic.json"))
    assert {t.id: (t.messages, t.excluded, t.reward) for t in zipped} == {
        t.id: (t.messages, t.excluded, t.reward) for t in plain
    }
    assert [t.id for t in zipped] == ["arithmetic-sums-1", "arithmetic-7-1", "arithmetic-sums-2", "arithmetic-7-2"]
    assert {t.task_id for t in zipped} == {"arithmetic/sums", "arithmetic/7"}


def test_a_sample_with_its_tools_thoughts_and_grade() -> None:
    sums = trajectories(inspect_ai.read(INSPECT / "arithmetic.eval"))[0]
    assert (roles(sums), sums.reward, sums.excluded, sums.losses) == ("suatta", 1.0, {}, ())
    assert sums.messages[2] == Message(
        role="assistant",
        content="Both at once.",
        reasoning="Two sums, so two calls.",
        tool_calls=(
            ToolCall(name="add", arguments='{"x": 2, "y": 3}', id="c1"),
            ToolCall(name="add", arguments='{"x": 4, "y": 5}', id="c2"),
        ),
    )
    [add] = sums.tools
    assert add.description.startswith("Add two numbers and return their sum, with") and add.parameters["required"]


def test_turns_of_a_log_that_are_no_candidates() -> None:
    by_id = {t.id: t for t in trajectories(inspect_ai.read(INSPECT / "arithmetic.eval"))}
    shown, failed = by_id["arithmetic-7-1"], by_id["arithmetic-sums-2"]
    assert roles(shown) == "suauata" and shown.excluded == {2: "context_only", 6: "truncated"}
    assert shown.messages[5].content == "only natural numbers can be added" and codes(shown) == [("image", 3)]
    assert failed.excluded == {2: "unparsable_action"} and failed.reward == 0.0


def test_what_the_model_wrote_and_not_what_the_agent_made_of_it() -> None:
    [run] = trajectories(inspect_ai.read(INSPECT / "delegation.eval"))
    assert roles(run) == "suata" and run.excluded == {} and run.reward == 1.0
    assert run.messages[4].tool_calls == (ToolCall(name="submit", arguments='{"answer": "42"}', id="d2"),)
    assert [tool.name for tool in run.tools] == ["helper", "submit"]
    assert run.losses == (Loss(code="subagent", detail="2 model calls made none of the messages"),)


def test_the_reward_is_the_score_that_is_named() -> None:
    path = INSPECT / "arithmetic.json"
    by_scorer = {
        scorer: {t.id: t.reward for t in trajectories(inspect_ai.read(path, scorer=scorer))}
        for scorer in ("includes", "steps", "steps.calls", "steps.tidy")
    }
    assert [by_scorer[name]["arithmetic-sums-1"] for name in by_scorer] == [1.0, None, 1.0, 1.0]
    assert by_scorer["steps.calls"]["arithmetic-7-1"] is None  # left unscored, which is written as NaN
    refused = list(inspect_ai.read(path, scorer="typo"))
    assert all(isinstance(item, Refusal) and "there are includes, steps" in item.reason for item in refused)


def read_sample(tmp_path: Path, **changes: Any) -> Trajectory:
    log = log_of_one_sample()
    log["samples"][0] |= changes
    return trajectories(inspect_ai.read(write(tmp_path / "log.json", log)))[0]


def test_a_sample_that_failed_has_no_known_reward(tmp_path: Path) -> None:
    assert read_sample(tmp_path).reward == 0.0
    assert read_sample(tmp_path, error={"message": "boom"}).reward is None
    assert read_sample(tmp_path, scores={"judge": {"value": "P"}}).reward == 0.5
    assert read_sample(tmp_path, scores={"judge": {"value": "maybe"}}).reward is None
    assert read_sample(tmp_path, scores=None).reward is None


def test_a_turn_that_saw_another_context_is_no_candidate(tmp_path: Path) -> None:
    messages = log_of_one_sample()["samples"][0]["messages"]
    messages[1]["content"] = "What is 10 + 10?"
    assert read_sample(tmp_path, messages=messages).excluded[4] == "context_differs"
    inserted = {"role": "assistant", "id": "new", "content": "Let me think."}
    assert read_sample(tmp_path, messages=[*messages, inserted]).excluded[7] == "synthetic"


def test_logs_without_model_calls_are_read_as_they_are(tmp_path: Path) -> None:
    run = read_sample(tmp_path, events=[], events_data=None)
    assert roles(run) == "suauata" and run.tools == () and run.excluded == {2: "context_only"}


def test_logs_need_zstandard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(InputError, match=r"needs zstandard: pip install .*\[formats\]"):
        list(inspect_ai.read(INSPECT / "arithmetic.eval"))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_never_unpacked_beyond_the_bound(method: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("zeros", bytes(1 << 20))
        archive.writestr("few", b"abc")
    with zipfile.ZipFile(path) as archive:
        assert unpacked(path, archive, "few", max_bytes=3) == b"abc"
        with pytest.raises(ValueError, match="unpacks to more than 1000 bytes"):
            unpacked(path, archive, "zeros", max_bytes=1000)
    with zipfile.ZipFile(INSPECT / "arithmetic.eval") as archive, pytest.raises(ValueError, match="unpacks to more"):
        unpacked(INSPECT / "arithmetic.eval", archive, "samples/7_epoch_1.json", max_bytes=1000)


def test_logs_are_claimed_by_their_first_bytes(tmp_path: Path) -> None:
    for name in ("notes.eval", "notes.json"):
        (tmp_path / name).write_text('{"eval": 1}')
        assert not inspect_ai.claims(tmp_path / name)
    assert not inspect_ai.claims(tmp_path) and not inspect_ai.claims(tmp_path / "nowhere.eval")
    shutil.copy(INSPECT / "arithmetic.json", tmp_path / "log.txt")
    assert not inspect_ai.claims(tmp_path / "log.txt")
