"""An inferred schema accepts every call it was inferred from, and says no more than was seen.

Run alone: python -m pytest tests/test_tool_inference.py
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl.judging.arguments.values import compare_json
from pivotrl.reading.audit import audit
from pivotrl.reading.chat_messages import chat_messages
from pivotrl.reading.tool_inference import ToolObserver
from pivotrl.records import Message, ToolCall, Trajectory


def inferred(*calls: tuple[str, Any]) -> dict[str, dict[str, Any]]:
    observer = ToolObserver()
    for name, arguments in calls:
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        message = Message(role="assistant", tool_calls=(ToolCall(name=name, arguments=text),))
        observer.observe(Trajectory(id="t", task_id="t", messages=(message,)))
    return {tool.name: tool.parameters for tool in observer.tools()}


def accepts(schema: dict[str, Any], value: Any) -> bool:
    """An independent reading of the few JSON schema words that are used."""
    if "anyOf" in schema:
        return any(accepts(part, value) for part in schema["anyOf"])
    kind = schema["type"]
    if kind == "object":
        properties = schema.get("properties", {})
        return (
            isinstance(value, dict)
            and set(schema.get("required", ())) <= value.keys()
            and all(accepts(properties[key], item) for key, item in value.items() if key in properties)
        )
    if kind == "array":
        return isinstance(value, list) and all(accepts(schema["items"], item) for item in value if "items" in schema)
    kinds = {"string": str, "boolean": bool, "null": type(None), "integer": int, "number": (int, float)}
    return isinstance(value, kinds[kind]) and (kind == "boolean" or not isinstance(value, bool))


GUESTS = [{"age": 3}, {"age": 4, "name": "x"}]


def test_types_are_merged_and_required_is_what_every_call_gave() -> None:
    tools = inferred(
        ("book", {"city": "Rome", "nights": 2, "price": 3, "extra": None}),
        ("book", {"city": "Oslo", "nights": 1, "price": 2.5, "extra": "sea", "guests": GUESTS}),
        ("stop", {}),
    )  # fmt: skip
    assert tools["stop"] == {"type": "object"}
    assert tools["book"]["required"] == ["city", "nights", "price", "extra"]
    assert tools["book"]["properties"] == {
        "city": {"type": "string"},
        "nights": {"type": "integer"},
        "price": {"type": "number"},
        "extra": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        "guests": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"age": {"type": "integer"}, "name": {"type": "string"}},
                "required": ["age"],
            },
        },
    }


def test_arguments_that_are_no_object_tell_only_the_name() -> None:
    assert inferred(("f", "{bad"), ("f", "[1]")) == {"f": {"type": "object"}}


def test_an_object_with_ever_new_keys_is_a_map() -> None:
    calls = [("f", {"scores": {f"player{i}": i}}) for i in range(300)]
    assert inferred(*calls)["f"]["properties"] == {"scores": {"type": "object"}}


def test_the_tools_of_real_episodes() -> None:
    """By eye: six episodes of tau-bench airline call these seven tools; one books a flight, for two guests."""
    rows = json.loads((Path(__file__).parent / "data/tau_bench/gpt-4o-airline.json").read_text())
    episodes = [Trajectory(id="t", task_id="t", messages=chat_messages(row["traj"])) for row in rows]
    observer = ToolObserver()
    for episode in episodes:
        observer.observe(episode)
    tools = {tool.name: tool for tool in observer.tools()}
    assert list(tools) == [
        "transfer_to_human_agents", "get_reservation_details", "think", "cancel_reservation", "get_user_details",
        "search_direct_flight", "book_reservation",
    ]  # fmt: skip
    assert not any(tool.description for tool in tools.values())
    booking = tools["book_reservation"].parameters
    assert booking["properties"]["total_baggages"] == {"type": "integer"}
    assert booking["properties"]["passengers"]["items"]["required"] == ["first_name", "last_name", "dob"]
    assert booking["properties"]["insurance"] == {"type": "string"}  # "no" each time, and yet no choice is guessed
    # with them, no call of these episodes is unknown or malformed
    for episode in episodes:
        audited = audit(episode.model_copy(update={"tools": observer.tools()}))
        assert not {"unknown_tool", "bad_arguments"} & set(audited.excluded.values())
        for call in (call for message in episode.messages for call in message.tool_calls):
            assert accepts(tools[call.name].parameters, json.loads(call.arguments))


def test_calls_that_the_harness_refused_make_no_tool() -> None:
    def message(name: str) -> Message:
        return Message(role="assistant", tool_calls=(ToolCall(name=name, arguments='{"x": 1}'),))

    observer = ToolObserver()
    names = ("good", "hallucinated", "garbled", "copied")
    excluded = {1: "error_turn", 2: "unparsable_action", 3: "copied_context"}
    observer.observe(Trajectory(id="t", task_id="t", messages=tuple(map(message, names)), excluded=excluded))
    assert [tool.name for tool in observer.tools()] == ["good", "copied"]


def test_an_integer_among_numbers_is_a_number_and_a_boolean_is_neither() -> None:
    schema = inferred(("f", {"a": 1, "b": True, "c": 1}), ("f", {"a": 1.0, "b": 0, "c": True}), ("f", {"c": 2.5}))["f"]
    assert schema["properties"] == {
        "a": {"type": "number"},
        "b": {"anyOf": [{"type": "boolean"}, {"type": "integer"}]},
        "c": {"anyOf": [{"type": "boolean"}, {"type": "number"}]},
    }
    assert schema["required"] == ["c"]


def test_an_empty_list_says_nothing_of_its_items() -> None:
    assert inferred(("f", {"x": []}))["f"]["properties"] == {"x": {"type": "array"}}
    assert inferred(("f", {"x": []}), ("f", {"x": [1, [2]]}))["f"]["properties"]["x"] == {
        "type": "array",
        "items": {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "integer"}]},
    }


def test_what_is_kept_does_not_grow_with_the_calls() -> None:
    def size(num_calls: int) -> int:
        deep: Any = {}
        for _ in range(90):
            deep = {"down": deep}
        return len(
            json.dumps(inferred(*(("f", {f"k{i % 5}": {f"n{i}": [i]}, "d": deep}) for i in range(num_calls)))["f"])
        )

    assert size(1500) == size(1200) < 3000


_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(-1, 1), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("abc", max_size=2), inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(st.text("abc", max_size=2), _VALUES, max_size=4), min_size=1, max_size=6), st.randoms())
def test_the_order_of_the_calls_does_not_matter(calls: list[dict[str, Any]], random: Random) -> None:
    shuffled = random.sample(calls, len(calls))
    one, other = (inferred(*(("f", arguments) for arguments in order))["f"] for order in (calls, shuffled))
    assert canonical(one) == canonical(other)


def canonical(schema: Any) -> Any:
    """The schema without the order of its lists, which is that of the first calls."""
    if isinstance(schema, list):
        return sorted(map(canonical, schema), key=repr)
    return {key: canonical(schema[key]) for key in sorted(schema)} if isinstance(schema, dict) else schema


@given(st.lists(st.dictionaries(st.text("abc", min_size=1, max_size=2), _VALUES, max_size=4), min_size=1, max_size=6))
def test_every_observed_call_fits_the_schema(calls: list[dict[str, Any]]) -> None:
    schema = inferred(*(("f", arguments) for arguments in calls))["f"]
    for arguments in calls:
        assert accepts(schema, arguments)
        assert compare_json(arguments, arguments, schema) is None
