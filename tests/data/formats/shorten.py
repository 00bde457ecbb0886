"""Shorten what OpenHands and Codex say of themselves in their samples: prompts and descriptions of tools.

    python shorten.py   # after the make_samples.py of these formats; rewrites the files in place

A test needs that such texts are there and the same wherever they come again, not what they say. Of each only the first
line is kept; of its running example and of its request for a summary, the first line and the end.
"""

import json
from pathlib import Path

FORMATS = Path(__file__).parent
FOLDERS = ("openhands_completions", "openhands_events", "openhands_sdk", "codex")
LONGEST = 250
TAIL = 400
WRAPPED = ("Here's a running example", "You are maintaining a context-aware state summary")
MARKS = ("You are OpenHands agent", "<SOUL>", "You are Codex", "<skills_instructions>", "## Skills")


def main() -> None:
    files = [path for name in FOLDERS for path in sorted((FORMATS / name).rglob("*.json*"))]
    texts = {path: parts(path) for path in files}
    long: set[str] = set()
    for text in (text for found in texts.values() for text in found):
        collect(json.loads(text), "", long)
    order = sorted(long, key=len, reverse=True)
    for path, found in texts.items():
        path.write_text("\n".join(shortened(text, order) for text in found) + "\n" * (path.suffix == ".jsonl"))


def shortened(text: str, long: list[str]) -> str:
    """A JSON text without the long ones; one that holds none stays as it is."""
    value = json.loads(text)
    made = replaced(value, long)
    return text if made == value else json.dumps(made, ensure_ascii=text.isascii(), **layout(text))


def parts(path: Path) -> list[str]:
    """The JSON texts of a file."""
    text = path.read_text()
    return text.splitlines() if path.suffix == ".jsonl" else [text]


def layout(text: str) -> dict[str, object]:
    """As the tool wrote the file."""
    if text.startswith(("{\n", "[\n")):
        return {"indent": len(text.split("\n")[1]) - len(text.split("\n")[1].lstrip())}
    return {"separators": (",", ":")} if '":' in text and '": ' not in text[:200] else {}


def collect(value: object, key: str, found: set[str]) -> None:
    if isinstance(value, dict):
        for name, part in value.items():
            collect(part, name, found)
    elif isinstance(value, list):
        for part in value:
            collect(part, key, found)
    elif isinstance(value, str) and len(value) > LONGEST and "BEGIN FUNCTION" not in value:
        found |= {value} if key == "description" or value.lstrip().startswith(MARKS) else set()


def replaced(value: object, long: list[str]) -> object:
    if isinstance(value, dict):
        return {key: replaced(part, long) for key, part in value.items()}
    if isinstance(value, list):
        return [replaced(part, long) for part in value]
    if isinstance(value, str):
        for text in long:
            value = value.replace(text, first_line(text)).replace(text.strip(), first_line(text))
        if value.startswith(WRAPPED) and len(value) > 3 * TAIL:
            value = f"{first_line(value)}\n...\n{value[-TAIL:]}"
    return value


def first_line(text: str) -> str:
    return next(line for line in text.splitlines() if line.strip() and line.strip() != "<SOUL>").strip()


if __name__ == "__main__":
    main()
