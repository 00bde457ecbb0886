"""Makes two Parquet files from a real episode with Hugging Face's datasets, as TRL stores such rows (see SOURCE.md)."""

import json
from pathlib import Path
from typing import Any

from datasets import Dataset

HERE = Path(__file__).parent
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Looks up {key}.",
            "parameters": {"type": "object", "properties": {key: {"type": "string"}}, "required": [key]},
        },
    }
    for name, key in (("get_reservation_details", "reservation_id"), ("get_user_details", "user_id"))
]


def with_objects(message: dict[str, Any]) -> dict[str, Any]:
    """TRL's form: arguments are objects, and there are no call ids."""
    made = {"role": message["role"], "content": message.get("content")}
    if message.get("tool_calls"):
        functions = [call["function"] for call in message["tool_calls"]]
        made["tool_calls"] = [
            {"type": "function", "function": {"name": f["name"], "arguments": json.loads(f["arguments"])}}
            for f in functions
        ]
    if message["role"] == "tool":
        made["name"] = message["name"]
    return made


def main() -> None:
    log = HERE.parent.parent / "tau_bench" / "gpt-4o-airline.json"
    episodes = [[with_objects(m) for m in e["traj"]] for e in json.loads(log.read_text())[2:6:3]]
    whole = [{"messages": messages, "tools": TOOLS} for messages in episodes]
    Dataset.from_list(whole, on_mixed_types="use_json").to_parquet(HERE / "messages_json.parquet")
    last = [max(i for i, m in enumerate(messages) if m["role"] == "assistant") for messages in episodes]
    split = [
        {"prompt": messages[:i], "completion": [messages[i]], "tools": json.dumps(TOOLS)}
        for messages, i in zip(episodes, last, strict=True)
    ]
    Dataset.from_list(split).to_parquet(HERE / "prompt_completion.parquet")


if __name__ == "__main__":
    main()
