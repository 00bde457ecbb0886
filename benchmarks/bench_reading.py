"""How fast logs are read, and with how much memory: the chat reader alone, and the whole import around it.

    python benchmarks/bench_reading.py

One core. The log is made of real tau-bench trajectories (or of the samples in tests), each repetition with its words
exchanged for others of their length, so that no trajectory is a copy of another. The bound is orjson parsing each line
and nothing else, measured in turn with the contestants. Memory is that of a process of its own for each.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from host import machine
from pivotrl.readers import auto, chat
from pivotrl.reading.importing import ReadOptions
from pivotrl.stages.reading import read_stage

HERE = Path(__file__).parent
SOURCES = (
    HERE.parents[1] / "shared" / "data" / "trajectories" / "tau_bench" / "gpt-4o-airline.json",
    HERE.parent / "tests" / "data" / "tau_bench" / "gpt-4o-airline.json",
)
MEGABYTE = 1_000_000
WORD = re.compile(r"[A-Za-z]{4,}")


# --- the log ------------------------------------------------------------------------------------------------------


def write_log(path: Path, source: Path, megabytes: float) -> None:
    """Chat JSON lines of about this size."""
    episodes = json.loads(source.read_bytes())
    size = 0
    with path.open("wb") as file:
        for number, row in enumerate(rows(episodes)):
            line = json.dumps({"id": str(number), **row}).encode() + b"\n"
            size += file.write(line)
            if size >= megabytes * MEGABYTE:
                return


def rows(episodes: list[Any]) -> Iterator[dict[str, Any]]:
    """The episodes again and again, never twice in the same words."""
    by_length: dict[int, list[str]] = {}
    for word in sorted({word for row in episodes for word in WORD.findall(json.dumps(row["traj"]))}):
        by_length.setdefault(len(word), []).append(word)
    for repetition in range(sys.maxsize):
        generator = random.Random(repetition)  # noqa: S311 - words, not secrets
        other = {w: o for words in by_length.values() for w, o in zip(words, shuffled(words, generator), strict=True)}
        for row in episodes:
            messages = [
                {**message, "content": exchanged(message["content"], other) if repetition else message["content"]}
                for message in row["traj"]
            ]
            yield {"task_id": f"{row['task_id']}-{repetition}", "reward": row["reward"], "messages": messages}


def exchanged(text: str | None, other: dict[str, str]) -> str | None:
    return text and WORD.sub(lambda found: other.get(found[0], found[0]), text)


def shuffled(words: list[str], generator: random.Random) -> list[str]:
    return generator.sample(words, len(words))


# --- contestants --------------------------------------------------------------------------------------------------


def parse(path: Path) -> None:
    with path.open("rb") as file:
        for line in file:
            orjson.loads(line)


def read(path: Path) -> None:
    for _ in chat.read(path):
        pass


def stage(path: Path, **options: Any) -> None:
    run = Path(tempfile.mkdtemp(dir=path.parent))
    read_stage(str(path), run, reader=auto.read, reading=ReadOptions(min_reward=None, **options))
    shutil.rmtree(run)


CONTESTANTS: dict[str, Callable[[Path], None]] = {
    "orjson.loads of each line": parse,
    "chat reader": read,
    "read stage": stage,
    "read stage --redact": lambda path: stage(path, redact=True),
}
BOUND, *_ = CONTESTANTS


def speeds(path: Path, repetitions: int) -> dict[str, list[float]]:
    """MB/s of each contestant, which take turns: forwards, backwards, forwards."""
    found: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for repetition in range(repetitions + 1):
        for name in list(CONTESTANTS)[:: -1 if repetition % 2 else 1]:
            start = time.perf_counter()
            CONTESTANTS[name](path)
            seconds = time.perf_counter() - start
            if repetition:  # the first one warms up
                found[name].append(path.stat().st_size / MEGABYTE / seconds)
    return found


def peak_megabytes(name: str, path: Path) -> float:
    """The most memory that a process of its own holds."""
    command = [sys.executable, __file__, "--only", name, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own file
    return float(done.stdout)


# --- results ------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, nargs="+", default=[50, 500], help="logs; the first is timed")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "reading.json")
    parser.add_argument("--only", nargs=2, metavar=("NAME", "LOG"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        CONTESTANTS[arguments.only[0]](Path(arguments.only[1]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE)
        return
    source = next(path for path in SOURCES if path.is_file())
    with tempfile.TemporaryDirectory() as folder:
        logs = {size: Path(folder) / f"{size:g}.jsonl" for size in arguments.megabytes}
        for size, path in logs.items():
            write_log(path, source, size)
        found = speeds(logs[arguments.megabytes[0]], arguments.repetitions)
        memory = {
            name: {f"{size:g}": peak_megabytes(name, path) for size, path in logs.items()} for name in CONTESTANTS
        }
    bound = statistics.median(found[BOUND])
    print(f"{'one core':28}{'MB/s':>8}{'range':>14}{'of bound':>10}  peak memory, MB, for a log of")
    print(f"{'':60}  " + "".join(f"{size:>7g} MB" for size in logs))
    for name, values in found.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        peaks = "".join(f"{peak:>10.0f}" for peak in memory[name].values())
        print(f"{name:28}{middle:8.1f}{f'{low:.0f} to {high:.0f}':>14}{middle / bound:>10.2f}  {peaks}")
    result = {
        "command": shlex.join(["python", "benchmarks/bench_reading.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine("pivotrl", "orjson", "pydantic", "numpy"),
        "log": {"source": source.name, "megabytes": arguments.megabytes},
        "megabytes_per_second": found,
        "share_of_bound": {name: statistics.median(values) / bound for name, values in found.items()},
        "peak_megabytes": memory,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
