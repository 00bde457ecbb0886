"""What the sandbox costs: a command, and the restoring of an environment directory.

    python benchmarks/bench_sandbox.py

One session at a time. A command is ``true``: all that is measured is the sandbox. The directory holds 2,000 files; a
restore is the opening of a session on it, and the closing is counted apart. A plain process and a plain copy of the
directory, measured in turn with it, are what there would be without a sandbox.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from host import machine
from pivotrl.protocols import InputError
from pivotrl.sandbox import BACKENDS, Sandbox, open_sandbox

HERE = Path(__file__).parent


def write_files(top: Path, num_files: int) -> None:
    """Small text files in directories of forty."""
    for number in range(num_files):
        folder = top / f"folder{number // 40}"
        folder.mkdir(exist_ok=True)
        (folder / f"file{number}.txt").write_text(f"{number}\n" * (number % 200))


def milliseconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - start)


def measure(sandbox: Sandbox, files: Path, repetitions: int) -> dict[str, list[float]]:
    """Milliseconds of each part; the parts take turns, the first turn warms up."""
    found: dict[str, list[float]] = {}
    for repetition in range(repetitions + 1):
        opened = []
        copied = files.with_name("copy")
        parts: dict[str, Callable[[], object]] = {
            "restore": lambda: opened.append(sandbox.open(files)),  # noqa: B023 - called at once
            "command": lambda: opened[0].run(["true"]),  # noqa: B023
            "python": lambda: opened[0].run(["python3", "-c", "pass"]),  # noqa: B023
            "changes": lambda: opened[0].changes(),  # noqa: B023
            "close": lambda: opened[0].close(),  # noqa: B023
            "plain command": lambda: subprocess.run(["true"], check=True),  # noqa: S607
            "plain copy": lambda: shutil.copytree(files, copied),  # noqa: B023
        }
        for name, action in parts.items():
            taken = milliseconds(action)
            if repetition:
                found.setdefault(name, []).append(taken)
        shutil.rmtree(copied)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", default=["bwrap"], choices=BACKENDS)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--repetitions", type=int, default=30)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "sandbox.json")
    arguments = parser.parse_args()
    backends = {}
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "files")
        files.mkdir()
        write_files(files, arguments.files)
        for backend in arguments.backends:
            try:
                sandbox = open_sandbox(backend)
            except InputError as error:
                print(error, file=sys.stderr)
                continue
            backends[backend] = {
                "identity": sandbox.identity,
                "milliseconds": measure(sandbox, files, arguments.repetitions),
            }
    for backend, result in backends.items():
        print(f"{backend}: {result['identity']['level']}, restore by {result['identity']['restore']}")
        print(f"{'':16}{'p50 ms':>8}{'p95 ms':>8}")
        for name, values in result["milliseconds"].items():
            print(f"{name:16}{statistics.median(values):8.1f}{statistics.quantiles(values, n=20)[-1]:8.1f}")
    result = {
        "command": shlex.join(["python", "benchmarks/bench_sandbox.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine("pivotrl"),
        "num_files": arguments.files,
        "backends": backends,
        "p50_milliseconds": {
            backend: {name: statistics.median(values) for name, values in found["milliseconds"].items()}
            for backend, found in backends.items()
        },
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
