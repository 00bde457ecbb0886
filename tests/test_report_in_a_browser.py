"""The report in a real browser: no sideways scrolling on a phone, nothing cut, and a short print. Needs chromium."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pivotrl.report.page import write_report
from pivotrl.report.side_by_side import write_side_by_side
from test_reporting import make_run

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

MEASURE = """
<script>
window.addEventListener("load", () => {
  const page = document.querySelector("iframe").contentDocument;
  const root = page.documentElement, found = {width: root.scrollWidth, out: []};
  for (const one of page.querySelectorAll("body *")) {
    const box = one.getBoundingClientRect();
    const scrolls = one.closest(".scroll") || one.closest("svg") || one.closest(".watermark");
    if (!scrolls && box.width && (box.right > WIDTH + 1 || box.left < -1)) found.out.push(one.outerHTML.slice(0, 120));
  }
  const top = (name) => page.getElementById(name).getBoundingClientRect().top;
  found.order = [...page.querySelectorAll("section")].map((section) => section.id);
  found.details = [...page.querySelectorAll("details.numbers")].filter((one) => one.open).length;
  const told = document.createElement("pre");
  told.id = "told"; told.textContent = JSON.stringify(found);
  document.body.append(told);
});
</script>
"""


def browse(*arguments: str) -> str:
    assert CHROMIUM is not None
    common = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000"]
    done = subprocess.run([*common, *arguments], capture_output=True, text=True, timeout=120)
    return done.stdout


def measured(page: Path, width: int, folder: Path) -> dict[str, Any]:
    """The page in a frame of this width; the frame is of the same origin, so that it can be measured."""
    frame = (
        f'<iframe style="width:{width}px;height:900px;border:0" srcdoc="{html.escape(page.read_text(), quote=True)}">'
    )
    outer = folder / "outer.html"
    outer.write_text(f"<!doctype html><body>{frame}</iframe>{MEASURE.replace('WIDTH', str(width))}", "utf-8")
    told = re.search(r'<pre id="told">(.*?)</pre>', browse("--dump-dom", outer.as_uri()), re.DOTALL)
    assert told is not None
    found: dict[str, Any] = json.loads(html.unescape(told[1]))
    return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    runs = [make_run(folder / "a-run-with-a-name-that-is-long-enough"), make_run(folder / "b", gain=0.0)]
    unfinished = make_run(folder / "c", stages=("read", "profile"))
    several = write_side_by_side([*runs, unfinished], folder / "several.html")
    return [write_report(runs[0]), write_report(unfinished), several]


@pytest.mark.parametrize("width", [390, 1100])
def test_nothing_reaches_over_the_edge(pages: list[Path], width: int, tmp_path: Path) -> None:
    for page in pages:
        found = measured(page, width, tmp_path)
        assert found["width"] <= width, page
        assert not found["out"], page
        assert found["details"] == 0  # numbers are there, but folded


def test_a_print_is_short_and_its_options_are_at_the_end(pages: list[Path], tmp_path: Path) -> None:
    found = measured(pages[0], 1100, tmp_path)
    assert found["order"][-1] == "options"
    pdf = tmp_path / "report.pdf"
    browse("--no-pdf-header-footer", f"--print-to-pdf={pdf}", pages[0].as_uri())
    num_pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf.read_bytes()))
    assert 1 <= num_pages <= 10
