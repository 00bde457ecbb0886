"""The house keeps its shape: imports point one way, the core is light."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest

import pivotrl
from pivotrl import plugins

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

import house

ROOT = house.ROOT
PLUGINS = set(plugins.EXPORTS)
"""Rooms whose modules are plugins, each apart from the others."""
ENTRANCES = {"auto": "readers"}
"""Plugins that choose among the others of their room."""
TORCH = {"torch", "transformers", "peft", "safetensors"}
MAY_USE_TORCH = {"engine", "policies"}
MODULES = list(house.modules().values())


def test_no_room_imports_one_that_imports_it() -> None:
    graph = house.arrows()
    levels = house.floors(graph)  # a circle has none
    assert all(levels[there] < levels[here] for here, targets in graph.items() for there in targets)


def test_the_house_stays_small() -> None:
    graph = house.arrows()
    assert len(graph) <= 42
    assert max(house.floors(graph).values()) <= 9


def test_a_circle_is_seen() -> None:
    with pytest.raises(RecursionError):
        house.floors({"a": {"b"}, "b": {"a"}})


def test_the_page_shows_the_house_as_it_is() -> None:
    text = house.PAGE.read_text()
    assert house.page(text) == text, "run python recipes/house.py"


def test_plugins_of_a_room_stand_apart() -> None:
    for module, path in house.modules().items():
        here = house.room(module)
        if here in PLUGINS and module.count(".") > 1:
            name = module.split(".")[2]
            others = {i.split(".")[2] for i in house.imports(path) if i.startswith(f"pivotrl.{here}.")} - {name}
            assert not others or ENTRANCES.get(name) == here, f"{module} imports {others}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_torch_stays_in_its_rooms(path: Path) -> None:
    here = path.relative_to(ROOT).parts[0].removesuffix(".py")
    used = {module.split(".")[0] for module in house.imports(path)} & TORCH
    assert not used or here in MAY_USE_TORCH


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_module_bears_a_standard_library_name(path: Path) -> None:
    assert path.stem == "__init__" or path.stem not in sys.stdlib_module_names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_pickle_no_shell_no_remote_code(path: Path) -> None:
    text = path.read_text()
    assert not {"pickle", "dill", "shelve"} & {module.split(".")[0] for module in house.imports(path)}
    for forbidden in ("shell=True", "trust_remote_code=True", "torch.load(", "os.system", "eval(", "exec("):
        harmless = (
            ".eval()",
            "literal_eval(",
            "create_subprocess_exec(",
            "async def exec(",
        )  # Harbor's name of a method
        assert forbidden not in functools.reduce(lambda shorter, name: shorter.replace(name, ""), harmless, text)


def test_importing_the_package_and_the_stages_loads_no_torch() -> None:
    code = (
        "import sys, pivotrl; from pivotrl import run, profile, select, train; import pivotrl.cli; "
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]


def test_every_public_name_exists() -> None:
    for name in pivotrl.__all__:
        assert getattr(pivotrl, name) is not None
