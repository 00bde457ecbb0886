"""Tables that never break a number. If one is too wide for the terminal, each cell gets a line of its own."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_MIN_FIRST = 16
"""The least width of the first column, in characters: it holds words, which may wrap."""
_PADDING = 3
"""Between two columns."""


def new_table(*columns: str) -> Table:
    """A table whose first column may wrap; the others must stay on one line."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=bool(number))
    return table


def print_table(console: Console, table: Table) -> None:
    """Print the table, or one line per cell if it is too wide."""
    cells = [[_text(cell) for cell in column.cells] for column in table.columns]
    headers = [_text(column.header) for column in table.columns]
    widths = [max(text.cell_len for text in (header, *column)) for header, column in zip(headers, cells, strict=True)]
    if min(widths[0], _MIN_FIRST) + sum(width + _PADDING for width in widths[1:]) <= console.width:
        console.print(table)
        return
    console.print(Text(headers[0].plain, "bold"))
    label_width = max(header.cell_len for header in headers[1:])
    for first, *rest in zip(*cells, strict=True):
        console.print(first)
        for header, value in zip(headers[1:], rest, strict=True):
            if value.plain:
                label = header.plain.ljust(label_width) + "  " if label_width else ""
                console.print(Text(f"    {label}").append_text(value))


def _text(cell: object) -> Text:
    return Text.from_markup(str(cell))
