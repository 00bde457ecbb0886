"""Which architectures and chat templates work, are refused, or work in part. Fills docs/limits.md.

python recipes/limits_page.py            # writes the page, in seconds
"""

from __future__ import annotations

import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pivotrl.protocols import InputError, NotRenderable, Turn
from pivotrl.records import Action, Message, Tool, ToolCall, Trajectory
from pivotrl.rendering import Renderer

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "limits.md"
sys.path.insert(0, str(ROOT / "tests"))

from architectures import ARCHITECTURES, Architecture  # noqa: E402
from chat_tokenizers import NAMES, tokenizer_for  # noqa: E402

HEAD = """# Limits

Which models and chat templates work, work in part, or are refused. `recipes/limits_page.py` generates this page from what the
tests check, and `tests/test_limits.py` fails if it is out of date. A model that is not listed is probed when it is loaded: it
must be causal, and training must see the log-probabilities that sampling used. Otherwise it is refused in one sentence, with
exit code 2.

## Models

"""

RULES = """
Refused with any architecture; each has a case in `tests/cases/models.json` or a test in `tests/test_loading.py`:

| refused | why, or what to do |
| --- | --- |
| code that comes with a model, tokenizer or reward model | it never runs, and pivotrl never asks |
| weights other than safetensors (`pytorch_model.bin`, GGUF) | a pickle can run code |
| packed weights (bitsandbytes, GPTQ, AWQ, fp8, mxfp4, compressed-tensors, MLX) | load full-precision weights |
| `dtype` other than float32 and bfloat16 | fp16 needs loss scaling |
| missing weights, or weights that the model type does not use | they would be random, or lost |
| an encoder-decoder, a classifier, an embedding model | it does not generate text |
| no fast tokenizer, an empty one, or one with tokens beyond the model's embedding | use the model's own tokenizer |
| a folder or id that does not exist | an id is looked up once, for a few seconds |

"""


def page() -> str:
    """The whole document."""
    return "".join((HEAD, *_architectures(), RULES, "## Chat templates\n\n", *_templates()))


def _architectures() -> Iterator[str]:
    counts = Counter(_outcome(each) for each in ARCHITECTURES.values())
    yield _wrapped(
        f"""{counts["works"]} architectures work, {counts["in part"]} work in part, and {counts["refused"]} are refused
        as examples of their kind. Each is built with random weights, sampled, trained (LoRA and full fine-tuning, with and
        without frozen layers), saved and loaded, and plain transformers and peft load its export: `python -m pytest
        tests/test_architectures.py -k "llama or gpt2"`. Add `-m slow` for all of it, including the rows marked *slow*. The
        columns *training* and *sampling* say how shared prefixes are handled ([engine.md](engine.md)): *split* computes them
        once for all prompts, *cache* once per prompt, and *rows* not at all; *anew* recomputes the whole row for each token,
        which is slow."""
    )
    yield "| model type | outcome | training | sampling | remarks | test |\n| --- | --- | --- | --- | --- | --- |\n"
    for name, each in ARCHITECTURES.items():
        shares = {"reference": "rows"}
        training, sampling = each.sharing, each.sampling or each.sharing
        ways = ("", "") if each.refused else (shares.get(training, training), shares.get(sampling, sampling))
        remarks = f"it {_said(each.refused)}" if each.refused else each.note
        test = "`refused_in_one_sentence`" if each.refused else "slow" if each.rare else "`sampled_and_trained`"
        yield f"| {' | '.join((name, _outcome(each), *ways, remarks, test))} |\n"


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False) + "\n\n"


def _outcome(each: Architecture) -> str:
    return "refused" if each.refused else "in part" if each.in_part else "works"


def _said(refused: str) -> str:
    return {"no 2 layers are found": "hides its layers", "encoder-decoder": "is an encoder-decoder"}.get(
        refused, refused
    )


TOOL = Tool(name="look", description="Look", parameters={"type": "object", "properties": {"q": {"type": "string"}}})
USER = Message(role="user", content="Hello")
CALL = ToolCall(name="look", arguments='{"q": "x"}', id="call_0")
RESULT = Message(role="tool", content="Seen", tool_call_id="call_0")


def _templates() -> Iterator[str]:
    rows = {name: _row(name) for name in NAMES}
    counts = Counter(row[0] for row in rows.values())
    yield _wrapped(
        f"""Of the {len(NAMES)} templates in `tests/data/templates`, {counts["works"]} write everything, {counts["in part"]}
        write a part, and {counts["refused"]} are refused. Turns that a template cannot write are refused one by one as
        `not_renderable`; all others are written exactly as transformers would: `python -m pytest tests/test_templates.py -k
        llama3_1`. *Calls* names the style in which the template writes tool calls (`pivotrl.parsing`)."""
    )
    yield "| template | outcome | calls | what it does not write |\n| --- | --- | --- | --- |\n"
    for name, row in rows.items():
        yield f"| {name} | {' | '.join(row)} |\n"


def _row(name: str) -> tuple[str, str, str]:
    """(outcome, style of calls, what is refused)"""
    try:
        renderer = Renderer(tokenizer_for(name), "template")
    except InputError as error:
        return "refused", "", str(error).partition(";")[0]
    called = Message(role="assistant", tool_calls=(CALL,))
    parts = {
        "a system message": (_turn(Message(role="system", content="Be brief."), USER), None),
        "a message as an answer": (_turn(USER), Action(content="Good day.")),
        "tool calls": (_turn(USER, tools=(TOOL,)), Action(tool_calls=(CALL,))),
        "results of tools": (_turn(USER, called, RESULT, tools=(TOOL,)), None),
    }
    refused = [what for what, (turn, action) in parts.items() if not _writes(renderer, turn, action)]
    style = str(renderer.identity["actions"])
    return "in part" if refused else "works", "" if style == "text" else style, ", ".join(refused)


def _turn(*context: Message, tools: tuple[Tool, ...] = ()) -> Turn:
    messages = (*context, Message(role="assistant", content="Good day."))
    return Turn(Trajectory(id="t", task_id="t", messages=messages, tools=tools), len(context))


def _writes(renderer: Renderer, turn: Turn, action: Action | None) -> bool:
    try:
        renderer.prompt(turn)
        if action is not None:
            renderer.encode_action(action, turn)
    except NotRenderable:
        return False
    return True


if __name__ == "__main__":
    DOCUMENT.write_text(page(), encoding="utf-8")
