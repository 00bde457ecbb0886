"""Charges written into the syntax tree of a chat template, so that whatever loops or grows is paid for as it runs.

The environment that compiles the tree offers ``charge`` and ``weigh``; see :mod:`pivotrl.templates.bounded_jinja`.
"""

from __future__ import annotations

from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.visitor import NodeTransformer


class Metered(NodeTransformer):
    """Puts a charge into every loop, macro, comparison and literal of a template; refuses what loads other ones."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        return self._metered_body(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        return self._metered_body(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        return self._metered_body(node)

    def _metered_body(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        self.generic_visit(node)
        length = sum(len(text.data) for text in node.find_all(nodes.TemplateData))
        node.body.insert(0, nodes.ExprStmt(_paid(nodes.Const(None), "charge", nodes.Const(length))))
        return node

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _paid(node, "weigh") if node.ctx == "load" else node

    def _literal(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        return _paid(node, "weigh")

    visit_List = visit_Dict = _literal

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_paid(part, "weigh") for part in node.nodes]
        return _paid(node, "charge")

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _paid(node, "charge") if isinstance(node.arg, nodes.Slice) else node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _paid(node.expr, "weigh")
        for operand in node.ops:
            operand.expr = _paid(operand.expr, "weigh")
        return node

    def _refused(self, node: nodes.Node) -> NoReturn:
        raise SecurityError(f"it may not use {type(node).__name__.lower()}")

    visit_Include = visit_Import = visit_FromImport = visit_Extends = visit_Block = _refused


class Generation(Extension):
    """``{% generation %}``, which marks the assistant's part in templates meant for training; here a plain scope."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


def _paid(node: nodes.Expr, method: str, *others: nodes.Expr) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(method), [node, *others], [], None, None)
