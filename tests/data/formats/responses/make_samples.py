"""Makes weather.json and search.jsonl: run loop and records of OpenAI's Agents SDK, a scripted model (SOURCE.md)."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from agents import Agent, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled
from agents.models.interface import Model
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseFunctionWebSearch,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseReasoningItem,
)
from openai.types.responses.response_function_web_search import ActionSearch
from openai.types.responses.response_reasoning_item import Summary


def text(id: str, content: str) -> ResponseOutputMessage:
    part = ResponseOutputText(annotations=[], text=content, type="output_text")
    return ResponseOutputMessage(id=id, content=[part], role="assistant", status="completed", type="message")


def call(id: str, name: str, arguments: str) -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(
        id=f"fc_{id}", call_id=f"call_{id}", name=name, arguments=arguments, type="function_call", status="completed"
    )


def thought(id: str, summary: str | None) -> ResponseReasoningItem:
    parts = [Summary(text=summary, type="summary_text")] if summary else []
    return ResponseReasoningItem(
        id=id, summary=parts, type="reasoning", encrypted_content=None if summary else "gAAAAA"
    )


def searched(id: str, query: str) -> ResponseFunctionWebSearch:
    action = ActionSearch(query=query, type="search")
    return ResponseFunctionWebSearch(id=id, action=action, status="completed", type="web_search_call")


class Scripted(Model):
    def __init__(self, *turns: list[Any]) -> None:
        self.turns = list(turns)

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        return ModelResponse(output=self.turns.pop(0), usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


RUNS = {
    "weather": (
        "What is the weather in Paris and in Rome?",
        [
            [
                thought("rs_1", "Two cities, two calls."),
                text("msg_1", "I look."),
                call("1", "get_weather", '{"city":  "Paris"}'),
                call("2", "get_weather", '{"city": "Rome"}'),
            ],
            [thought("rs_2", None), text("msg_2", "It is sunny in both.")],
        ],
    ),
    "search": (
        "Who won yesterday, and what is the weather there?",
        [
            [searched("ws_1", "results of yesterday"), call("3", "get_weather", '{"city": "Oslo"}')],
            [text("msg_3", "Oslo won, and it is sunny there.")],
        ],
    ),
}


async def main() -> None:
    set_tracing_disabled(True)
    made = {}
    for name, (question, turns) in RUNS.items():
        agent = Agent(name="helper", model=Scripted(*turns), tools=[get_weather])
        made[name] = (await Runner.run(agent, question)).to_input_list()
    here = Path(__file__).parent
    (here / "weather.json").write_text(json.dumps(made["weather"], indent=1) + "\n")
    (here / "search.jsonl").write_text(json.dumps({"id": "search", "input": made["search"]}) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
