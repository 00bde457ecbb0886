"""Every form in which agents write actions: read, written, read back, cut off anywhere, filled with hostile text."""

# ruff: noqa: E501, RUF001 - samples stand on one line; some characters are DeepSeek's own

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pivotrl import Action, InputError, Tool, ToolCall
from pivotrl.parsing import action_text, canonical, parse_completion, style_names, write_action

DATA = Path(__file__).parent / "data"
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # other work may slow the machine
CALLING = ("deepseek", "glm", "harmony", "hermes", "llama", "mistral", "mistral_args", "plain_json", "qwen_xml")
CALLING += ("gemma", "lfm2")
MARKS = (
    "<tool_call>", "</tool_call>", "<think>", "</think>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", "```", "```bash\n",
    '{"name": "f", "arguments": {}}', "</function>", "</parameter>", "<function=f>", "</arg_value>", "<|message|>",
    "<|end|><|start|>assistant", "<|im_end|>", "<｜tool▁call▁end｜>", "<｜tool▁calls▁begin｜>", '"}', "\n",
    "<|tool_call_start|>[f()]", ")]<|tool_call_end|>", "<|tool_call>call:f{", "}<tool_call|>", "',", "\\'", "\\", "; ",
)  # fmt: skip
TOOL = Tool(
    name="find",
    parameters={
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "count": {"type": "integer"},
            "ratio": {"type": ["number", "null"]},
            "deep": {"anyOf": [{"type": "object"}, {"type": "array"}]},
            "flag": {"type": "boolean"},
        },
    },
)


def call(name: str, arguments: Any = None, **named: Any) -> ToolCall:
    return ToolCall(name=name, arguments=json.dumps(named if arguments is None else arguments, ensure_ascii=False))


def action(*calls: ToolCall, content: str | None = None) -> Action:
    return Action(content=content, tool_calls=calls)


F = action(call("f", a=1))

# --- what each style reads --------------------------------------------------------------------------------------------

READ = [
    ("hermes", '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>', F),
    ("hermes", 'ok <tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>', F.model_copy(update={"content": "ok"})),
    ("hermes", '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', F),
    ("llama", '{"name": "f", "parameters": {"a": 1}}', F),
    ("llama", '<|python_tag|>{"name": "f", "parameters": {"a": 1}}', F),
    ("llama", '{"name": "f", "parameters": {"a": 1}}; {"name": "g"}', action(call("f", a=1), call("g"))),
    ("mistral", '[TOOL_CALLS] [{"name": "f", "arguments": {"a": 1}, "id": "abcdefghi"}]', F),
    ("mistral", '[TOOL_CALLS]f[ARGS]{"a": 1}', F),
    ("mistral_args", '[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{}', action(call("f", a=1), call("g"))),
    ("plain_json", '[{"name": "f", "arguments": {"a": 1}}, {"name": "g"}]', action(call("f", a=1), call("g"))),
    ("glm", "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>", action(call("f", a="1"))),
    ("qwen_xml", "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>", action(call("f", a="1"))),
    ("deepseek", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\": 1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>", F),
    ("harmony", '<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}', F),
    ("harmony", "<|channel|>final<|message|>hello", Action(content="hello")),
    ("lfm2", "ok <|tool_call_start|>[f(a=1), g()]<|tool_call_end|>", action(call("f", a=1), call("g"), content="ok")),
    ("lfm2", "<|tool_call_start|>[f(a='it\\'s', b=[1, 'x', None], c={\"d\": true}, e=-2.5)]<|tool_call_end|>", action(call("f", a="it's", b=[1, "x", None], c={"d": True}, e=-2.5))),
    ("gemma", '<|tool_call>call:f{a:1}<tool_call|><|tool_call>call:g{}<tool_call|>', action(call("f", a=1), call("g"))),
    ("gemma", '<|tool_call>call:f{a:<|"|>"b", c<|"|>,d:{e:[true,None,<|"|><|"|>]}}<tool_call|>', action(call("f", a='"b", c', d={"e": [True, None, ""]}))),
    ("bash", "Look.\n\n```bash\nls -la\ncat x\n```", action(call("bash", command="ls -la\ncat x"), content="Look.")),
    ("bash", "```python\nprint(1)\n```", Action(content="```python\nprint(1)\n```")),
    ("text", '<tool_call>{"name": "f"}</tool_call>', Action(content='<tool_call>{"name": "f"}</tool_call>')),
]  # fmt: skip


@pytest.mark.parametrize(("style", "text", "expected"), READ)
def test_each_style_is_read(style: str, text: str, expected: Action) -> None:
    assert parse_completion(text, style) == (expected, None)
    assert parse_completion(f"<think>\nperhaps {text}\n</think>\n\n{text}", style) == (expected, None)
    assert parse_completion(f"perhaps {text}\n</think>\n\n{text}", style, inside_thought=True) == (expected, None)


BROKEN = [
    ("hermes", '<tool_call>{"name": "f", "argum', "tool_call_not_closed"),
    ("hermes", "<tool_call>{not json}</tool_call>", "tool_call_is_not_json"),
    ("hermes", '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>', "tool_call_is_not_json"),
    ("hermes", '<tool_call>{"name": "f", "arguments": {"a": 1, "a": 2}}</tool_call>', "tool_call_is_not_json"),
    ("hermes", "<tool_call>[1]</tool_call>", "tool_call_has_no_name"),
    ("hermes", '<tool_call>{"name": "f", "parameters": {"a": 1}}</tool_call>', "tool_call_has_no_arguments"),
    ("hermes", "I will call it: <tool_ca", "tool_call_not_closed"),
    ("hermes", '```\n<tool_call>{"name": "f", "arguments": {}}</tool_call>\n```', "tool_call_in_code_fence"),
    ("hermes", 'so:\n```json\n<tool_call>{"name": "f", "arguments": {}}</tool_call> ```', "tool_call_in_code_fence"),
    ("hermes", "<think>never ends", "thought_not_closed"),
    ("hermes", "an answer</think>another", "thought_inside_text"),
    ("llama", '{"name": "f", "parameters": {"a": 1}} and so on', "text_after_tool_call"),
    ("llama", 'Sure: {"name": "f", "parameters": {"a": 1}}', "tool_call_inside_text"),
    ("llama", '<|python_tag|>search.call(query="x")', "tool_call_is_not_json"),
    ("mistral", '[TOOL_CALLS] [{"name": "f", "arguments": {}}', "tool_call_not_closed"),
    ("mistral", "[TOOL_CALLS]f[ARGS]{} done", "text_after_tool_call"),
    ("mistral_args", "[TOOL_CALLS]fin", "tool_call_not_closed"),
    ("plain_json", '[{"name": "f", "arguments": {}}', "tool_call_not_closed"),
    ("qwen_xml", "<tool_call><function=f><parameter=a>1</parameter></tool_call>", "tool_call_is_malformed"),
    ("qwen_xml", "<function=f></function>", "tool_call_not_closed"),
    ("glm", "<tool_call>f<arg_key>a</arg_key></tool_call>", "tool_call_is_malformed"),
    ("lfm2", "<|tool_call_start|>[f(a=1)", "tool_call_not_closed"),
    ("lfm2", "<|tool_call_start|>[f(a=1, a=2)]<|tool_call_end|>", "argument_occurs_twice"),
    ("lfm2", "<|tool_call_start|>f(a=1)<|tool_call_end|>", "tool_call_is_malformed"),
    ("lfm2", "<|tool_call_start|>[f(1)]<|tool_call_end|>", "tool_call_is_malformed"),
    ("lfm2", "<|tool_call_start|>[f(a=" + "[" * 100_000 + ")]<|tool_call_end|>", "tool_call_is_malformed"),
    ("lfm2", "<|tool_call_start|>[f(a=open('x'))]<|tool_call_end|>", "tool_call_is_not_json"),
    ("gemma", "<|tool_call>call:f{a:1}", "tool_call_not_closed"),
    ("gemma", "<|tool_call>f{a:1}<tool_call|>", "tool_call_has_no_name"),
    ("gemma", "<|tool_call>call:f{a:1,a:2}<tool_call|>", "argument_occurs_twice"),
    ("gemma", '<|tool_call>call:f{a:<|"|>x}<tool_call|>', "tool_call_is_malformed"),
    ("harmony", "no header at all", "message_has_no_header"),
    ("bash", "```bash\nls", "code_block_not_closed"),
    ("bash", "```bash\nls\n```\n```bash\nrm x\n```", "several_code_blocks"),
    ("terminus_2", '{"analysis": "a", "plan": "p"}', "answer_breaks_schema"),
    ("terminus_2", 'Sure! {"analysis": "a", "plan": "p", "commands": []}', "answer_is_not_json"),
    ("terminus_1", '{"analysis": "a", "plan": "p", "commands": []}', "answer_breaks_schema"),
]


@pytest.mark.parametrize(("style", "text", "error"), BROKEN)
def test_a_broken_call_is_an_error_and_never_a_message(style: str, text: str, error: str) -> None:
    assert parse_completion(text, style) == (Action(), error)


def test_arguments_stay_the_text_they_were() -> None:
    raw = '{"a":1.50,  "b": "\\u00e9"}'
    found, _ = parse_completion(f'<tool_call>{{"name": "f", "arguments": {raw}}}</tool_call>')
    assert found.tool_calls[0].arguments == raw


def test_values_without_quotes_are_typed_by_the_schema() -> None:
    values = {"text": "5", "count": "5", "ratio": "None", "deep": '{"x": [1]}', "flag": "True", "other": "7"}
    written = "".join(f"<parameter={name}>\n{value}\n</parameter>\n" for name, value in values.items())
    text = f"<tool_call>\n<function=find>\n{written}</function>\n</tool_call>"
    found, error = parse_completion(text, "qwen_xml", tools=[TOOL])
    wanted = {"text": "5", "count": 5, "ratio": None, "deep": {"x": [1]}, "flag": True, "other": "7"}
    assert error is None and json.loads(found.tool_calls[0].arguments) == wanted
    found, error = parse_completion(text.replace("\n5\n</parameter>\n<parameter=ratio", "\nfive\n</parameter>\n<parameter=ratio"), "qwen_xml", tools=[TOOL])  # fmt: skip
    assert error is None and json.loads(found.tool_calls[0].arguments)["count"] == "five"


def test_the_answers_of_terminal_agents_in_real_rows_are_read_as_they_are() -> None:
    rows = [json.loads(line) for line in (DATA / "nemo_gym" / "terminus_judge.jsonl").read_text().splitlines()]
    seen = set()
    for row in rows:
        style, text = row["metadata"]["harness"], row["expected_answer"]
        found, error = parse_completion(text, style)
        assert error is None and json.loads(found.content or "") == json.loads(text)
        assert write_action(found, style) == text.strip()
        assert parse_completion(text[:-1], style) == (Action(), "answer_is_not_json")
        other = "terminus_1" if style == "terminus_2" else "terminus_2"
        assert parse_completion(text, other) == (Action(), "answer_breaks_schema")
        seen.add(style)
    assert seen


# --- written and read back --------------------------------------------------------------------------------------------

texts = st.lists(st.sampled_from(MARKS) | st.text(max_size=5), max_size=4).map("".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,12}", fullmatch=True)
json_calls = st.builds(call, names, st.dictionaries(texts, values, max_size=2))
finite = st.floats(allow_nan=False, allow_infinity=False)
typed_calls = st.builds(
    call,
    st.just("find"),
    st.fixed_dictionaries(
        {},
        optional={
            "text": texts.filter(lambda text: "</parameter>" not in text and "</arg_value>" not in text),
            "count": st.integers(),
            "ratio": finite | st.none(),
            "deep": st.dictionaries(names, st.integers() | names) | st.lists(st.integers()),
            "flag": st.booleans(),
            "other": names,
        },
    ),
)
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2),
    max_leaves=4,
)
named_calls = st.builds(call, names, st.dictionaries(names, plain_values, max_size=2))
messages = st.none() | st.sampled_from(["I look.", "Two lines.\n\nAnd {braces} [brackets] a < b.", "naïve 東京 🗼"])


def calls_for(style: str) -> st.SearchStrategy[Action]:
    single = style in ("harmony", "bash")
    each = {"qwen_xml": typed_calls, "glm": typed_calls, "lfm2": named_calls, "gemma": named_calls}.get(
        style, json_calls
    )
    if style == "bash":
        each = texts.filter(lambda text: "```" not in text and "\r" not in text).map(
            lambda text: call("bash", command=text)
        )
    listed = st.lists(each, min_size=1, max_size=1 if single else 3).map(tuple)
    return st.builds(Action, content=st.none() if style == "plain_json" else messages, tool_calls=listed)


@pytest.mark.parametrize("style", [*CALLING, "bash"])
@settings(QUICK, max_examples=40)
@given(st.data())
def test_what_is_written_is_read_back(style: str, data: st.DataObject) -> None:
    """Control text inside arguments survives; no exception is made for it."""
    wanted = data.draw(calls_for(style))
    text = write_action(wanted, style, tools=[TOOL])
    assert parse_completion(text, style, tools=[TOOL]) == (canonical(wanted), None)
    assert canonical(wanted) == wanted


@pytest.mark.parametrize("style", [*CALLING, "bash"])
@settings(QUICK, max_examples=15)
@given(st.data())
def test_a_call_cut_off_anywhere_is_never_another_call(style: str, data: st.DataObject) -> None:
    wanted = data.draw(calls_for(style))
    text = write_action(wanted, style, tools=[TOOL])
    for end in range(len(text)):
        found, error = parse_completion(text[:end], style, tools=[TOOL])
        if error is not None:
            assert found.is_empty
            continue
        if found.tool_calls:
            whole = not text[end:].strip() or style == "gemma"  # which puts text after the calls
            assert found.tool_calls == wanted.tool_calls[: len(found.tool_calls)]
            assert whole or len(found.tool_calls) < len(wanted.tool_calls)
        # Beside the calls there is what was written there so far, and less of a mark than anyone can know for one.
        so_far, whole_text = found.content or "", wanted.content or ""
        assert whole_text.startswith(so_far) or len(so_far.removeprefix(whole_text).strip()) < 5, text[:end]


@pytest.mark.parametrize("style", style_names())
@settings(QUICK, max_examples=40)
@given(texts)
def test_a_message_is_refused_only_for_what_looks_like_an_action(style: str, text: str) -> None:
    try:
        written = write_action(Action(content=text), style)
    except ValueError as error:
        assert style.startswith("terminus") or any(mark.strip()[:4] in text for mark in MARKS), error
    else:
        assert parse_completion(written, style) == (canonical(Action(content=text)), None)


@given(st.sampled_from(style_names()), texts)
def test_parsing_never_raises_and_an_error_is_an_empty_action(style: str, text: str) -> None:
    for wrapped in (text, f"<tool_call>{text}</tool_call>", f"[TOOL_CALLS]{text}", f'{{"name": {text}'):
        found, error = parse_completion(wrapped, style, tools=[TOOL])
        assert error is None or (found == Action() and error.replace("_", "").isalpha())


@pytest.mark.parametrize(
    ("style", "wanted", "reason"),
    [
        ("hermes", action(ToolCall(name="f", arguments="{bad")), "arguments of f are not JSON"),
        ("hermes", action(ToolCall(name="f", arguments="[1]")), "not a JSON object"),
        ("hermes", action(ToolCall(name="f", arguments='{"a": 1, "a": 2}')), "twice"),
        ("hermes", Action(content="see <tool_call>"), "tool_call_not_closed"),
        ("qwen_xml", action(call("f", a="x</parameter>y")), "tool_call_is_malformed"),
        ("qwen_xml", action(call("f", a=1)), "another one"),
        ("llama", Action(content='{"name": "f", "parameters": {}}'), "another one"),
        ("plain_json", F.model_copy(update={"content": "and text"}), "text beside a tool call"),
        ("harmony", action(call("f"), call("g")), "one tool call, not 2"),
        ("bash", F, "code block holds the command"),
        ("bash", action(call("bash", command="a\n```\nb")), "another one"),
        ("text", F, "cannot write a tool call"),
        ("terminus_2", Action(content="ls"), "answer_is_not_json"),
    ],
)
def test_what_a_style_cannot_express_is_refused_with_the_reason(style: str, wanted: Action, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        write_action(wanted, style)


def test_blanks_and_ids_are_not_part_of_what_an_action_means() -> None:
    loose = Action(content=" hi\n", tool_calls=(ToolCall(name="f", arguments='{"a":1}', id="x"),))
    assert canonical(loose) == action(call("f", a=1), content="hi")
    assert canonical(Action(content="  ")) == Action()


def test_an_unknown_style_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="no style called 'xml'; there are bash"):
        parse_completion("", "xml")


def test_actions_are_written_for_people_whatever_they_hold() -> None:
    broken = Action(content="first", tool_calls=(ToolCall(name="f", arguments="{bad"), ToolCall(name="g")))
    assert action_text(broken).splitlines()[0] == "first" and '"{bad"' in action_text(broken)
