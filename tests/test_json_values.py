"""Equality of JSON arguments: what counts as the same call, what does not, and what is refused.

Run alone: python -m pytest tests/test_json_values.py
"""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl.judging.arguments.values import Difference, compare_json
from pivotrl.judging.messages.free_text import same_text
from pivotrl.judging.messages.pairing import match_all
from pivotrl.records.strict_json import parse_json

SCHEMA = {
    "type": "object",
    "properties": {
        "user_id": {"type": "string"},
        "cabin": {"type": "string", "enum": ["economy", "business"]},
        "date": {"type": "string", "format": "date"},
        "note": {"type": "string"},
        "bags": {"type": "integer", "default": 1},
        "price": {"type": "number"},
        "timeout": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": 30},
        "flights": {"type": "array", "items": {"$ref": "#/$defs/Flight"}},
        "payment": {"anyOf": [{"$ref": "#/$defs/Card"}, {"$ref": "#/$defs/Cash"}]},
        "color": {"anyOf": [{"enum": ["red", "blue"]}, {"type": "string"}]},
    },
    "required": ["note"],
    "$defs": {
        "Flight": {
            "type": "object",
            "properties": {"number": {"type": "string"}, "seat": {"type": "string", "default": "any"}},
            "required": ["number"],
        },
        "Card": {
            "type": "object",
            "properties": {"kind": {"const": "card"}, "last4": {"type": "string"}, "save": {"default": False}},
            "required": ["kind"],
        },
        "Cash": {
            "type": "object",
            "properties": {"kind": {"const": "cash"}, "save": {"default": True}},
            "required": ["kind"],
        },
    },
}


@pytest.mark.parametrize(
    ("expected", "actual", "difference"),
    [
        (1, True, ("different_type", "")),
        ({"a": False}, {"a": 0}, ("different_type", "a")),
        ({"a": 0}, {"a": None}, ("different_type", "a")),
        ({"a": "5"}, {"a": 5}, ("different_type", "a")),
        ({"a": [1, 2]}, {"a": [2, 1]}, ("different_value", "a[0]")),
        ({"a": [1]}, {"a": [1, 2]}, ("different_length", "a")),
        ({"a": 1}, {"a": 1, "b": None}, ("unexpected_argument", "b")),
        ({"a": 1, "b": None}, {"a": 1}, ("missing_argument", "b")),
        ({"a": "Paris"}, {"a": "Paris "}, ("different_value", "a")),
        ({"a": "Paris"}, {"a": "paris"}, ("different_value", "a")),
        ({"user_id": "u1"}, {"user_id": "u1 "}, ("different_value", "user_id")),
        (
            {"f": [{"date": "x"}, {"date": "y"}]},
            {"f": [{"date": "x"}, {"date": "z"}]},
            ("different_value", "f[1].date"),
        ),
        ({"a b": {"": 1}}, {"a b": {"": 2}}, ("different_value", '["a b"][""]')),
        (2**53, 2.0**53, None),
        (2**53 + 1, 2.0**53, ("different_value", "")),
    ],
)
def test_untyped_comparison(expected: Any, actual: Any, difference: tuple[str, str] | None) -> None:
    assert compare_json(expected, actual) == (difference and Difference(*difference))


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ({"note": "n", "price": 5}, {"note": "n", "price": 5.0}),
        ({"note": "n", "bags": 2}, {"note": "n", "bags": 2.0}),
        ({"note": "n"}, {"note": "n", "bags": 1}),
        ({"note": "n", "price": None}, {"note": "n"}),
        ({"note": "n", "timeout": 30}, {"note": "n"}),
        ({"note": "n", "flights": [{"number": "1"}]}, {"note": "n", "flights": [{"seat": "any", "number": "1"}]}),
        ({"note": "n", "payment": {"kind": "card"}}, {"note": "n", "payment": {"kind": "card", "save": False}}),
        ({"note": "n", "payment": {"kind": "cash"}}, {"note": "n", "payment": {"kind": "cash", "save": True}}),
    ],
)
def test_schema_makes_equal(expected: Any, actual: Any) -> None:
    assert compare_json(expected, actual, SCHEMA) is None
    assert compare_json(actual, expected, SCHEMA) is None


@pytest.mark.parametrize("expected", [{"note": "n"}, {"note": "n", "bags": 1}])
def test_null_where_the_default_is_one_leaves_it_open(expected: Any) -> None:
    """Some tools take the default for null, others refuse the call."""
    given = {"note": "n", "bags": None}
    for one, other in ((expected, given), (given, expected)):
        found = compare_json(one, other, SCHEMA)
        assert found is not None and found.is_open and found.path == "bags"
    other_value = compare_json({"note": "n", "bags": 2}, given, SCHEMA)
    assert other_value is not None and not other_value.is_open


@pytest.mark.parametrize(
    ("expected", "actual", "reason", "path"),
    [
        ({"note": "n"}, {"note": "n "}, "different_value", "note"),
        ({"note": "n"}, {}, "missing_argument", "note"),
        ({"note": "n"}, {"note": None}, "different_type", "note"),
        ({"note": None}, {}, "missing_argument", "note"),
        # not one of the choices, so a free text, where blanks count
        ({"note": "n", "color": "my red"}, {"note": "n", "color": "my red "}, "different_value", "color"),
        ({"note": "n"}, {"note": "n", "bags": 2}, "unexpected_argument", "bags"),
        ({"note": "n", "bags": 2}, {"note": "n", "bags": 1}, "different_value", "bags"),
        ({"note": "n", "bags": 1}, {"note": "n", "bags": True}, "different_type", "bags"),
        ({"note": "n"}, {"note": "n", "unknown": None}, "unexpected_argument", "unknown"),
        # null is itself a choice here (no timeout), and another one than the default of 30
        ({"note": "n"}, {"note": "n", "timeout": None}, "unexpected_argument", "timeout"),
        (
            {"note": "n", "flights": [{"number": "1"}, {"number": "2"}]},
            {"note": "n", "flights": [{"number": "1"}, {"number": "2", "seat": "4A"}]},
            "unexpected_argument",
            "flights[1].seat",
        ),
        # the alternative is chosen by its constant: what cash defaults to is news for a card
        (
            {"note": "n", "payment": {"kind": "card"}},
            {"note": "n", "payment": {"kind": "card", "save": True}},
            "unexpected_argument",
            "payment.save",
        ),
    ],
)
def test_schema_keeps_apart(expected: Any, actual: Any, reason: str, path: str) -> None:
    assert compare_json(expected, actual, SCHEMA) == Difference(reason, path)


def test_case_is_ignored_in_values_only() -> None:
    assert compare_json({"city": "STRAßE"}, {"city": "straße"}, ignore_case=True) is None
    assert compare_json({"city": "Maße"}, {"city": "Masse"}, ignore_case=True) is not None
    assert compare_json({"city": "x"}, {"City": "x"}, ignore_case=True) == Difference("missing_argument", "city")


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}},
        {"$ref": 5, "properties": [], "required": True, "type": {"a": 1}},
        {"anyOf": 3, "properties": {"a": {"anyOf": [7, None], "enum": {}}}},
        {"properties": {"a": True}, "required": [["a"]], "items": 1},
        {"allOf": [{"allOf": [{"$ref": "#/allOf/0"}]}]},
    ],
)
def test_malformed_schema_says_nothing(schema: dict[str, Any]) -> None:
    assert compare_json({"a": 1}, {"a": 1.0}, schema) is None
    assert compare_json({"a": 1}, {"a": 2}, schema) == Difference("different_value", "a")


@pytest.mark.parametrize(
    ("schema", "expected", "actual", "equal"),
    [
        (
            {"allOf": [{"properties": {"x": {"type": "integer"}}}, {"properties": {"y": {"default": 0}}}]},
            {"x": 1},
            {"x": 1, "y": 0},
            True,
        ),
        ({"allOf": [{"$ref": "#/$defs/Y"}, {"properties": {"x": {"default": 1}}}]}, {}, {"x": 1, "y": 0}, True),
        ({"allOf": [{"$ref": "#/$defs/Y"}, {"properties": {"x": {"default": 1}}}]}, {}, {"x": 1, "y": 1}, False),
        ({"allOf": [{"$ref": "#/$defs/Y"}, {"required": ["y"]}]}, {}, {"y": 0}, False),
        ({"$ref": "#/$defs/Y", "properties": {"x": {"default": 1}}}, {}, {"x": 1, "y": 0}, True),
        (
            {"allOf": [{"properties": {"y": {"type": "integer"}}}, {"properties": {"y": {"default": 0}}}]},
            {},
            {"y": 0},
            True,
        ),
        (
            {"anyOf": [{"type": "string"}, {"allOf": [{"$ref": "#/$defs/Y"}, {"type": "object"}]}]},
            {"x": 1},
            {"x": 1, "y": 0},
            True,
        ),
        (
            {"properties": {"o": {"default": {"x": 1, "y": 0}, "properties": {"y": {"default": 0}}}}},
            {"o": {"x": 1}},
            {},
            True,
        ),
        (
            {"properties": {"o": {"default": {"x": 1, "y": 0}, "properties": {"y": {"default": 0}}}}},
            {"o": {"x": 2}},
            {},
            False,
        ),
        (
            {"allOf": [{"items": {"$ref": "#/$defs/Y"}}, {"uniqueItems": True}]},
            [{}, {"x": 1}],
            [{"y": 0}, {"x": 1}],
            True,
        ),
        ({"allOf": [{"$ref": "#"}, {"properties": {"y": {"default": 0}}}]}, {"y": 1}, {"y": 0}, False),
    ],
)
def test_all_parts_of_a_schema_count(schema: Any, expected: Any, actual: Any, equal: bool) -> None:
    schema = {**schema, "$defs": {"Y": {"type": "object", "properties": {"y": {"type": "integer", "default": 0}}}}}
    assert (compare_json(expected, actual, schema) is None) is equal
    assert (compare_json(actual, expected, schema) is None) is equal


def test_nested_defaults_take_linear_time() -> None:
    """Each level has a default as deep as the values: comparing defaults by their schema would take 3**60 steps."""
    deep: Any = 0
    other: Any = 1
    for _ in range(60):
        deep, other = {"x": deep}, {"x": other}
    schema = {"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"x": {"$ref": "#/$defs/A", "default": deep}}}}}
    found = compare_json(other, {"x": other}, schema)
    assert found is not None and found.reason == "different_type"


def test_python_values_that_are_not_json_are_refused() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    for value in (float("nan"), {"a": float("inf")}, {1, 2}, deep):
        with pytest.raises(ValueError):
            compare_json(value, value)


def test_text_is_stripped_and_none_is_empty() -> None:
    assert same_text(" a\n", "a") and same_text(None, " ")
    assert not same_text("a", "A") and not same_text("a b", "a  b")


quick = settings(max_examples=80, deadline=None, database=None)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from([0.0, 1.0, 0.5])
    | st.sampled_from(["", "a", "A "]),
    lambda child: (
        st.lists(child, max_size=3) | st.dictionaries(st.sampled_from([*SCHEMA["properties"], "x"]), child, max_size=4)
    ),
    max_leaves=8,
)
SCHEMAS = st.sampled_from(
    [None, SCHEMA, {"properties": {"x": SCHEMA, "note": {"default": 1}, "bags": {"default": {}}}}]
)


def reorder(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reorder(value[key]) for key in reversed(value)}
    return [reorder(item) for item in value] if isinstance(value, list) else value


@quick
@given(JSON, SCHEMAS, st.booleans())
def test_equality_is_reflexive_blind_to_key_order_and_survives_a_round_trip(
    value: Any, schema: dict[str, Any] | None, ignore_case: bool
) -> None:
    for other in (value, reorder(value), parse_json(json.dumps(value))):
        assert compare_json(value, other, schema, ignore_case=ignore_case) is None


@quick
@given(JSON, JSON, SCHEMAS)
def test_equality_is_symmetric(one: Any, other: Any, schema: dict[str, Any] | None) -> None:
    there, back = compare_json(one, other, schema), compare_json(other, one, schema)
    assert (there is None) == (back is None)


@quick
@given(JSON, JSON)
def test_untyped_equality_is_that_of_python_with_booleans_told_apart(one: Any, other: Any) -> None:
    def tag(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: tag(item) for key, item in value.items()}
        if isinstance(value, list):
            return [tag(item) for item in value]
        return ("boolean", value) if isinstance(value, bool) else value

    assert (compare_json(one, other) is None) == (tag(one) == tag(other))


def test_matching_gives_way_where_the_first_choice_blocks() -> None:
    assert match_all([[0, 1], [0]]) == {0: 1, 1: 0}
    assert match_all([[0], [0]]) == {0: 0}
    assert match_all([]) == {}


@quick
@given(st.integers(0, 5).flatmap(lambda n: st.lists(st.lists(st.integers(0, 4), unique=True), min_size=n, max_size=n)))
def test_matching_is_valid_and_as_large_as_brute_force_finds(edges: list[list[int]]) -> None:
    matched = match_all(edges)
    assert all(right in edges[left] for left, right in matched.items())
    assert len(set(matched.values())) == len(matched)
    choices = itertools.product(*([None, *row] for row in edges))
    used = ([right for right in choice if right is not None] for choice in choices)
    assert len(matched) == max(len(rights) for rights in used if len(set(rights)) == len(rights))


def test_matching_of_thousands_does_not_recurse() -> None:
    edges = [[i, i + 1] for i in range(1, 3000)] + [[1]]  # the last one pushes every other on by one
    assert len(match_all(edges)) == 3000
