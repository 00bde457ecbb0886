"""How many rows a second the record files take and give, each with its checksum.

    python benchmarks/bench_store.py

A row is what a profile stores of one sampled action: text, call, token ids, log-probabilities, verdict. They are
written as a profile writes them (groups of 8 rows, 16 groups a batch, on disk before the next batch), opened (every
line is checked), and read back. `one by one` writes each group alone and waits for the disk each time.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from host import machine
from pivotrl.records import Action, Completion, SampleGroup, ToolCall, Verdict
from pivotrl.storage.record_files import RecordFile, read_records

HERE = Path(__file__).parent
SAMPLES, BATCH = 8, 16


def group(number: int) -> SampleGroup:
    text = f'<tool_call>{{"name": "search", "arguments": {{"query": "flights to place {number}"}}}}</tool_call>'
    action = Action(tool_calls=(ToolCall(name="search", arguments=f'{{"query": "flights to place {number}"}}'),))
    completions = tuple(
        Completion(
            action=action,
            text=text,
            token_ids_T=tuple(range(number % 1000, number % 1000 + 30)),
            logprobs_T=(-0.5 - number / 7919,) * 30,
            finish_reason="stop",
        )
        for _ in range(SAMPLES)
    )
    verdicts = (Verdict.passed(), *(Verdict.failed("wrong_tool", tool="search"),) * (SAMPLES - 1))
    name = f"trajectory{number // 20}#{number % 20}"
    return SampleGroup(turn_id=name, completions_G=completions, verdicts_G=verdicts, prompt_sha256="0" * 64)


def write(path: Path, groups: list[SampleGroup], batch: int) -> None:
    file = RecordFile(path, SampleGroup)
    for start in range(0, len(groups), batch):
        file.append(groups[start : start + batch])


class Timed(NamedTuple):
    """Seconds on the clock, and of the processor: on a busy machine the first say little."""

    wall: float
    processor: float


def timed(work: Callable[[], object]) -> Timed:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return Timed(time.perf_counter() - wall, time.process_time() - processor)


def measure(folder: Path, groups: list[SampleGroup], few: list[SampleGroup]) -> dict[str, tuple[int, Timed]]:
    """What is done -> (rows, seconds)."""
    whole, total = folder / "groups.jsonl", SAMPLES * len(groups)
    return {
        "written": (total, timed(lambda: write(whole, groups, BATCH))),
        "written, one by one": (SAMPLES * len(few), timed(lambda: write(folder / "few.jsonl", few, 1))),
        "opened": (total, timed(lambda: RecordFile(whole, SampleGroup))),
        "opened and read": (total, timed(lambda: read_records(whole, SampleGroup))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=80_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: a temporary one")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "store.json")
    arguments = parser.parse_args()
    groups = [group(number) for number in range(arguments.rows // SAMPLES)]
    few = groups[: max(1, len(groups) // 20)]
    found: dict[str, list[Timed]] = {}
    for repetition in range(arguments.repetitions + 1):
        folder = Path(tempfile.mkdtemp(dir=arguments.folder))
        try:
            for name, (rows, seconds) in measure(folder, groups, few).items():
                if repetition:  # the first one warms up
                    found.setdefault(name, []).append(Timed(rows / seconds.wall, rows / seconds.processor))
            megabytes = (folder / "groups.jsonl").stat().st_size / 1e6
        finally:
            shutil.rmtree(folder)
    for name, speeds in found.items():
        wall, processor = (statistics.median(column) for column in zip(*speeds, strict=True))
        print(f"{name:22}{wall:12,.0f} rows/s{processor:12,.0f} rows per second of the processor")
    result = {
        "command": shlex.join(["python", "benchmarks/bench_store.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine("pivotrl", "pydantic"),
        "rows": SAMPLES * len(groups),
        "megabytes": megabytes,
        "rows_per_second": {name: [speed.wall for speed in speeds] for name, speeds in found.items()},
        "rows_per_processor_second": {name: [speed.processor for speed in speeds] for name, speeds in found.items()},
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
