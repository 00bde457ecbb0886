"""A training that samples on a server is killed at random moments: only what was under way is bought again."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("httpx", reason="needs the extra 'judge'")

from pivotrl.records import SampleGroup
from pivotrl.storage.record_files import RecordFile
from test_endpoint import direct as direct
from test_vllm_policy import model as model
from version_server import VersionServer, seeds

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
GROUP_SIZE = 4


def start(model: Path, server: VersionServer, folder: Path, ahead: bool) -> subprocess.Popen[bytes]:
    words = [str(model), server.url, str(folder), "ahead" if ahead else "not"]
    environment = os.environ | {"PYTHONPATH": f"{HERE.parent / 'src'}:{HERE}"}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", str(HERE / "killed_served_training.py"), *words],
        env=environment,
        stderr=subprocess.DEVNULL,
    )


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "end" / "weights.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("ahead", [False, True])
def test_a_kill_costs_what_was_under_way(model: Path, tmp_path: Path, ahead: bool) -> None:
    dice = random.Random(f"kills {ahead}")
    with VersionServer(model) as server:
        assert start(model, server, tmp_path / "whole", ahead).wait(600) == 0
        asked = seeds(server.asked)
        assert len(asked) == len(set(asked)) == 6 * 3 * GROUP_SIZE
        server.bodies.clear()
        num_kills = 0
        for _ in range(5):
            running, before = start(model, server, tmp_path / "cut", ahead), len(server.asked)
            answers = dice.randrange(1, 25)
            while len(server.asked) < before + answers and running.poll() is None:
                time.sleep(0.005)
            time.sleep(dice.random() * 0.05)
            num_kills += running.poll() is None
            running.kill()
            running.wait()
        assert start(model, server, tmp_path / "cut", ahead).wait(600) == 0
        again = Counter(seeds(server.asked))
        assert num_kills >= 3 and set(again) == set(asked)
        assert again.total() - len(again) <= num_kills * GROUP_SIZE, "one turn was under way at each kill"
    groups = list(RecordFile(tmp_path / "cut" / "groups.jsonl", SampleGroup))
    assert len(groups) == 18
    if not ahead:
        assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    for group in groups:
        assert group.step is not None and group.version in (group.step, max(0, group.step - ahead))
