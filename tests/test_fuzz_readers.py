"""Spoilt logs of every format: a trajectory, a refusal or one clear error comes out, never a traceback.

The fast suite spoils a few thousand records; `make test-slow` a million, on both cores.
"""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pivotrl.logs.audit import audit
from pivotrl.logs.sources import head
from pivotrl.plugins import find
from pivotrl.protocols import InputError
from pivotrl.readers.auto import format_of
from pivotrl.records import Refusal, Trajectory
from pivotrl.store import decode_line, encode_line

DATA = Path(__file__).parent / "data"
MAX_SEED_BYTES = 6_000
"""Longer records are cut down to this, so that a million of them take minutes."""
JUNK: list[Any] = [
    None, True, 0, -1, 2**70, 1.5, "", "x", "\x00", "\ud83d\ude00", "<think>", "<tool_call>{", "{", "[1", "{'a': 1}",
    '{"a": 1, "a": 2}', [], [None], [[]], {}, {"": None}, {"role": 5}, {"type": "text"}, [{"type": "image"}], "NaN",
    "assistant", "function_call", "9" * 400,
]  # fmt: skip


def samples() -> dict[str, list[Path]]:
    """Files of JSON values, by the reader that knows them."""
    found: dict[str, list[Path]] = {}
    for path in sorted(DATA.rglob("*.*")):
        if path.suffix in (".json", ".jsonl", ".traj") and path.stat().st_size < 3_000_000:
            try:
                if head(path):
                    found.setdefault(format_of(path), []).append(path)
            except InputError:
                continue  # a part of a format that is a directory, or no log at all
    return found


SAMPLES = samples()


def shortened(value: Any, max_items: int = 40) -> Any:
    """A record of bounded size: the ends of long lists and texts are dropped."""

    def cut(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: cut(part) for key, part in item.items()}
        if isinstance(item, list):
            return [cut(part) for part in item[:max_items]]
        return item[: 20 * max_items] if isinstance(item, str) and not item.startswith(("{", "[")) else item

    short = cut(value)
    return short if max_items == 1 or len(json.dumps(short)) <= MAX_SEED_BYTES else shortened(value, max_items // 2)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below a value."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        keys = list(item) if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ()
        for key in keys:
            found.append((item, key))
            waiting.append(item[key])
    return found


def spoilt(text: str, generator: random.Random) -> str:
    """One to three changes of structure, or of characters."""
    if generator.random() < 0.15:
        for _ in range(generator.randrange(1, 4)):
            place = generator.randrange(len(text))
            text = text[:place] + generator.choice(['"', "{", "}", ",", "\\", "\x00", "é", ""]) + text[place + 1 :]
        return text.replace("\n", " ")
    value = json.loads(text)
    found = places(value)
    for _ in range(generator.randrange(1, 4)):
        container, key = generator.choice(found)
        try:
            change = generator.random()
            if change < 0.25:
                del container[key]
            elif change < 0.35 and isinstance(container, list):
                container.insert(generator.randrange(len(container) + 1), copy.deepcopy(container[key]))
            elif change < 0.45:
                other, place = generator.choice(found)
                container[key] = copy.deepcopy(other[place])
            else:
                container[key] = copy.deepcopy(generator.choice(JUNK))
        except (KeyError, IndexError):  # an earlier change took the place away
            continue
    return json.dumps(value)


def fuzz(name: str, number: int, seed: int, folder: Path) -> Counter[str]:
    """Spoil so many records of a format and read them; what came of them."""
    generator = random.Random(f"{name}/{seed}")
    read = find("readers", name)
    seeds = [[json.dumps(shortened(v)) for v in head(path)] for path in SAMPLES[name]]
    outcomes: Counter[str] = Counter()
    path = folder / f"{name}-{os.getpid()}.jsonl"
    done = 0
    while done < number:
        lines = generator.choice(seeds)
        batch = min(number - done, 200 if len(lines) > 1 or name in ("chat", "sharegpt") else 50)
        texts = [spoilt(generator.choice(lines), generator) for _ in range(batch)]
        path.write_text("\n".join(texts), encoding="utf-8", errors="surrogatepass")
        done += batch
        try:
            for item in read(path):
                outcomes[check(item)] += 1
        except InputError as error:
            assert "\n" not in str(error)
            outcomes["error"] += 1
    path.unlink()
    return outcomes


def check(item: Trajectory | Refusal) -> str:
    if isinstance(item, Refusal):
        assert "\n" not in item.reason and item.place
        return "refused"
    whole = audit(item)
    assert all(whole.messages[index].role == "assistant" for index in whole.excluded)
    assert all(loss.message is None or 0 <= loss.message < len(whole.messages) for loss in whole.losses)
    assert decode_line(encode_line(whole)[:-1], Trajectory) == whole
    return "read"


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_spoilt_records_never_raise(name: str, tmp_path: Path) -> None:
    outcomes = fuzz(name, 300, 0, tmp_path)
    assert outcomes.total() > 0


def _work(job: tuple[str, int, int, Path]) -> Counter[str]:
    return fuzz(*job)


@pytest.mark.slow
def test_a_million_spoilt_records(tmp_path: Path) -> None:
    began = time.monotonic()
    shards = 10
    each = -(-1_000_000 // (shards * len(SAMPLES)))
    jobs: Iterator[Any] = ((name, each, shard, tmp_path) for shard in range(shards) for name in sorted(SAMPLES))
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        outcomes = sum(pool.imap_unordered(_work, jobs), Counter())
    print(f"{shards * each * len(SAMPLES):,} records in {time.monotonic() - began:.0f} s: {dict(outcomes)}")
    assert outcomes["read"] > 10_000 and outcomes["refused"] > 10_000
