"""Every chat template that TRL ships: the text that transformers would write, or a refusal, and nothing in between."""

from __future__ import annotations

import datetime
import functools
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chat_tokenizers import NAMES, control_strings, source, tokenizer_for
from pivotrl import Action, InputError, Message, Tool, ToolCall, Trajectory, Turn
from pivotrl.parsing import canonical
from pivotrl.protocols import NotRenderable
from pivotrl.rendering import Renderer

QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # other work may slow the machine

# What the probes must find, checked by eye against what each template writes.
CALLS = {
    "hermes": "qwen2_5 qwen3 qwen3_instruct_2507 qwen3_vl",
    "qwen_xml": "nemotron_3_5_lightning nemotron_3_nano nemotron_3_super nemotron_3_ultra qwen3_5_nothink "
    "qwen3_5_think qwen3_6 qwen3_8",
    "llama": "llama3_1 llama3_2",
    "glm": "glm4moe",
    "harmony": "gptoss",
    "lfm2": "lfm2_2_5 lfm2_2_5_v2 lfm2_2_5_vl lfm2_v2",
    "gemma": "diffusion_gemma gemma4 gemma4_v2 gemma4_v3 gemma4_v4 gemma4_v5",
    "the chat template leaves out the tool": "cohere cohere2 deepseek_r1_distill deepseekv3 gemma gemma3 idefics3 "
    "lfm2 llama3 llava_next phi3 phi3_5 qwen2_5_vl smolvlm",
}
UNREADABLE = ["muse_glimmer", "muse_glimmer_training"]
FOUND = {name: style for style, names in CALLS.items() for name in names.split()}
USABLE = [name for name in NAMES if name not in UNREADABLE]
ENDS = {
    "<|END_RESPONSE|><|END_OF_TURN_TOKEN|>": ("cohere2",),
    "<|END_OF_TURN_TOKEN|>": ("cohere",),
    "<turn|>": ("gemma4", "diffusion_gemma"),
    "<end_of_turn>": ("gemma",),
    "<|user|>": ("glm4moe_training",),
    "<|endoftext|>": ("glm4moe",),  # it writes none, so it is the tokenizer's own
    "<|return|>": ("gptoss",),
    "<end_of_utterance>": ("idefics3", "smolvlm"),
    "<|eot_id|>": ("llama3",),
    "</s>": ("llava_next",),
    "<|end|>": ("phi3",),
    "<|im_end|>": ("lfm2", "qwen"),
}
THINKS_FIRST = ("deepseek", "nemotron")  # their prompt opens a thought that they close in no way we could continue

TOOL = Tool(
    name="lookup",
    description="Find a thing",
    parameters={
        "type": "object",
        "properties": {"q": {"type": "string"}, "limit": {"type": "integer"}, "deep": {"type": "object"}},
        "required": ["q"],
    },
)
REASONS = (
    "leaves out", "refuses:", "rewrites the text", "in its own way", "other control tokens", "which are not characters",
    "cannot be read back", "would write this action as", "does not continue its own generation prompt",
)  # fmt: skip


@functools.cache
def renderer(name: str) -> Renderer:
    return Renderer(tokenizer_for(name), "template", date=datetime.date.today())


def turn(*messages: Message, tools: tuple[Tool, ...] = ()) -> Turn:
    return Turn(Trajectory(id="t", task_id="t", messages=messages, tools=tools), len(messages))


def oracle(name: str, messages: list[Message], tools: tuple[Tool, ...], generation: bool) -> str:
    """What transformers writes."""
    in_parts = name.startswith(("idefics", "llava", "smolvlm"))
    called = {call.id: call.name for message in messages for call in message.tool_calls}
    entries = []
    for message in messages:
        text = message.content or ""
        entry: dict[str, Any] = {
            "role": message.role,
            "content": [{"type": "text", "text": text}] if in_parts else text,
        }
        if message.reasoning:
            entry["reasoning_content"] = message.reasoning
        if message.tool_calls:
            functions = [(c.id, {"name": c.name, "arguments": json.loads(c.arguments)}) for c in message.tool_calls]
            entry["tool_calls"] = [{"type": "function", "function": f} | ({"id": i} if i else {}) for i, f in functions]
        if message.role == "tool":
            entry |= {"tool_call_id": message.tool_call_id, "name": called[message.tool_call_id]}
        entries.append(entry)
    functions = [{"type": "function", "function": tool.model_dump()} for tool in tools]
    text: str = renderer(name).tokenizer.apply_chat_template(
        entries, tools=functions or None, add_generation_prompt=generation, tokenize=False
    )
    return text


# --- conversations ----------------------------------------------------------------------------------------------------

plain = st.text(st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="<[\uff5c"), max_size=12)
plain = plain | st.sampled_from(["What's up?", ' say "hi"\\n {x}\n\n', "東京 🗼 naïve", "a < b [0]", "  "])


@st.composite
def conversations(
    draw: st.DrawFn, texts: st.SearchStrategy[str], with_tools: bool
) -> tuple[list[Message], tuple[Tool, ...]]:
    words = texts.map(lambda text: f"x{text}" if not text.strip() else text)
    messages = [Message(role="system", content=draw(words))] if draw(st.booleans()) else []
    messages.append(Message(role="user", content=draw(words)))
    calls = 0
    for kind in draw(st.lists(st.sampled_from(["say", "call"] if with_tools else ["say"]), max_size=2)):
        thought = draw(st.none() | words)
        if kind == "say":
            messages.append(Message(role="assistant", content=draw(words), reasoning=thought))
            messages.append(Message(role="user", content=draw(words)))
            continue
        arguments = {"q": draw(texts), "limit": draw(st.integers(0, 9)), "deep": {draw(words): [draw(texts), None]}}
        ids = [f"call_{calls + i}" for i in range(draw(st.integers(1, 2)))]
        calls += len(ids)
        made = [ToolCall(name="lookup", arguments=json.dumps(arguments), id=i) for i in ids]
        text = draw(st.none() | words)
        messages.append(Message(role="assistant", content=text, tool_calls=tuple(made), reasoning=thought))
        messages += [Message(role="tool", content=draw(words), tool_call_id=i) for i in ids]
    schema = json.loads(json.dumps(TOOL.parameters))
    schema["properties"]["q"]["description"] = draw(words)
    tool = TOOL.model_copy(update={"description": draw(words), "parameters": schema})
    return messages, (tool,) if with_tools else ()


def rendered_or_refused(name: str, messages: list[Message], tools: tuple[Tool, ...]) -> list[int] | None:
    try:
        return list(renderer(name).prompt(turn(*messages, tools=tools)))
    except NotRenderable as error:
        assert any(reason in str(error) for reason in REASONS), error
        return None


# --- properties -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", USABLE)
@settings(QUICK, max_examples=3)
@given(st.data())
def test_a_prompt_is_what_transformers_writes_or_it_is_refused(name: str, data: st.DataObject) -> None:
    messages, tools = data.draw(conversations(plain, data.draw(st.booleans())))
    ids = rendered_or_refused(name, messages, tools)
    if ids is not None:
        text, tokenizer = oracle(name, messages, tools, True), renderer(name).tokenizer
        assert tokenizer.decode(ids) == text
        assert ids == tokenizer(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize("name", USABLE)
@settings(QUICK, max_examples=3)
@given(st.data())
def test_control_strings_in_data_never_become_control_tokens(name: str, data: st.DataObject) -> None:
    controls = control_strings(source(name))
    hostile = st.lists(st.sampled_from([*controls, "hello ", "<|", "|>", "\n"]), max_size=4).map("".join)
    messages, tools = data.draw(conversations(hostile, data.draw(st.booleans())))
    ids = rendered_or_refused(name, messages, tools)
    if ids is None:
        return
    tokenizer = renderer(name).tokenizer
    assert tokenizer.decode(ids) == oracle(name, messages, tools, True)
    numbers = set(tokenizer.added_tokens_decoder)
    harmless = rendered_or_refused(name, *_without(controls, messages, tools))
    assert harmless is not None
    assert [i for i in ids if i in numbers] == [i for i in harmless if i in numbers]


def _without(
    controls: list[str], messages: list[Message], tools: tuple[Tool, ...]
) -> tuple[list[Message], tuple[Tool, ...]]:
    """The same conversation in harmless words."""

    def clean(text: str | None) -> str | None:
        for control in sorted(controls, key=len, reverse=True):
            text = text and text.replace(control, "word")
        return text

    def clean_call(call: ToolCall) -> ToolCall:
        return call.model_copy(update={"arguments": clean(call.arguments)})

    return (
        [
            m.model_copy(
                update={
                    "content": clean(m.content),
                    "reasoning": clean(m.reasoning),
                    "tool_calls": tuple(map(clean_call, m.tool_calls)),
                }
            )
            for m in messages
        ],
        tuple(Tool(**json.loads(clean(tool.model_dump_json()) or "")) for tool in tools),
    )


@pytest.mark.parametrize("name", USABLE)
@settings(QUICK, max_examples=3)
@given(st.data())
def test_the_masked_tokens_are_the_action_and_nothing_else(name: str, data: st.DataObject) -> None:
    texts = plain | st.lists(st.sampled_from([*control_strings(source(name)), "hello "]), max_size=3).map("".join)
    own, tokenizer = renderer(name), renderer(name).tokenizer
    calls = (
        FOUND[name.removesuffix("_training")] in CALLS and "chat template" not in FOUND[name.removesuffix("_training")]
    )
    messages, tools = data.draw(conversations(plain, calls))
    arguments = json.dumps({"q": data.draw(texts), "limit": 3, "deep": {"k": data.draw(texts)}}, ensure_ascii=False)
    made = (ToolCall(name="lookup", arguments=arguments),) if calls and data.draw(st.booleans()) else ()
    content = None if made and data.draw(st.booleans()) else data.draw(texts)
    action, place = Action(content=content, tool_calls=made), turn(*messages, tools=tools)
    try:
        ids, mask = own.rendered(place, action)
    except NotRenderable as error:
        assert any(reason in str(error) for reason in REASONS), error
        return
    prompt = own.prompt(place)
    assert mask == (False,) * len(prompt) + (True,) * (len(ids) - len(prompt)) and ids[: len(prompt)] == prompt
    chosen = [number for number, is_action in zip(ids, mask, strict=True) if is_action]
    assert chosen and chosen[-1] in own.stop_ids and not set(chosen[:-1]) & own.stop_ids
    assert own.parse(own.decode(chosen), place) == (canonical(action), None)
    last = Message(role="assistant", content=content, tool_calls=made)
    whole = oracle(name, [*messages, last], tools, False)
    assert whole.startswith(tokenizer.decode(ids[:-1]))


# --- facts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", USABLE)
def test_the_way_of_calling_tools_is_found_by_probing(name: str) -> None:
    found = FOUND[name.removesuffix("_training")]
    place = turn(Message(role="user", content="hi"), tools=(TOOL,))
    if found.startswith("the chat"):
        with pytest.raises(NotRenderable, match=found):
            renderer(name).prompt(place)
    else:
        assert renderer(name).identity["actions"] == found
        assert rendered_or_refused(name, list(place.context), (TOOL,)) is not None


@pytest.mark.parametrize("name", USABLE)
def test_a_plain_answer_ends_where_the_template_ends_it(name: str) -> None:
    own, place = renderer(name), turn(Message(role="user", content="hi"))
    if name.startswith(THINKS_FIRST):
        with pytest.raises(NotRenderable, match="does not continue its own generation prompt"):
            own.encode_action(Action(content="Hello."), place)
        return
    text = own.tokenizer.decode(own.encode_action(Action(content="Hello."), place))
    before, _, after = text.partition("Hello.")
    assert before.strip() in ("", "<think>\n\n</think>", "</think>", "<think></think>", "<|channel|>final<|message|>")
    assert after == next(end for end, names in ENDS.items() if name.startswith(names))


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_template_whose_answers_cannot_be_read_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="in a form that cannot be read back"):
        renderer(name)


def test_every_template_is_covered() -> None:
    assert len(NAMES) == 72 and {name.removesuffix("_training") for name in USABLE} == set(FOUND)
