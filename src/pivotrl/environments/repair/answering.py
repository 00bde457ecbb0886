"""Run by the sandbox's Python, beside code of an agent: calls its functions and writes what came back.

Nothing here decides anything, and nothing here knows what is right. Standard input holds JSON: ``functions``, each with
``module``, ``name`` and ``calls``, the arguments of each call as a Python literal. Standard output gets a list of
answers for each function: ``["value", literal]``, ``["raised", text]`` or ``["not_plain", type]``; None if there is no
such function.
"""

from __future__ import annotations

import ast
import json
import os
import random
import sys
from collections.abc import Callable
from typing import Any

PLAIN = (int, float, complex, str, bytes, bool, type(None))


def is_plain(value: Any) -> bool:
    """Whether the value is made of the built-in types alone, not of their subclasses."""
    if type(value) in PLAIN:
        return True
    if type(value) is dict:
        return all(is_plain(key) and is_plain(item) for key, item in value.items())
    return type(value) in (list, tuple, set) and all(map(is_plain, value))


def answer(function: Callable[..., Any], arguments: str) -> list[str]:
    random.seed(0)
    try:
        value = function(*ast.literal_eval(arguments))
        return ["value", repr(value)] if is_plain(value) else ["not_plain", type(value).__name__]
    except Exception as error:
        return ["raised", f"{type(error).__name__}: {error}"]


def main() -> None:
    asked = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the functions print is no answer
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    answers: list[list[list[str]] | None] = []
    for function in asked["functions"]:
        try:
            module = __import__(function["module"], fromlist=["*"])
            found = getattr(module, function["name"])
        except Exception:
            answers.append(None)
            continue
        answers.append([answer(found, arguments) for arguments in function["calls"]])
    json.dump(answers, out)
    out.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
