"""The house keeps its shape: imports point one way, the core is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pivotrl

ROOT = Path(pivotrl.__file__).parent
LAYERS = [
    {"options", "records", "protocols"},
    {
        *(
            "atomic_folder",
            "extras",
            "plugin_faults",
            "plugin_shapes",
            "store",
            "plugins",
            "turns",
            "advantages",
            "sample_faults",
            "selection",
            "seeding",
            "intervals",
            "strict_json",
        ),
        *("privacy", "copies", "equivalence", "gym_rules", "sandbox", "killable"),
    },
    {
        *("call_text", "thoughts", "bare_values", "call_results", "styles", "parsing"),
        *("logs", "alternatives", "templates", "chatml", "chatml_template", "losses", "engine", "environments"),
    },
    {"rendering", "export_rows", "export_readme"},
    {"rollouts"},
    {"episodes", "runs"},
    {"readers", "verifiers", "policies", "exporters", "samplers"},
    {"verification", "probes", "row_rewards"},
    {"checking"},
    {"profiling", "training", "training_options", "evaluation", "exporting", "import_files"},
    {"importing"},
    {"stages", "measuring", "summary", "run_command"},
    {"wording"},
    {"plots"},
    {"reporting"},
    {"pipeline", "comparison"},
    {
        "fitting_table",
        "tables",
        "import_table",
        "check_table",
        "doctor",
        "doctor_table",
        "live_progress",
        "command_line",
        "policy_choice",
        "stage_commands",
        "view_commands",
        "cli",
    },
]
ROOMS_OF_PARTS = {
    *("engine", "templates", "styles", "logs", "privacy", "copies", "equivalence", "gym_rules", "sandbox", "probes"),
    "runs",
}
"""Their modules make one thing together; those of the other rooms are plugins, apart from each other."""
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
TORCH = {"torch", "transformers", "peft", "safetensors"}
MAY_USE_TORCH = {"engine", "losses", "policies"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "pivotrl" else {node.module}
            )
    return found


def room(module: str) -> str:
    return module.split(".")[1]


MODULES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    here = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for module in imports(path):
        if not module.startswith("pivotrl."):
            continue
        there = room(module)
        same_room = there == here and here in ROOMS_OF_PARTS
        assert there in LEVEL, f"{path.name} imports {module}, which has no layer"
        assert same_room or LEVEL[there] < LEVEL[here] or (LEVEL[there] == LEVEL[here] and there != here), (
            f"{path.name} (layer {LEVEL[here]}) imports {module} (layer {LEVEL[there]})"
        )


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_torch_stays_in_its_rooms(path: Path) -> None:
    here = path.relative_to(ROOT).parts[0].removesuffix(".py")
    used = {module.split(".")[0] for module in imports(path)} & TORCH
    assert not used or here in MAY_USE_TORCH


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_module_bears_a_standard_library_name(path: Path) -> None:
    assert path.stem == "__init__" or path.stem not in sys.stdlib_module_names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_pickle_no_shell_no_remote_code(path: Path) -> None:
    text = path.read_text()
    assert not {"pickle", "dill", "shelve"} & {module.split(".")[0] for module in imports(path)}
    for forbidden in ("shell=True", "trust_remote_code=True", "torch.load(", "os.system", "eval(", "exec("):
        assert forbidden not in text.replace(".eval()", "").replace("literal_eval(", "")


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
