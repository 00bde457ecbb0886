"""What experiment trackers wrote is read back with the tools' own readers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pivotrl import plugins
from pivotrl.records import Manifest, StepMetrics
from pivotrl.runs.manifest import manifest_path, read_manifest
from pivotrl.storage.record_files import read_records
from test_continuing import pivotrl
from test_pipeline import write_logs
from tracked_training import OPTIONS, train

ROOT = Path(__file__).parents[1]
Found = dict[str, Any]
"""steps: {step: [metrics, once for each time that it was written]}, config, notices and counts, as texts."""


# --- readers: the tools' own ------------------------------------------------------------------------------------------


def note(steps: dict[int, list[dict[str, float]]], metric: str, points: list[tuple[int, float]]) -> None:
    """Enter the points of a metric; a second one at a step goes to a second entry."""
    for place, (step, value) in enumerate(points):
        number = sum(earlier == step for earlier, _ in points[:place])
        written = steps.setdefault(step, [])
        written += [{} for _ in range(number + 1 - len(written))]
        written[number][metric] = value


def read_tensorboard(place: Path, stage: Manifest) -> Found:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    (folder,) = place.glob(f"*/{stage.stage} {stage.id[:8]}")
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0}).Reload()
    steps: dict[int, list[dict[str, float]]] = {}
    texts: dict[str, str] = {}
    for tag in events.Tags()["tensors"]:
        texts[tag] = "\n".join(make_ndarray(event.tensor_proto).item().decode() for event in events.Tensors(tag))
    for tag in events.Tags()["scalars"]:
        note(steps, tag, [(event.step, event.value) for event in events.Scalars(tag)])
    config, counts = (
        dict(re.findall(r"^\| (\S+) \| (.*) \|$", texts.get(tag, ""), re.MULTILINE)) for tag in ("options", "counts")
    )
    return {"steps": steps, "config": config, "notices": texts.get("notices", ""), "counts": counts}


def read_mlflow(place: Path, stage: Manifest) -> Found:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{place}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "trial"]
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`pivotrl.stage_id` = '{stage.id}'")
    steps: dict[int, list[dict[str, float]]] = {}
    for name in run.data.metrics:
        note(steps, name, [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, name)])
    notices = run.data.tags.get("mlflow.note.content", "")
    return {"steps": steps, "config": run.data.params, "notices": notices, "counts": run.data.tags}


def read_wandb(place: Path, stage: Manifest) -> Found:
    (file,) = place.glob(f"wandb/offline-run-*-{stage.id}/*.wandb")
    deadline = time.monotonic() + 60  # W&B's own process writes on after the end of a run
    while not any(record.HasField("exit") for record in records_of_wandb(file)) and time.monotonic() < deadline:
        time.sleep(0.1)
    steps: dict[int, list[dict[str, float]]] = {}
    found: Found = {"steps": steps, "config": {}, "notices": "", "counts": {}}
    for record in records_of_wandb(file):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            metrics = {name: value for name, value in row.items() if not name.startswith("_")}
            steps.setdefault(row["_step"], []).append(metrics)
        elif kind == "run":
            found["config"] |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "output_logger":
            found["notices"] += record.output_logger.line
        elif kind == "summary":
            found["counts"] |= {item.key: item.value_json for item in record.summary.update}
    return found


def records_of_wandb(file: Path) -> Iterator[Any]:
    """W&B's own messages, in the blocks of a LevelDB log."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, parts = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        parts = (b"" if kind in (1, 2) else parts) + data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield Record.FromString(parts)


def read_trackio(place: Path, stage: Manifest) -> Found:
    from trackio.sqlite_storage import SQLiteStorage

    (name,) = [name for name in SQLiteStorage.get_runs("trial") if name.endswith(stage.id[:8])]
    found: Found = {"steps": {}, "counts": {}, "config": SQLiteStorage.get_run_config("trial", name)}
    for row in SQLiteStorage.get_logs("trial", name):
        metrics = {key: value for key, value in row.items() if key not in ("timestamp", "step")}
        if any(key.startswith("counts/") for key in metrics):
            found["counts"] |= metrics
        else:
            found["steps"].setdefault(row["step"], []).append(metrics)
    found["notices"] = " ".join(a["text"] for a in SQLiteStorage.get_alerts("trial") if a["run"] == name)
    return found


READERS = {"tensorboard": read_tensorboard, "mlflow": read_mlflow, "wandb": read_wandb, "trackio": read_trackio}
TOOLS = sorted(READERS)


# --- fixtures ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def selected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    run = folder / "run"
    assert pivotrl("read", write_logs(folder / "logs.jsonl", 12), "-o", run) == 0
    assert pivotrl("profile", run, "--policy", "tabular", "--verifier", "exact", "--num-samples", "8") == 0
    assert pivotrl("select", run) == 0
    return run


@pytest.fixture(scope="module")
def place() -> Path:
    """Trackio reads its folder once in a process, when anything first imports it: it is that of conftest.py."""
    return Path(os.environ["TRACKIO_DIR"])


def spec(tool: str, place: Path) -> str:
    return {
        "tensorboard": f"tensorboard(directory='{place}')",
        "mlflow": f"mlflow(uri='sqlite:///{place}/mlflow.db', experiment='trial', artifacts='{place}/artifacts')",
        "wandb": f"wandb(directory='{place}', project='trial')",
        "trackio": f"trackio(directory='{place}', project='trial')",
    }[tool]


def rows_of(run: Path) -> dict[int, dict[str, float]]:
    return {row.step: row.metrics for row in read_records(run / "train/metrics.jsonl", StepMetrics)}


def require_each_step_once(found: Found, run: Path) -> None:
    rows = rows_of(run)
    assert sorted(found["steps"]) == sorted(rows) == list(range(OPTIONS.num_steps))
    for step, written in found["steps"].items():
        (metrics,) = written
        assert metrics == pytest.approx(rows[step], rel=1e-6)


# --- every tool -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", TOOLS)
def test_a_training_killed_between_checkpoints_is_one_run_with_each_step_once(
    tool: str, selected: Path, place: Path, tmp_path: Path
) -> None:
    """Killed while it sampled step 5, after the checkpoint of step 3: steps 3 and 4 are made twice."""
    run = shutil.copytree(selected, tmp_path / "run")
    command = [sys.executable, ROOT / "tests/tracked_training.py", run, spec(tool, place), "5"]
    killed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len((run / "train/metrics.jsonl").read_text().splitlines()) == 5
    tracker = plugins.load("trackers", spec(tool, place))
    train(run, tracker)
    tracker.notice("after the end")
    tracker.close()
    stage = read_manifest(manifest_path(run, "train"))
    found = READERS[tool](place, stage)
    require_each_step_once(found, run)
    assert str(found["config"]["learning_rate"]) == "0.5" and str(found["config"]["group_size"]) == "4"
    assert "tabular" in found["config"]["policy/identity/policy"]
    assert int(float(found["counts"]["counts/steps"])) == 9


@pytest.mark.parametrize("tool", TOOLS)
def test_notices_are_kept_and_a_training_begun_again_is_another_run(
    tool: str, selected: Path, place: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(selected, tmp_path / "run")
    ids = []
    for again in (False, True):
        tracker = plugins.load("trackers", spec(tool, place))

        tracker.notice("before it begins")
        original = tracker.step

        def step(number: int, metrics: Any, tracker: Any = tracker, original: Any = original) -> None:
            original(number, metrics)
            if number == 4:
                tracker.notice("in the middle")

        tracker.step = step
        train(run, tracker, overwrite=again)
        tracker.close()
        stage = read_manifest(manifest_path(run, "train"))
        ids.append(stage.id)
        found = READERS[tool](place, stage)
        require_each_step_once(found, run)
        assert "before it begins" in found["notices"] and "in the middle" in found["notices"]
    assert ids[0] != ids[1]


@pytest.mark.parametrize("tool", TOOLS)
def test_a_missing_package_gives_the_command_that_installs_it(tool: str) -> None:
    script = (
        f"import sys; sys.modules['{tool}'] = None\n"
        f"from pivotrl import plugins\nplugins.load('trackers', {spec(tool, Path('nowhere'))!r})"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode and re.search(
        rf"InputError: .*'{tool}' needs {tool}.*pip install .*\[{tool}\]", found.stderr
    )


def test_a_trackio_that_hangs_does_not_swallow_the_results_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    from pivotrl.trackers.trackio import _quiet

    is_inside, may_end = threading.Event(), threading.Event()

    def hang() -> None:
        with _quiet():
            print("* noise of the library")
            is_inside.set()
            may_end.wait(30)

    thread = threading.Thread(target=hang)
    thread.start()
    assert is_inside.wait(30)
    print("a result")
    may_end.set()
    thread.join()
    assert capsys.readouterr().out == "a result\n"
