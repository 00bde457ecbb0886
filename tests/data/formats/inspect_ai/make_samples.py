"""Makes the two logs next to this file with inspect-ai's own evaluation loop and its mock model (see SOURCE.md)."""

import asyncio
import shutil
from pathlib import Path

from inspect_ai import Task, eval
from inspect_ai.agent import as_tool, react
from inspect_ai.dataset import Sample
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    ChatMessageUser,
    ContentImage,
    ContentReasoning,
    ContentText,
    ModelOutput,
    ModelUsage,
    get_model,
)
from inspect_ai.scorer import Score, Target, accuracy, includes, scorer
from inspect_ai.solver import TaskState, generate, system_message, use_tools
from inspect_ai.tool import ToolCall, ToolError, tool

HERE = Path(__file__).parent
USAGE = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)  # without one the mock model fetches a tokenizer
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)


@tool
def add():
    async def execute(x: int, y: int) -> str:
        """Add two numbers and return their sum, with a description that is long enough that the log moves it away.

        Args:
            x: First number.
            y: Second number.
        """
        if x < 0 or y < 0:
            raise ToolError("only natural numbers can be added")
        await asyncio.sleep(0)
        return str(x + y)

    return execute


@scorer(metrics=[accuracy()])
def steps():
    async def score(state: TaskState, target: Target) -> Score:
        if "unscored" in state.metadata:
            return Score.unscored(reason="grader_failed")
        calls = [m for m in state.messages if m.role == "assistant" and m.tool_calls]
        return Score(value={"calls": len(calls), "tidy": "C"}, explanation="how many messages called a tool")

    return score


def call(*calls: ToolCall, text: str = "", thought: str | None = None, stop: str = "tool_calls") -> ModelOutput:
    parts = [ContentReasoning(reasoning=thought, signature="c2ln")] if thought else []
    message = ChatMessageAssistant(
        content=[*parts, ContentText(text=text)] if parts else text, tool_calls=list(calls) or None, source="generate"
    )
    choice = ChatCompletionChoice(message=message, stop_reason=stop)
    return ModelOutput(model="mockllm/model", choices=[choice], usage=USAGE)


def adding(id: str, x: int, y: int, **more: str) -> ToolCall:
    return ToolCall(id=id, function="add", arguments={"x": x, "y": y}, **more)


def model(*outputs: ModelOutput):
    return get_model("mockllm/model", custom_outputs=list(outputs))


def text(content: str, stop: str = "stop") -> ModelOutput:
    return call(text=content, stop=stop)


ARITHMETIC = Task(
    name="arithmetic",
    dataset=[
        Sample(id="sums", input="What are 2 + 3 and 4 + 5?", target="5 and 9"),
        Sample(
            id=7,
            input=[
                ChatMessageUser(content="What is 1 + 1?"),
                ChatMessageAssistant(content="2"),
                ChatMessageUser(content=[ContentText(text="And what is drawn here?"), ContentImage(image=PIXEL)]),
            ],
            target="12",
            metadata={"unscored": True},
        ),
    ],
    solver=[system_message("You add numbers with the tool."), use_tools(add()), generate()],
    scorer=[includes(), steps()],
    epochs=2,
)
ARITHMETIC_OUTPUTS = [
    call(adding("c1", 2, 3), adding("c2", 4, 5), text="Both at once.", thought="Two sums, so two calls."),
    text("They are 5 and 9."),
    call(adding("c3", 2, -3)),
    text("I cannot say, because the tool refuses to add anything but natural nu", stop="max_tokens"),
    call(ToolCall(id="c4", function="add", arguments={}, parse_error="Error parsing the arguments: {'x': 6, 'y'")),
    text("It is 12."),
    text("It is 11."),
]

DELEGATION = Task(
    name="delegation",
    dataset=[Sample(id="ask", input="What is 20 + 22? Let the helper find out.", target="42")],
    solver=react(
        prompt="You delegate.",
        tools=[as_tool(react(name="helper", description="Adds numbers.", prompt="You add.", tools=[add()]))],
    ),
    scorer=includes(),
)
DELEGATION_OUTPUTS = [
    call(ToolCall(id="d1", function="helper", arguments={"input": "20 + 22"})),
    call(adding("h1", 20, 22)),
    call(ToolCall(id="h2", function="submit", arguments={"answer": "42"})),
    call(ToolCall(id="d2", function="submit", arguments={"answer": "42"})),
]

if __name__ == "__main__":
    logs = HERE / "made"
    for name, task, outputs, form in (
        ("arithmetic.eval", ARITHMETIC, ARITHMETIC_OUTPUTS, "eval"),
        ("arithmetic.json", ARITHMETIC, ARITHMETIC_OUTPUTS, "json"),
        ("delegation.eval", DELEGATION, DELEGATION_OUTPUTS, "eval"),
    ):
        [log] = eval(task, model=model(*outputs), log_dir=str(logs), log_format=form, max_samples=1, display="none")
        assert log.status == "success", log.error
        shutil.move(log.location.removeprefix("file://"), HERE / name)
    shutil.rmtree(logs)
