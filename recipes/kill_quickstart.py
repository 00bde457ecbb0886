"""Kill the quickstart at ten random moments and compare it with one that was left alone.

    python recipes/kill_quickstart.py                  # two quickstarts, side by side with one thread each

Kills with SIGKILL, starts again, and at the end compares what must not depend on interruptions: trajectories, profile,
pivots, every sample bought while training, the metrics of every step but for times, the evaluations, and the trained
weights, byte for byte. Writes recipes/results/kills.json and exits with 1 when anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pivotrl.storage.record_files import package_versions, timestamp, write_file

HERE = Path(__file__).parent
FILES = (
    "trajectories.jsonl",
    "heldout.jsonl",
    "profiles.jsonl",
    "selection.jsonl",
    "train/groups.jsonl",
    "train/metrics.jsonl",
    "train/policy/adapter_model.safetensors",
    "evaluations/before.turns.jsonl",
    "evaluations/before.episodes.jsonl",
    "evaluations/before.retention.jsonl",
    "evaluations/after.turns.jsonl",
    "evaluations/after.episodes.jsonl",
    "evaluations/after.retention.jsonl",
)
STARTUP_SECONDS = 12.0
"""Loading the packages and the model, before a resumed run gets on with its work."""


def start(out: Path, log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("ab") as file:
        return subprocess.Popen(  # noqa: S603
            [sys.executable, str(HERE / "quickstart.py"), "--out", str(out)], stdout=file, stderr=file, env=environment
        )


def stage_under_way(out: Path) -> str:
    """The stage a run is in, by its manifests; for the record of each kill."""
    running = [path.name for path in out.rglob("*.manifest.json") if '"running"' in path.read_text()]
    return running[0].removesuffix(".manifest.json") if running else "between stages"


def kill_and_resume(out: Path, log: Path, moments: list[float]) -> list[dict[str, Any]]:
    """Run to the end, killed after so many seconds of work each time."""
    kills: list[dict[str, Any]] = []
    before = 0.0
    for moment in moments:
        process = start(out, log)
        try:
            code = process.wait(moment - before + STARTUP_SECONDS)
        except subprocess.TimeoutExpired:
            kills.append({"seconds_of_work": round(moment), "stage": stage_under_way(out)})
            process.send_signal(signal.SIGKILL)
            process.wait()
            before = moment
            continue
        if code:
            sys.exit(f"the resumed run failed with {code}; see {log}")
        return kills
    if code := start(out, log).wait():
        sys.exit(f"the last run failed with {code}; see {log}")
    return kills


def digest(path: Path) -> str:
    """Of a file's bytes; of the metrics without their times, which differ from run to run."""
    data = path.read_bytes()
    if path.name == "metrics.jsonl":
        rows = [json.loads(line)["metrics"] for line in data.splitlines()]
        kept = [{name: value for name, value in row.items() if not name.startswith("time/")} for row in rows]
        data = json.dumps(kept).encode()
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/kills"))
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=800.0, help="about how long one quickstart takes here")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    generator = random.Random(arguments.seed)  # noqa: S311
    moments = sorted(generator.uniform(1.0, arguments.seconds) for _ in range(arguments.kills))
    began = time.monotonic()
    whole, killed = arguments.out / "whole", arguments.out / "killed"
    reference = start(whole, arguments.out / "whole.log")
    kills = kill_and_resume(killed, arguments.out / "killed.log", moments)
    if code := reference.wait():
        sys.exit(f"the undisturbed run failed with {code}; see {arguments.out / 'whole.log'}")
    same = {name: digest(whole / name) == digest(killed / name) for name in FILES}
    result = {
        "command": "python recipes/kill_quickstart.py",
        "date": timestamp(),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, no GPU, one thread a run",
        "versions": package_versions(),
        "seconds": round(time.monotonic() - began),
        "kills": kills,
        "same": same,
        "sha256": {name: digest(killed / name) for name in FILES},
    }
    write_file(HERE / "results" / "kills.json", json.dumps(result, indent=2) + "\n")
    for name, equal in same.items():
        print("same     " if equal else "DIFFERENT", name)
    print(f"{len(kills)} kills: {', '.join(kill['stage'] for kill in kills)}")
    sys.exit(0 if all(same.values()) else 1)


if __name__ == "__main__":
    main()
