"""What the documents say is so: commands exist, metrics are documented, names point at something."""

from __future__ import annotations

import ast
import json
import pkgutil
import pydoc
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pivotrl
from parsed_commands import require_parses

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "AGENTS.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "recipes/gpu/README.md",
]


def commands() -> list[tuple[str, str]]:
    found = []
    for document in DOCUMENTS:
        text = document.read_text().replace("\\\n", " ")
        text = re.sub(r"torchrun .*?-m pivotrl\.cli ", "pivotrl ", text)
        for line in re.findall(r"^\s*(?:\$ )?(pivotrl [a-z]+ .*)$|`(pivotrl [a-z]+ [^`]*)`", text, re.MULTILINE):
            found.append((document.name, (line[0] or line[1]).split("  #")[0].strip()))
    return found


@pytest.mark.parametrize(("document", "command"), commands(), ids=lambda value: str(value)[:60])
def test_every_command_in_the_documents_parses(document: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(command)[1:]
    if "--config" in words:  # a file of options, with the source among them
        place = words.index("--config")
        words[place : place + 2] = ["logs.jsonl"]
    require_parses(words, monkeypatch)


def test_the_documents_hold_commands_to_check() -> None:
    assert len(commands()) >= 8


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_make_targets_and_files_exist(document: Path) -> None:
    text = document.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^ *)make ([a-z-]+)", text, re.MULTILINE)) <= targets
    for link in re.findall(r"\]\((?!http|#)([^)#]+)", text):
        assert (document.parent / link).exists(), link
    for path in re.findall(r"`((?:src|docs|tests|recipes|benchmarks)/[\w./-]+\.\w+)`", text):
        assert (ROOT / path).exists(), path


def test_tests_named_in_the_method_exist() -> None:
    for name in re.findall(r"`(test_\w+\.py)`", (ROOT / "docs" / "method.md").read_text()):
        assert (ROOT / "tests" / name).exists(), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_functions_named_in_the_documents_exist(document: Path) -> None:
    rooms = {module.name for module in pkgutil.iter_modules(pivotrl.__path__)}
    for name in re.findall(r"`(?:pivotrl\.)?([a-z_]+(?:\.\w+)+)[`(]", document.read_text()):
        is_code = name.split(".")[0] in rooms or document.name == "method.md"
        if is_code and not name.endswith((".py", ".md", ".jsonl", ".json", ".html")):
            assert pydoc.locate(f"pivotrl.{name}") is not None, name


def names_of_classes() -> dict[str, set[str]]:
    """Class -> the names that the bodies of all classes of that name define."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "src" / "pivotrl").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                inside = found.setdefault(node.name, set())
                for part in ast.walk(node):
                    if isinstance(part, ast.FunctionDef):
                        inside.add(part.name)
                    elif isinstance(part, ast.AnnAssign):
                        inside.add(ast.unparse(part.target))
    return found


FOREIGN_CLASSES = {"Hkv"}
"""Words in code style that look like classes: of mathematics, other packages, or examples."""


def test_classes_named_in_the_documents_exist() -> None:
    classes, num_named = names_of_classes(), 0
    for document in DOCUMENTS:
        text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
        for name, member in re.findall(r"`([A-Z][a-z]+[A-Za-z]*)(?:\.(\w+))?(?:\([^`]*)?`", text):
            if name in FOREIGN_CLASSES:
                continue
            assert name in classes, (document.name, name)
            assert not member or member in classes[name], (document.name, name, member)
            num_named += 1
    assert num_named > 30


def test_every_metric_is_documented_and_every_documented_metric_exists() -> None:
    places = ("training.py", "runs/step_metrics.py", "methods/*.py", "policies/**/*.py", "engine/**/*.py")
    sources = [path for place in places for path in (ROOT / "src" / "pivotrl").glob(place)]
    written = {name for path in sources for name in re.findall(r'"([a-z]+/[a-z_]+)"', path.read_text())}
    documented = set(re.findall(r"^\| `([a-z]+/[a-z_]+)`", (ROOT / "docs" / "runs.md").read_text(), re.MULTILINE))
    assert written == documented
    # Each name is written by the policy that a user trains, and the toy policy invents none.
    engine, toy = (
        {name for path in paths for name in re.findall(r'"([a-z]+/[a-z_]+)"', path.read_text())}
        for paths in (
            (ROOT / "src" / "pivotrl" / "engine").rglob("*.py"),
            [ROOT / "src" / "pivotrl" / "policies" / "tabular.py"],
        )
    )
    of_tokens = {"tokens/computed", "tokens/unshared"}
    of_another_engine = {"policy/sampler_gap_max", "importance/mean", "importance/capped_fraction"}
    assert engine - toy == of_tokens | of_another_engine and toy <= engine


def test_no_document_names_a_private_place() -> None:
    for path in [*DOCUMENTS, *ROOT.glob("recipes/**/*.json"), *ROOT.glob("recipes/*.py")]:
        text = path.read_text()
        assert str(ROOT) not in text and f"{Path.home()}/" not in text, path


def test_python_examples_compile() -> None:
    for document in DOCUMENTS:
        for block in re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL):
            compile(block, str(document), "exec")


def test_the_tables_of_results_are_those_of_the_committed_data() -> None:
    command = [sys.executable, str(ROOT / "recipes" / "results_table.py"), "--check"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_the_numbers_of_the_benchmarks_are_those_of_the_committed_data(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    page = tmp_path / "docs" / "performance.md"
    page.parent.mkdir()
    shutil.copy(ROOT / "docs" / "performance.md", page)
    subprocess.run([sys.executable, "benchmarks/results.py"], cwd=tmp_path, check=True, capture_output=True)
    assert page.read_text() == (ROOT / "docs" / "performance.md").read_text()

    found = json.loads((ROOT / "benchmarks" / "results" / "viewer.json").read_text())
    made, later = found["making"], found["later_searches"]
    find, shown = later["find_ms"], later["shown_ms"]
    told = (
        f"takes {made['seconds']:.0f} s of one core and at most {made['peak_megabytes']:.0f} MB of memory, and its "
        f"page has {made['page_megabytes']:.1f} MB. On an idle machine of two cores, that page showed its first strips "
        f"after {found['open_ms']['median']:.0f} ms; a search of all contents took {find['median']:.0f} ms in the "
        f"median and {find['maximum']:.0f} ms at most, with drawing {shown['maximum']:.0f} ms at most"
    )
    assert told in " ".join((ROOT / "docs" / "viewing.md").read_text().split())


def test_the_version_is_said_once() -> None:
    assert f'version = "{pivotrl.__version__}"' in (ROOT / "pyproject.toml").read_text()
