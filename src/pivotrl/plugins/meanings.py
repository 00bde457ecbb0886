"""What the source says of a plugin and of its options, for people."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import itertools
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pivotrl.plugins import find


def first_line(kind: str, name: str) -> str:
    """The first line of a plugin's docstring. Plugins of this package are not imported, which would take seconds.

    Raises:
        InputError: another plugin cannot be imported.
    """
    found = None if ":" in name else importlib.util.find_spec(f"pivotrl.{kind}.{name}")
    if found is None or found.origin is None:
        text = inspect.getdoc(inspect.getmodule(find(kind, name)))
    else:
        text = ast.get_docstring(ast.parse(Path(found.origin).read_text("utf-8")))
    return (text or "").partition("\n")[0]


def meanings_of(target: Any) -> Mapping[str, str]:
    """Option -> its text: under the field of a dataclass, or in the section ``Args:`` of the docstring."""
    fields = texts_under_fields(target) if inspect.isclass(target) else {}
    return {**fields, **arguments_of(inspect.getdoc(target) or "")}


def texts_under_fields(cls: type) -> dict[str, str]:
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body  # type: ignore[attr-defined]
        for node, after in itertools.pairwise(body):
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                found[ast.unparse(node.target)] = inspect.cleandoc(str(after.value.value))
    return found


def arguments_of(doc: str) -> dict[str, str]:
    """Name -> text, of the section ``Args:``; several names may share an entry."""
    section = re.search(r"^Args:\n((?:[ ]{4}.*\n?|\n)+)", doc, re.MULTILINE)
    entries = (
        re.findall(r"^([\w, ]+):((?:.*\n?)(?:[ ]{4,}.*\n?)*)", textwrap.dedent(section[1]), re.M) if section else []
    )
    return {name.strip(): " ".join(text.split()) for names, text in entries for name in names.split(",")}
