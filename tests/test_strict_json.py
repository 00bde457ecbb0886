"""JSON is read strictly, and the fast way never reads what the strict way refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pivotrl.records import strict_json
from pivotrl.records.strict_json import parse_arguments, parse_json


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "Expecting value"),
        ("{'a': 1}", "property name"),
        ('{"a": 1} x', "Extra data"),
        ('{"a": 1, "a": 2}', "'a' occurs twice"),
        ('{"a": {"b": 1, "b": 1}}', "'b' occurs twice"),
        ('{"a": NaN}', "NaN"),
        ("[-Infinity]", "-Infinity"),
        ("[1e400]", "too large"),
        ("9" * 5000, "too large"),
        ('"\\ud800"', "surrogate"),
        ('{"\\udc00": 1}', "surrogate"),
        ("[" * 101 + "]" * 101, "deeper than 100"),
        ('{"a":' * 101 + "1" + "}" * 101, "deeper than 100"),
        ("[" * 200_000, "deeper than 100"),
    ],
)
def test_strict_json_refuses(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ('{"b": ["a:",\n {"a": "\\"",\n  "a": 1}]}', 3, 3),
        ('[1,\n"NaN", NaN]', 2, 8),
        ("[1.5,\n-1e999]", 2, 1),
        ('["ok",\n "\\ud83d\\ude00", "\\ud83d"]', 2, 18),
        ("[\n" * 101 + "]" * 101, 101, 1),
    ],
)
def test_a_fault_has_a_place(text: str, line: int, column: int) -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        parse_json(text)
    assert (caught.value.lineno, caught.value.colno) == (line, column)


def test_strict_json_accepts_what_is_at_the_limits() -> None:
    assert parse_json("[" * 100 + "1" + "]" * 100)
    assert parse_json("9" * 308) == int("9" * 308)
    assert parse_json('"\\ud83d\\ude00"') == "😀"


@pytest.mark.parametrize("text", ["[1]", "null", '"{}"', "5"])
def test_arguments_must_be_an_object(text: str) -> None:
    with pytest.raises(ValueError, match="not an object but"):
        parse_arguments(text)


_TEXTS = st.text(st.sampled_from('ab"\\\\:,{}[] \n\u00e9\U0001f600'), max_size=8)
_NUMBERS = st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False))
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, _TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_TEXTS, inner, max_size=4)),
    max_leaves=12,
)


def _strictly(text: str) -> Any:
    try:
        return repr(strict_json._parse_slowly(text))
    except ValueError:
        return "refused"


def _as_read(text: str) -> Any:
    try:
        return repr(parse_json(text))
    except ValueError:
        return "refused"


@given(_VALUES, st.booleans())
def test_the_fast_way_reads_what_was_written(value: Any, ascii_only: bool) -> None:
    assert repr(parse_json(json.dumps(value, ensure_ascii=ascii_only))) == repr(value)


@given(_VALUES, st.lists(st.tuples(st.integers(0, 200), st.sampled_from('"\\\\:,{}[]1aeE.- \x00')), max_size=3))
def test_a_spoilt_text_is_read_as_the_strict_way_reads_it(value: Any, edits: list[tuple[int, str]]) -> None:
    text = json.dumps(value)
    for place, character in edits:
        place %= len(text) + 1
        text = text[:place] + character + text[place:]
    assert _as_read(text) == _strictly(text)


@given(
    st.lists(st.tuples(_TEXTS, st.one_of(_TEXTS, st.integers(), st.none())), min_size=1, max_size=5),
    st.sampled_from(["", " "]),
)
def test_repeated_keys_are_never_swallowed(pairs: list[tuple[str, Any]], blank: str) -> None:
    """Keys and values of quotes and backslashes, the characters that the counting must not be fooled by."""
    text = "{" + ",".join(f"{json.dumps(key)}{blank}:{json.dumps(value)}" for key, value in pairs) + "}"
    if len({key for key, _ in pairs}) < len(pairs):
        with pytest.raises(ValueError, match="occurs twice"):
            parse_json(text)
    else:
        assert parse_json(text) == dict(pairs)
