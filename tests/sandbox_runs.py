"""Run the sandbox's suites as an ordinary user: as this one, or in a process of ``nobody`` where root runs the tests.

Started as a program it prints what the suites found as JSON.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import pivotrl
from pivotrl.protocols import InputError
from pivotrl.sandbox.attacks import AttackResult, Attempt, run_attacks
from pivotrl.sandbox.conformance import run_conformance
from pivotrl.sandbox.local import LocalSandbox

NOBODY = {"user": 65534, "group": 65534, "extra_groups": []}


def sandbox(backend: str = "bwrap", use_cgroup: bool = True) -> LocalSandbox:
    try:
        return LocalSandbox(backend, require_cgroup=False, work_dir="/work", use_cgroup=use_cgroup)
    except InputError as error:
        if "namespaces are needed" in str(error):
            pytest.skip(str(error))
        raise


def is_quick(attempt: Attempt) -> bool:
    """A sample of every category, the slow ones left out."""
    if attempt.category == "resources":
        return attempt.name in {"hang: deaf to signals", "outlive: own session", "output: bad"}
    return sum(attempt.name.encode()) % 20 == 0


def as_user(what: str) -> Any:
    """What this file prints when an ordinary user runs it."""
    python = user_python()
    more = NOBODY if os.getuid() == 0 else {}
    done = subprocess.run([python, __file__, what], capture_output=True, text=True, env=environment(), **more)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def user_python() -> str:
    """An interpreter that the user may run and that finds this package."""
    if os.getuid() != 0:
        return sys.executable
    for path in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run(
                [path, "-c", "import pivotrl.sandbox"], check=True, capture_output=True, env=environment(), **NOBODY
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return path
    pytest.skip("no interpreter here that an ordinary user may run")


def environment() -> dict[str, str]:
    paths = [str(Path(pivotrl.__file__).parents[1]), *(path for path in sys.path if path.endswith("site-packages"))]
    names = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **names}


def attack(what: LocalSandbox, whole: bool) -> list[AttackResult]:
    return run_attacks(what, chosen=lambda attempt: whole or is_quick(attempt))


if __name__ == "__main__":
    found = sandbox()
    kind = sys.argv[1]
    results = run_conformance(found) if kind == "conformance" else attack(found, kind == "whole")
    print(json.dumps({"identity": found.identity, "results": [asdict(result) for result in results]}))
