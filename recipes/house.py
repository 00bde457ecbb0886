"""The shape of the package: its rooms, the floors they stand on, and the arrows between them.

A room is a module or a package directly below ``src/pivotrl``. An arrow is one room importing another. A room stands
one floor above the highest that it imports. ``python recipes/house.py`` rewrites the table in ``docs/architecture.md``.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[1] / "src" / "pivotrl"
PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
BEGIN, END = "<!-- house: recipes/house.py -->", "<!-- /house -->"


def modules() -> dict[str, Path]:
    """Dotted name -> file, of every module of the package but its own ``__init__``."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    del found["pivotrl"]
    return found


def imports(path: Path) -> set[str]:
    """What a file imports, wherever in it: modules, and the names that are taken from them, dotted."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(module: str) -> str:
    return module.split(".")[1]


def arrows() -> dict[str, set[str]]:
    """Room -> the rooms it imports."""
    found: dict[str, set[str]] = {}
    for module, path in modules().items():
        here = found.setdefault(room(module), set())
        here |= {room(name) for name in imports(path) if name.startswith("pivotrl.")} - {room(module)}
    return {name: {there for there in targets if there in found} for name, targets in found.items()}


def floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """Room -> its floor, from 1.

    Raises:
        RecursionError: the arrows of some rooms form a circle.
    """

    @functools.cache
    def floor(name: str) -> int:
        return 1 + max((floor(there) for there in graph[name]), default=0)

    return {name: floor(name) for name in sorted(graph)}


def table() -> str:
    """The floors as a table, the lowest first."""
    graph = arrows()
    levels = floors(graph)
    rows = [
        f"| {level} | {' '.join(f'`{name}`' for name, its in levels.items() if its == level)} |"
        for level in range(1, max(levels.values()) + 1)
    ]
    counted = f"{len(graph)} rooms on {len(rows)} floors, {sum(map(len, graph.values()))} arrows."
    return "\n".join([counted, "", "| floor | rooms |", "| --- | --- |", *rows])


def page(text: str) -> str:
    """The page with the table as it is now."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
    print(table())
