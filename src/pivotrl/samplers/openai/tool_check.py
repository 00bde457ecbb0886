"""Whether a tool call comes back as a call: read by the server in messages mode, by our parser with token ids."""

from __future__ import annotations

from pivotrl.parsing import parse_completion
from pivotrl.records import Action, Tool
from pivotrl.samplers.openai.probing import Finding, Probing, asked, one

_NAME = "tool calls"
_WEATHER = Tool(
    name="get_weather",
    description="Tells the weather in a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
_ASK = "What is the weather in Oslo? Use the tool get_weather."
_PARSER = "start it with its tool parser (vLLM: --enable-auto-tool-choice --tool-call-parser NAME)"


def check_tools(probing: Probing) -> Finding:
    """One greedy request with a tool."""
    turn = asked(_ASK, (_WEATHER,))
    (answer,) = probing.ask([probing.body(turn, temperature=0.0, max_tokens=200)])
    choice = one(answer)
    if choice is None:
        return Finding(_NAME, "fault", f"a request with a tool has no usable answer ({answer}): {_PARSER}")
    renderer, actions = probing.sampler.renderer, probing.sampler.actions
    if choice.calls:
        return _read(Action(tool_calls=choice.calls), None, "its tool parser finds")
    if renderer is not None:
        return _read(
            *renderer.parse(renderer.decode(choice.token_ids_T or ()) or choice.text, turn), "our parser finds"
        )
    style = "hermes" if actions == "auto" else actions
    action, error = parse_completion(choice.text, style, tools=(_WEATHER,))
    if action.tool_calls:
        return Finding(_NAME, "warning", f"it leaves calls in the text, where our parser finds them; {_PARSER}")
    return _read(action, error, "")


def _read(action: Action, error: str | None, who: str) -> Finding:
    call = next(iter(action.tool_calls), None)
    if call is None:
        told = f"is malformed ({error})" if error else "holds no call"
        return Finding(_NAME, "warning", f"unknown: its answer to a request for one {told}")
    if call.name != _WEATHER.name:
        return Finding(_NAME, "warning", f"{who} a call of {call.name!r}, a tool that was not offered")
    return Finding(_NAME, "ok", f"{who} the call")
