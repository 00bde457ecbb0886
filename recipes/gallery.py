"""The pictures in docs/report.md and docs/viewing.md: two small runs and a comparison on Errands, as they are shown.

python recipes/gallery.py                 # about 15 minutes on one core; needs chromium

The runs are kept in runs/gallery/ and are not made again. Pictures are small (under 200 KB each).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from rich.console import Console

from pivotrl.runs.files import RunFiles

ROOT = Path(__file__).parents[1]
RUNS, PICTURES = ROOT / "runs" / "gallery", ROOT / "docs" / "pictures"
MODEL = "recipes/evidence/micro/model"
OPTIONS = [
    *("--reader", "errands(demonstrator='detours', tasks=48)", "--verifier", "errands", "--heldout", "test"),
    *("--environments", "errands(split='test', tasks=24)", "--policy", "hf(lora_rank=0)", "--model", MODEL),
    *("--num-samples", "8", "--max-tokens", "24", "--max-turns", "200", "--heldout-turns", "120"),
    *("--num-steps", "30", "--turns-per-step", "16", "--group-size", "8", "--train-max-tokens", "24"),
    *("--eval-max-tokens", "24", "--price-per-hour", "2"),
]
RATES = {"errands-fast": "1e-3", "errands-slow": "1e-4"}
SHOTS = (
    # (name, page, what to show, width, height, dark)
    ("report-top", "errands-fast/report.html", "", 1000, 1150, False),
    ("report-results", "errands-fast/report.html", "results", 1000, 900, False),
    ("report-training", "errands-fast/report.html", "training", 1000, 900, False),
    ("report-pivots", "errands-fast/report.html", "pivots", 1000, 700, False),
    ("report-dark", "errands-fast/report.html", "results", 500, 900, True),
    ("side-by-side", "side-by-side.html", "results", 1000, 1000, False),
)

VIEWS = (
    # (name, hash of the page's location, width, height, dark); TURN is a pivot of the run
    ("view-overview", "view=overview", 1280, 900, False),
    ("view-turn", "view=turn&turn=TURN", 1280, 1000, False),
    ("view-compare", "view=compare", 1280, 900, False),
    ("view-dark", "view=turn&turn=TURN", 500, 900, True),
)


COMPARE = [
    *("--reader", "errands", "--verifier", "errands", "--arms", "pivots", "end_to_end", "--rates", "4e-4"),
    *("--policy", "hf(lora_rank=0)", "--model", MODEL, "--seeds", "2", "--checkpoints", "5", "15", "30"),
    *("--turns-per-step", "16", "--group-size", "8", "--num-samples", "8", "--max-tokens", "16"),
    *("--train-max-tokens", "16", "--eval-max-tokens", "16", "--heldout-fraction", "0.3"),
    *("--environments", "errands(split='val', limit='tight')", "--train-environments", "errands(limit='tight')"),
    *("--retention", "recipes/evidence/micro/reference_texts.jsonl", "--retention-texts", "40"),
]
"""The comparison beside end-to-end RL of docs/comparing.md."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the runs are")
    parser.add_argument("--chromium", default="chromium", help="the browser that takes the pictures")
    given = parser.parse_args()
    os.chdir(ROOT)
    for name, rate in RATES.items():
        directory = given.runs / name
        if not (directory / "report.html").is_file():
            resume = ["--resume"] if directory.exists() else []
            pivotrl("run", "train", "-o", str(directory), *OPTIONS, "--learning-rate", rate, *resume)
    names = [str(given.runs / name) for name in RATES]
    pivotrl("report", *names, "--out", str(given.runs / "side-by-side.html"), "--price-per-hour", "2")
    for name, page, place, width, height, dark in SHOTS:
        shoot(given.chromium, given.runs / page, place, width, height, dark, PICTURES / f"{name}.png")
    watch_picture(given.runs / "errands-fast")
    view_pictures(given.chromium, given.runs / "errands-fast")
    compared = given.runs / "compare"
    if not (compared / "comparison.json").is_file():
        pivotrl("compare", "train", "-o", str(compared), *COMPARE)
    pivotrl("view", str(compared))
    url = (compared / "view.html").resolve().as_uri()
    take(given.chromium, url, 1280, 900, False, PICTURES / "view-comparison.png")


def pivotrl(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pivotrl.cli", *arguments], check=True)  # noqa: S603


def shoot(chromium: str, page: Path, place: str, width: int, height: int, dark: bool, picture: Path) -> None:
    """A picture of a page from one of its sections on."""
    text = page.read_text("utf-8")
    if place:  # sections before it are left out, so that it stands at the top
        start, end = text.index("<header>"), text.index(f'<section id="{place}">')
        text = text[:start] + "<main>" + text[end:]
    with tempfile.TemporaryDirectory() as folder:
        cut = Path(folder, "page.html")
        cut.write_text(text, "utf-8")
        take(chromium, cut.as_uri(), width, height, dark, picture)


def view_pictures(chromium: str, directory: Path) -> None:
    """The pivot browser of a run: all of it, the pivot whose outcomes are most mixed, and what training changed."""
    pivotrl("view", str(directory))
    rows = [row for row in RunFiles(directory).selections() if row.selected]
    turn = max(rows, key=lambda row: (row.reward_variance or 0.0, row.turn_id)).turn_id
    for name, place, width, height, dark in VIEWS:
        url = f"{(directory / 'view.html').resolve().as_uri()}#{place.replace('TURN', quote(turn, safe=''))}"
        take(chromium, url, width, height, dark, PICTURES / f"{name}.png")


def take(chromium: str, url: str, width: int, height: int, dark: bool, picture: Path) -> None:
    """A screenshot, once the page's script has had time to draw."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},{height}"]
    options += ["--virtual-time-budget=10000", *(["--blink-settings=preferredColorScheme=0"] if dark else [])]
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "raw.png")
        command = [chromium, *options, f"--screenshot={raw}", url]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
        shutil.copy(raw, picture)
    print(f"{picture.relative_to(ROOT)}: {picture.stat().st_size // 1024} KB")


def watch_picture(directory: Path) -> None:
    """What `pivotrl watch` shows, in the middle of the training, as SVG."""
    from pivotrl.cli.watch_view import Shown, page
    from pivotrl.records import Manifest
    from pivotrl.report.following import Follower
    from pivotrl.runs.lock import RunLock
    from pivotrl.runs.manifest import find_manifest, manifest_path, write_manifest
    from pivotrl.storage.record_files import timestamp

    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, directory.name)
        shutil.copytree(directory, run, ignore=shutil.ignore_patterns("checkpoints", "policy", "after.*", "report.*"))
        train = find_manifest(run, "train")
        assert isinstance(train, Manifest)
        metrics = run / "train" / "metrics.jsonl"
        rows = metrics.read_bytes().splitlines(keepends=True)
        metrics.write_bytes(b"".join(rows[: len(rows) * 2 // 3]))
        spent = round(train.wall_seconds * 2 / 3)
        changed = {"status": "running", "outputs": None, "resumed_at": timestamp(), "wall_seconds": spent, "counts": {}}
        write_manifest(manifest_path(run, "train"), train.model_copy(update=changed))
        with RunLock(run), Path(os.devnull).open("w") as nowhere:
            console = Console(width=80, record=True, file=nowhere, force_terminal=True)
            console.print(page(Shown(Follower(run).look(), 2.0)))
    picture = PICTURES / "watch.svg"
    text = console.export_svg(title=f"pivotrl watch {directory.name} --price-per-hour 2", unique_id="watch")
    picture.write_text("".join(line for line in text.splitlines(keepends=True) if "https:" not in line), "utf-8")


if __name__ == "__main__":
    main()
