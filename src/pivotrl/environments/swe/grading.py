"""FAIL_TO_PASS and PASS_TO_PASS by pytest in a sandbox, on the agent's files with the tests of the row put back.

The tests import the agent's code, so they share a process with it. What can be taken from it is taken: files that
decide how tests run are put back, outcomes count only if pytest comes to its end, and two tests that must fail run
beside the others, so code that makes every test pass gives itself away. Code that knows how it is judged can still
forge the outcome of one test; so it can in SWE-bench.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pivotrl.environments.swe.clones import GUARDED, PACKAGES, is_guarded
from pivotrl.environments.swe.rows import Instance
from pivotrl.sandbox import Limits, Sandbox

_RUNNING = Path(__file__).with_name("running.py").read_text("utf-8")
_CANARY = "def test_unequal():\n    assert 1 == 2\n\n\ndef test_raises():\n    raise RuntimeError\n"
GOOD = {"passed", "xfailed"}
_MAX_REPORT = 64 << 20


class Graded(NamedTuple):
    """What the tests say."""

    outcomes: dict[str, str]
    """Test -> passed, failed, error, skipped, xfailed; tests that did not run are missing."""
    reason: str
    """Empty, or why there are no outcomes."""

    def resolves(self, instance: Instance) -> bool:
        wanted = (*instance.fail_to_pass, *instance.pass_to_pass)
        return not self.reason and all(self.outcomes.get(name) in GOOD for name in wanted)


def grade(
    instance: Instance, folder: Path, tree: Path, shell: Sequence[str], sandbox: Sandbox, limits: Limits
) -> Graded:
    """Run the row's tests on ``tree``, a copy of the agent's files, which is changed.

    Raises:
        SandboxFault: the sandbox failed.
    """
    _put_back(instance, folder, tree)
    own, report = f".pivotrl-{secrets.token_hex(8)}", f"{secrets.token_hex(8)}.json"
    (tree / own).mkdir()
    (tree / own / "running.py").write_text(_RUNNING, "utf-8")
    (tree / own / "test_canary.py").write_text(_CANARY, "utf-8")
    files = [name for name in instance.test_files if (tree / name).is_file()]
    (tree / own / "asked.json").write_text(json.dumps({"files": files, "report": report}), "utf-8")
    with sandbox.open(tree, limits) as session:
        finished = session.run([*shell, f"exec python3 -B {own}/running.py"])
        if finished.timed_out:
            return Graded({}, "time_limit")
        try:
            found = json.loads(session.read(f"{own}/{report}", _MAX_REPORT))["outcomes"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            lines = (finished.stderr or finished.stdout).decode(errors="replace").strip().splitlines()
            return Graded({}, f"no_report: {lines[-1][:200] if lines else 'it printed nothing'}")
    canaries = {name: outcome for name, outcome in found.items() if "test_canary.py::" in name}
    if sorted(canaries.values()) != ["failed", "failed"]:
        return Graded({}, "forged")
    return Graded({name: str(outcome) for name, outcome in found.items() if name not in canaries}, "")


def _put_back(instance: Instance, folder: Path, tree: Path) -> None:
    """Undo what the agent did to the tests, to files that decide how tests run, and to the packages."""
    for name in GUARDED:
        for path in list(tree.rglob(name)):
            if is_guarded(path.relative_to(tree).as_posix(), instance):
                path.unlink()
    if (tree / PACKAGES).is_dir():
        shutil.rmtree(tree / PACKAGES)
    if (folder / "files" / PACKAGES).is_dir():
        shutil.copytree(folder / "files" / PACKAGES, tree / PACKAGES, symlinks=True)
    for path in sorted((folder / "check").rglob("*")):
        if path.is_file():
            place = tree / path.relative_to(folder / "check")
            _make_room(tree, place)
            shutil.copyfile(path, place)


def _make_room(tree: Path, place: Path) -> None:
    """Make the folders of a file, in place of files and links that the agent left there."""
    for parent in reversed(place.relative_to(tree).parents):
        if (tree / parent).is_symlink() or (tree / parent).is_file():
            (tree / parent).unlink()
        (tree / parent).mkdir(exist_ok=True)
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
