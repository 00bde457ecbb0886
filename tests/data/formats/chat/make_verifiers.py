"""Makes verifiers.jsonl: a tool environment of verifiers plays two examples with a scripted model (see SOURCE.md)."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import verifiers as vf
from datasets import Dataset
from openai.types.chat import ChatCompletion
from verifiers.utils.eval_utils import make_dataset


async def add(x: int, y: int) -> str:
    """Add two numbers.

    Args:
        x: First number.
        y: Second number.
    """
    return str(x + y)


async def exact(completion: list[dict[str, Any]], answer: str) -> float:
    return float(completion[-1]["content"] == answer)


def call(id: str, x: int, y: int) -> dict[str, Any]:
    function = {"name": "add", "arguments": json.dumps({"x": x, "y": y})}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": id, "type": "function", "function": function}]}


def say(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


SCRIPT = {"2 + 3": [call("c1", 2, 3), say("5")], "4 + 5": [say("8")]}


async def create(messages: list[dict[str, Any]], **_: Any) -> ChatCompletion:
    turns = SCRIPT[messages[1]["content"]]
    message = turns[sum(m["role"] == "assistant" for m in messages)]
    choice = {"index": 0, "finish_reason": "tool_calls" if message.get("tool_calls") else "stop", "message": message}
    whole = {"id": "x", "object": "chat.completion", "created": 0, "model": "scripted", "choices": [choice]}
    return ChatCompletion.model_validate(whole)


def main() -> None:
    rows = {"question": list(SCRIPT), "answer": ["5", "9"]}
    env = vf.ToolEnv(
        tools=[add],
        dataset=Dataset.from_dict(rows),
        system_prompt="Only the number, please.",
        rubric=vf.Rubric(funcs=[exact]),
    )
    client: Any = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    client.base_url = "http://localhost"
    results = asyncio.run(env.generate(env.get_dataset(), client=client, model="scripted", use_tqdm=False))
    made = make_dataset(results).remove_columns(["generation_ms", "scoring_ms", "total_ms"])  # these are times
    made.to_json(Path(__file__).parent / "verifiers.jsonl")


if __name__ == "__main__":
    main()
