"""Run an untrusted chat template with limits: no attribute walks, files, clock, endless loops or floods.

The dialect is that of ``apply_chat_template`` in transformers (its ``tojson``, ``raise_exception``, ``strftime_now``,
``{% generation %}``, loop controls). What a template does is paid from a budget of operations, counted and not
timed, so that the same template on the same data always ends the same way. Names that are not on the lists below do
not exist.
"""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, cast

import jinja2
from jinja2 import nodes
from jinja2.runtime import LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from pivotrl.templates.operation_budget import Generation, Metered

MAX_SOURCE = 1_000_000
"""Characters of the longest template."""
MAX_TEXT = 16_000_000
"""Characters of the longest text that a template may produce."""
MAX_ITEMS = 1_000_000
"""Values in the largest list or object that it may make, nested ones counted each time they occur."""
MAX_OPERATIONS = 1_000_000
"""Loop rounds, calls and comparisons in one rendering; handling large values counts as several."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FILTERS = _words(
    "abs capitalize count d default dictsort e escape first float int items join last length list lower "
    "map max min reject rejectattr replace reverse round safe select selectattr sort string sum title "
    "trim unique upper "
)
_TESTS = _words(
    "boolean defined divisibleby eq equalto even false float ge gt in integer iterable le lower lt "
    "mapping ne none number odd sameas sequence string true undefined upper == != < > <= >= "
)
_TEXT_FILTERS = _words("capitalize e escape lower safe string title trim upper ")
"""Filters that write out any value."""
_METHODS: dict[type, frozenset[str]] = {
    str: _words(
        "capitalize count endswith find index isalnum isalpha isdigit islower isspace isupper join lower "
        "lstrip partition removeprefix removesuffix replace rfind rindex rpartition rsplit rstrip split "
        "splitlines startswith strip title upper "
    ),
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    tuple: frozenset({"count", "index"}),
}
_MISHAPS = (
    *(jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError),
    *(SyntaxError, TypeError, ValueError),
)
"""Errors that a template can raise: its own complaints and programming mistakes."""


class ChatProgram:
    """A compiled template.

    Args:
        source: the template's text.
        date: what ``strftime_now`` says: a prompt must not depend on the day it is rendered.

    Raises:
        ValueError: it does not compile, or uses something that no chat template needs.
    """

    def __init__(self, source: str, date: datetime.date) -> None:
        if len(source) > MAX_SOURCE:
            raise ValueError(f"a chat template of {len(source)} characters is too long")
        self._environment = _Environment(date)
        try:
            self._template = self._environment.from_string(source)
        except _MISHAPS as error:
            raise ValueError(f"the chat template does not compile: {_line(error)}") from None

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text for these variables, which must be plain JSON values.

        Raises:
            ValueError: the template refuses them, fails on them, or exceeds its bounds.
        """
        self._environment.operations = self._environment.written = 0
        try:
            return "".join(self._template.generate(**variables))
        except _MISHAPS as error:
            raise ValueError(f"the chat template refuses: {_line(error)}") from None


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, date: datetime.date) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[Generation, "jinja2.ext.loopcontrols"],
            optimized=False,  # constant folding would run unbounded expressions at compile time
            finalize=self.write,
        )
        self.operations = self.written = 0
        self.globals = {
            "dict": lambda *args, **values: self.weigh(dict(*args, **values)),
            "namespace": Namespace,
            "range": self.globals["range"],
            "raise_exception": _raise_exception,
            "strftime_now": date.strftime,
        }
        builtin = cast("Mapping[str, Callable[..., Any]]", self.filters)
        self.filters = {name: self._charged(builtin[name], name in _TEXT_FILTERS) for name in _FILTERS}
        self.filters.update(tojson=self._charged(_to_json, True), join=self._join, replace=self._replace)
        tests = cast("Mapping[str, Callable[..., Any]]", self.tests)
        self.tests = {name: self._charged(tests[name], False) for name in _TESTS}

    def charge(self, value: Any = None, num_characters: int = 0) -> Any:
        """The value, paid for by its size. ``num_characters``: what is written besides, by a round of a loop."""
        size = len(value) if isinstance(value, str | range | list | tuple | dict) else 0
        self._pay(size // (1000 if isinstance(value, str) else 100))
        self.written += num_characters
        if size > (MAX_TEXT if isinstance(value, str | range) else MAX_ITEMS) or self.written > 4 * MAX_TEXT:
            raise jinja2.TemplateError(f"it makes a text longer than {MAX_TEXT} or a list longer than {MAX_ITEMS}")
        return value

    def weigh(self, value: Any) -> Any:
        """As :meth:`charge`, with everything inside a list or object."""
        if not isinstance(value, list | tuple | dict):
            return self.charge(value)
        num_items, num_characters, level = 0, 0, [value]
        while level:
            children = [x for item in level for x in (item.values() if isinstance(item, dict) else item)]
            num_items += len(children)
            num_characters += sum(len(x) for x in children if isinstance(x, str))
            if num_items > MAX_ITEMS or num_characters > MAX_TEXT:
                raise jinja2.TemplateError(f"it makes a list longer than {MAX_ITEMS} or a text longer than {MAX_TEXT}")
            level = [x for x in children if isinstance(x, list | tuple | dict)]
        self._pay(num_items // 100 + num_characters // 1000)
        return value

    def write(self, value: Any) -> Any:
        """As :meth:`weigh`, for a value on its way into the text."""
        self.charge(None, len(value) if isinstance(value, str) else 0)
        return self.weigh(value)

    def _pay(self, amount: int) -> None:
        self.operations += 1 + amount
        if self.operations > MAX_OPERATIONS:
            raise jinja2.TemplateError(f"it takes more than {MAX_OPERATIONS} operations")

    def _charged(self, function: Callable[..., Any], deep: bool) -> Callable[..., Any]:
        @functools.wraps(function)  # with the marks that say whether it takes the context or the environment
        def wrapped(*args: Any, **options: Any) -> Any:
            for value in args:
                self.weigh(value) if deep else self.charge(value)
            return self.charge(function(*args, **options))

        return wrapped

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        Metered().visit(tree)
        return tree

    def wrap_str_format(self, value: Any) -> None:
        """``str.format`` is not among the methods: its widths are unbounded."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if not super().is_safe_attribute(obj, attr, value):
            return False
        if isinstance(obj, LoopContext | Macro | Namespace) or not callable(value):
            return True
        return any(attr in names for kind, names in _METHODS.items() if isinstance(obj, kind))

    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:
        raise jinja2.exceptions.SecurityError(f"it may not use {attribute!r} of {type(obj).__name__}")

    def call(__self, __context: Any, __obj: Any, *args: Any, **options: Any) -> Any:
        subject, method = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if subject is __self:  # our own charges
            return __obj(*args)
        if isinstance(subject, str) and method == "join":
            return __self._join(args[0], subject)
        if isinstance(subject, str) and method == "replace":
            return __self._replace(subject, *args)
        return __self.charge(super().call(__context, __obj, *args, **options))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str):
            raise jinja2.exceptions.SecurityError("it may not format with %")
        if operator == "*" and not (isinstance(left, int | float) and isinstance(right, int | float)):
            times, repeated = (left, right) if isinstance(left, int) else (right, left)
            self.charge(range(times * max(len(repeated), 1)) if isinstance(times, int) else None)  # before it is made
        if operator == "**" and not (abs(left) < 2**32 and abs(right) <= 64):
            raise jinja2.TemplateError("it makes numbers too large")
        value = super().call_binop(context, operator, left, right)
        if isinstance(value, int) and value.bit_length() > 4096:
            raise jinja2.TemplateError("it makes numbers too large")
        return self.charge(value)

    def _join(self, values: Any, separator: str = "", attribute: str | None = None) -> str:
        if attribute is not None:
            values = [self.getitem(value, attribute) for value in values]
        texts = [str(self.weigh(value)) for value in values]
        self.charge(range(sum(map(len, texts)) + len(separator) * len(texts)))  # before it is made
        return str(separator).join(texts)

    def _replace(self, text: Any, old: str, new: str, count: int = -1) -> str:
        text, old, new = str(text), str(old), str(new)
        self.charge(range(len(text) + text.count(old) * len(new)))
        replaced: str = text.replace(old, new, count)
        return replaced


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    if indent is not None and not 0 <= indent <= 16:
        raise jinja2.TemplateError(f"it may not indent by {indent}")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + " ..."
