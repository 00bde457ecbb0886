"""Defects: small changes of a program, each at one node of its syntax tree. Layout and comments stay as they are.

The kinds follow the operators of mutation testing (Jia and Harman 2011, "An Analysis and Survey of the Development of
Mutation Testing"): operators of comparison, logic and arithmetic, off by one, constants, wrong variable, swapped
arguments, wrong function, dropped branch, dropped negation.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_COMPARISONS = {
    "<": ("<=", ">"),
    "<=": ("<", ">="),
    ">": (">=", "<"),
    ">=": (">", "<="),
    "==": ("!=",),
    "!=": ("==",),
    "in": ("not in",),
    "not in": ("in",),
}
_ARITHMETIC = {"+": ("-",), "-": ("+",), "*": ("+",), "/": ("//",), "//": ("%",), "%": ("//",), "**": ("*",)}
_LOGIC = {"and": ("or",), "or": ("and",)}
_SYMBOLS: dict[type[ast.AST], str] = {
    **{ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="},
    **{ast.In: "in", ast.NotIn: "not in", ast.And: "and", ast.Or: "or"},
    **{ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**"},
}
_FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any", "upper": "lower", "lower": "upper"}
_FUNCTIONS |= {"isupper": "islower", "islower": "isupper", "startswith": "endswith", "endswith": "startswith"}


@dataclass(frozen=True, order=True)
class Defect:
    """A part of a text, in bytes from ``start`` to ``end``, and what stands there instead."""

    start: int
    end: int
    new: str
    kind: str


def with_defects(source: str, defects: Sequence[Defect]) -> str:
    """The text with the defects in it. They must not overlap."""
    data = source.encode()
    for defect in sorted(defects, reverse=True):
        data = data[: defect.start] + defect.new.encode() + data[defect.end :]
    return data.decode()


def defects_of(source: str) -> list[Defect]:
    """Every defect that this module can put into a program, in the order of their places.

    Docstrings, annotations and f-strings are left alone.
    """
    return sorted(_Program(source).defects())


class _Program:
    def __init__(self, source: str) -> None:
        self._source, self._data, self._tree = source, source.encode(), ast.parse(source)
        self._lines = [0]
        for line in self._data.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def defects(self) -> set[Defect]:
        found, right = set(), ast.dump(self._tree)
        for function in [node for node in ast.walk(self._tree) if isinstance(node, ast.FunctionDef)]:
            names = _local_names(function)
            for node in _code_of(function):
                for defect in self._at(node, names):
                    try:
                        changed = ast.dump(ast.parse(with_defects(self._source, [defect])))
                    except SyntaxError:
                        continue
                    if changed != right:
                        found.add(defect)
        return found

    def _start(self, node: ast.expr | ast.stmt) -> int:
        return self._lines[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.expr | ast.stmt) -> int:
        return self._lines[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)

    def _text(self, node: ast.expr) -> str:
        return self._data[self._start(node) : self._end(node)].decode()

    def _at(self, node: ast.AST, names: list[str]) -> Iterator[Defect]:
        """The defects at one node."""
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            yield from self._operator("comparison", _COMPARISONS, node.ops[0], node.left, node.comparators[0])
        elif isinstance(node, ast.BoolOp) and len(node.values) == 2:
            yield from self._operator("logic", _LOGIC, node.op, *node.values)
        elif isinstance(node, ast.BinOp):
            yield from self._operator("arithmetic", _ARITHMETIC, node.op, node.left, node.right)
        elif isinstance(node, ast.AugAssign):
            yield from self._operator("arithmetic", _ARITHMETIC, node.op, node.target, node.value)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield Defect(self._start(node), self._start(node.operand), "", "negation")
        elif isinstance(node, ast.Constant):
            for kind, value in _constants(node.value):
                yield Defect(self._start(node), self._end(node), repr(value), kind)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            for kind, name in _names(node.id, names):
                yield Defect(self._start(node), self._end(node), name, kind)
        elif isinstance(node, ast.Attribute) and node.attr in _FUNCTIONS:
            yield Defect(self._end(node) - len(node.attr), self._end(node), _FUNCTIONS[node.attr], "function")
        elif isinstance(node, ast.Call):
            yield from self._call(node)
        elif isinstance(node, ast.If):
            yield self._branch(node)

    def _operator(
        self, kind: str, others: Mapping[str, tuple[str, ...]], operator: ast.AST, left: ast.expr, right: ast.expr
    ) -> Iterator[Defect]:
        start, end = self._end(left), self._start(right)
        symbol = _SYMBOLS.get(type(operator), "")
        gap = self._data[start:end].decode()
        if gap.count(symbol) == 1 and symbol in others:
            start += len(gap[: gap.index(symbol)].encode())
            for other in others[symbol]:
                yield Defect(start, start + len(symbol), other, kind)

    def _call(self, node: ast.Call) -> Iterator[Defect]:
        if len(node.args) >= 2 and not any(isinstance(argument, ast.Starred) for argument in node.args):
            one, other = node.args[:2]
            between = self._data[self._end(one) : self._start(other)].decode()
            swapped = f"{self._text(other)}{between}{self._text(one)}"
            yield Defect(self._start(one), self._end(other), swapped, "arguments")
        if isinstance(node.func, ast.Name) and node.func.id == "range" and node.args:
            stop = self._end(node.args[0 if len(node.args) == 1 else 1])
            for change in (" - 1", " + 1"):
                yield Defect(stop, stop, change, "off_by_one")

    def _branch(self, node: ast.If) -> Defect:
        """Drops what follows after ``else`` or ``elif``; without them the whole statement."""
        if node.orelse:
            return Defect(self._end(node.body[-1]), self._end(node), "", "branch")
        first = self._data.rfind(b"\n", 0, self._start(node)) + 1
        return Defect(first, self._end(node) + 1, "", "branch")


def _code_of(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below one that mean something when the program runs."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "args", "decorator_list") and not isinstance(node, ast.Call):
            continue
        for child in value if isinstance(value, list) else [value]:
            is_text = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            if isinstance(child, ast.AST) and not is_text and not isinstance(child, ast.JoinedStr):
                yield child
                yield from _code_of(child)


def _local_names(function: ast.FunctionDef) -> list[str]:
    names = [argument.arg for argument in function.args.args]
    names += [n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return list(dict.fromkeys(names))


def _names(name: str, names: list[str]) -> Iterator[tuple[str, str]]:
    """(kind, another name)"""
    if name in _FUNCTIONS and name not in names:
        yield "function", _FUNCTIONS[name]
    elif name in names:
        place = names.index(name)
        for other in {names[place - 1], names[(place + 1) % len(names)]} - {name}:
            yield "variable", other


def _constants(value: object) -> Iterator[tuple[str, object]]:
    """(kind, another value)"""
    if isinstance(value, bool):
        yield "constant", not value
    elif isinstance(value, int):
        yield "off_by_one", value + 1
        if value > 0:
            yield "off_by_one", value - 1
    elif isinstance(value, float):
        yield "constant", value * 2 if value else 1.0
    elif isinstance(value, str):
        yield "constant", value[:-1] if value else " "
