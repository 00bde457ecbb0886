"""Spoilt logs of every format: a trajectory, a refusal or one clear error comes out, never a traceback.

The fast suite spoils a few thousand records; `make test-slow` a million, on both cores. What is spoilt are the real
samples: their structure (parts lost, doubled, renamed, moved, of another type, taken from other records) and their
bytes. Where a file is one session, a few of its records are spoilt and the others stand, so that reading goes deep.
"""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
import os
import random
import resource
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
import pytest

from pivotrl.plugins import find
from pivotrl.protocols import InputError
from pivotrl.readers.auto import format_of
from pivotrl.reading.audit import audit
from pivotrl.reading.sources import head
from pivotrl.records import Refusal, Trajectory
from pivotrl.storage.record_files import decode_line, encode_line

DATA = Path(__file__).parent / "data"
MAX_RECORD_BYTES = 2_000
"""Longer records are cut down to this, so that a million of them take minutes."""
BATCH = 250
JUNK: list[bytes] = [
    *(b"null", b"true", b"0", b"-1", b"1180591620717411303424", b"1.5", b"1e400", b"NaN", b"9" * 400, b'""', b'"x"'),
    *(b'"\\u0000"', b'"\\ud83d\\ude00"', b'"\\ud83d"', b'"<think>"', b'"<tool_call>{"', b'"{"', b'"[1"', b'"null"'),
    *(b'"{\'a\': 1}"', b'"{\\"a\\": 1, \\"a\\": 2}"', b"[]", b"[null]", b"[[]]", b"{}", b'{"": null}'),
    *(b'{"a":1,"a":2}', b'{"role": 5}', b'{"type": "text"}', b'[{"type": "image"}]', b'"NaN"', b'"assistant"'),
]  # fmt: skip
BYTES = [b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\r", b"e", b""]

Kind = Literal["rows", "session", "document"]
SESSIONS = (
    "claude_code",
    "codex",
    "openhands_events",
    "openhands_sdk",
    "pi",
    "copilot_cli",
    "api_bank",
    "smolagents",
    "vercel_ai",
)
DOCUMENTS = ("openhands_completions", "inspect_ai", "terminal_bench", "langfuse", "langchain", "gemini_cli")
SHARES = dict.fromkeys((*SESSIONS, *DOCUMENTS), 0.08)
"""Records of these formats take far longer: a file each, or a whole session around them."""


@dataclass(frozen=True)
class Sample:
    """Values of a real file: rows that have nothing to do with each other, a session in its order, or one document."""

    kind: Kind
    texts: list[bytes]
    ways: list[list[tuple[Any, ...]]]
    """For each value the keys that lead to each of its parts."""


# --- samples ------------------------------------------------------------------------------------------------------


def sample_of(name: str, values: list[Any]) -> Sample:
    is_session = name in SESSIONS or (name in ("responses", "mini_swe_agent", "gemini") and len(values) > 2)
    kind: Kind = "session" if is_session else "document" if name in DOCUMENTS else "rows"
    values = [shortened(value) for value in values]
    return Sample(kind, [orjson.dumps(value) for value in values], [list(ways_to(value)) for value in values])


@functools.cache
def samples() -> dict[str, list[Sample]]:
    """By the reader that knows them."""
    found: dict[str, list[Sample]] = {}
    for path in sorted(DATA.rglob("*.*")):
        if path.suffix in (".json", ".jsonl", ".traj") and path.stat().st_size < 3_000_000:
            with contextlib.suppress(InputError):  # a part of a format that is a directory, or no log at all
                values, name = head(path), format_of(path)
                if path.parent.name != "events":  # those are read together below
                    found.setdefault(name, []).append(sample_of(name, values))
    for name, pattern in (("openhands_events", "store/demo/events"), ("openhands_sdk", "conversation/events")):
        files = sorted((DATA / "formats" / name / pattern).iterdir(), key=lambda file: (len(file.name), file.name))
        found.setdefault(name, []).append(sample_of(name, [json.loads(file.read_text()) for file in files]))
    log = json.loads((DATA / "formats" / "inspect_ai" / "arithmetic.json").read_text())
    found["inspect_ai"] = [sample_of("inspect_ai", [shortened(log, 20_000)])]
    for run in sorted((DATA / "formats" / "terminal_bench").glob("*/*.run/agent-logs")):
        values = [json.loads(file.read_text()) for file in sorted(run.glob("episode-*/debug.json"))]
        if values:
            found.setdefault("terminal_bench", []).append(sample_of("terminal_bench", values))
    return found


def shortened(value: Any, max_bytes: int = MAX_RECORD_BYTES) -> Any:
    """A record of bounded size: the ends of long texts and, if that is not enough, of long lists are dropped."""
    for max_characters, max_items in ((800, 40), (200, 20), (80, 12), (60, 8), (40, 5), (40, 3)):

        def cut(item: Any, characters: int = max_characters, items: int = max_items) -> Any:
            if isinstance(item, dict):
                return {key: cut(part) for key, part in item.items()}
            if isinstance(item, list):
                return [cut(part) for part in item[:items]]
            return item[:characters] if isinstance(item, str) and not item.startswith(("{", "[")) else item

        short = cut(value)
        if len(json.dumps(short)) <= max_bytes:
            break
    return short


def ways_to(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if way:
        yield way
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from ways_to(part, (*way, key))


# --- spoiling -----------------------------------------------------------------------------------------------------


def spoilt(sample: Sample, index: int, generator: random.Random) -> bytes:
    """A value with one to three changes, of its structure or, less often, of its bytes."""
    text = sample.texts[index]
    if not sample.ways[index] or generator.random() < 0.2:
        for _ in range(generator.randrange(1, 4)):
            text = bytes_changed(text, generator)
        return text.replace(b"\n", b" ")
    value = orjson.loads(text)
    for _ in range(generator.randrange(1, 4)):
        with contextlib.suppress(KeyError, IndexError, TypeError):  # an earlier change took the place away
            change_structure(value, generator.choice(sample.ways[index]), sample, generator)
    return orjson.dumps(value)


def bytes_changed(text: bytes, generator: random.Random) -> bytes:
    start = generator.randrange(len(text) + 1)
    end = min(len(text), start + generator.choice((1, 1, 1, 2, 8, 200)))
    change = generator.random()
    if change < 0.6:
        return text[:start] + generator.choice(BYTES) + text[start + 1 :]
    if change < 0.75:
        return text[:start] + generator.randbytes(end - start) + text[end:]
    if change < 0.85:
        return text[:start] + text[end:]
    return text[:start] if change < 0.9 else text[:end] + text[start:]


def change_structure(value: Any, way: tuple[Any, ...], sample: Sample, generator: random.Random) -> None:
    *keys, last = way
    for key in keys:
        value = value[key]
    part = value[last]
    change = generator.random()
    if change < 0.25:
        del value[last]
    elif change < 0.35 and isinstance(value, list):
        value.insert(generator.randrange(len(value) + 1), part)
    elif change < 0.4 and isinstance(value, list):
        generator.shuffle(value)
    elif change < 0.45 and isinstance(value, dict):
        value[str(generator.choice(generator.choice(sample.ways) or [way])[-1])] = value.pop(last)
    elif change < 0.6:
        value[last] = taken(sample, generator)
    elif change < 0.65:
        value[last] = orjson.dumps(part).decode()
    elif change < 0.7:
        value[last] = [part]
    elif change < 0.8 and isinstance(part, str) and part:
        value[last] = part[: generator.randrange(len(part))]
    else:
        value[last] = orjson.Fragment(generator.choice(JUNK))


def taken(sample: Sample, generator: random.Random) -> Any:
    """A part of any value of the sample."""
    index = generator.randrange(len(sample.texts))
    part = orjson.loads(sample.texts[index])
    for key in generator.choice(sample.ways[index]) if sample.ways[index] else ():
        part = part[key]
    return part


# --- reading ------------------------------------------------------------------------------------------------------


def fuzz(name: str, number: int, seed: int, folder: Path) -> Counter[str]:
    """Spoil so many records of a format and read them; what came of them."""
    generator = random.Random(f"{name}/{seed}")
    read = find("readers", name)
    outcomes: Counter[str] = Counter()
    done = 0
    while done < number:
        sample = generator.choice(samples()[name])
        spoils, texts = spoilt_file(sample, number - done, generator)
        done += spoils
        path = write(folder / f"{name}-{seed}-{done}", sample.kind if name != "terminal_bench" else name, texts)
        try:
            for item in read(path):
                outcomes[check(item)] += 1
        except InputError as error:
            assert "\n" not in str(error)
            outcomes["error"] += 1
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return outcomes


def spoilt_file(sample: Sample, most: int, generator: random.Random) -> tuple[int, list[bytes]]:
    """(how many of them are spoilt, the values of a file)"""
    indices = range(len(sample.texts))
    if sample.kind == "rows":
        chosen = [generator.choice(indices) for _ in range(min(most, BATCH))]
        return len(chosen), [spoilt(sample, index, generator) for index in chosen]
    if sample.kind == "document":
        return 1, [spoilt(sample, generator.choice(indices), generator)]
    few = set(generator.sample(indices, min(len(indices), generator.randrange(1, 4))))
    return len(few), [spoilt(sample, i, generator) if i in few else sample.texts[i] for i in indices]


def write(path: Path, kind: str, texts: list[bytes]) -> Path:
    """A file, which is always a new one: to write over an old one takes the file system far longer."""
    if kind == "terminal_bench":
        (path / "episode-0").mkdir(parents=True)
        (path / "episode-0" / "prompt.txt").write_text("Do it.")
        (path / "episode-0" / "response.txt").write_text("{}")
        (path / "episode-0" / "debug.json").write_bytes(texts[0])
        return path
    path = path.with_suffix(".json" if kind == "document" else ".jsonl")
    path.write_bytes(b"\n".join(texts))
    return path


def check(item: Trajectory | Refusal) -> str:
    if isinstance(item, Refusal):
        assert "\n" not in item.reason and item.place
        encode_line(item)
        return "refused"
    whole = audit(item)
    assert all(whole.messages[index].role == "assistant" for index in whole.excluded)
    assert all(loss.message is None or 0 <= loss.message < len(whole.messages) for loss in whole.losses)
    assert decode_line(encode_line(whole)[:-1], Trajectory) == whole
    return "read"


@pytest.mark.parametrize("name", sorted(samples()))
def test_spoilt_records_never_raise(name: str, tmp_path: Path) -> None:
    outcomes = fuzz(name, max(20, int(500 * SHARES.get(name, 1.0))), 0, tmp_path)
    assert outcomes["read"] and outcomes["refused"] + outcomes["error"], "the changes are too large, or too small"


def _work(job: tuple[str, int, int, Path]) -> Counter[str]:
    return fuzz(*job)


@pytest.mark.slow
def test_a_million_spoilt_records(tmp_path: Path) -> None:
    began = time.monotonic()
    shards = 10
    names = sorted(samples())
    each = 1_000_000 / (shards * sum(SHARES.get(name, 1.0) for name in names))
    jobs = [(name, int(each * SHARES.get(name, 1.0)) + 1, shard, tmp_path) for shard in range(shards) for name in names]
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        outcomes = sum(pool.imap_unordered(_work, jobs), Counter())
        pool.close()
        pool.join()  # so that their processor time is known
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{sum(job[1] for job in jobs):,} records in {time.monotonic() - began:.0f} s "
        f"({used.ru_utime + used.ru_stime:.0f} s of processor time): {dict(outcomes)}"
    )
    assert sum(job[1] for job in jobs) >= 1_000_000
    assert outcomes["read"] > 200_000 and outcomes["refused"] > 200_000
