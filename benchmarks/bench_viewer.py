"""How fast the pivot browser opens and searches: a run of 10,000 turns with 8 samples each, in headless Chromium.

    python recipes/synthetic_run.py runs/synthetic      # once; minutes
    python benchmarks/bench_viewer.py runs/synthetic

Opening: from the request for the file until the first strips are drawn, in a new tab each time. Search: the time that
the page itself takes to find all turns whose contents match, and the time from the last key to the list on the screen,
in which the page waits 120 ms for more typing. The first search is timed apart. Needs the package playwright and a
Chromium.
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from host import machine
from pivotrl.report.browser import write_view
from pivotrl.runs.files import RunFiles

HERE = Path(__file__).parent
QUERIES = ("kettle", "Harbour Street", '"the customer wants"', "e", "W1040", "nothing-has-this", "different_value")
"""Common and rare words, a phrase, a single letter, a part of a number, nothing, and a reason."""


def written(run: Path, out: Path) -> dict[str, Any]:
    """Seconds, memory and size of making the page."""
    start = time.perf_counter()
    write_view(run, out)
    files = RunFiles(run)
    samples = [len(group.completions_G) for group in files.profiled().values()]
    return {
        "seconds": time.perf_counter() - start,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        "page_megabytes": out.stat().st_size / 1e6,
        "trajectories": len(files.logged()) + len(files.logged_heldout()),
        "profiled_turns": len(samples),
        "profile_samples": sum(samples),
    }


def opened(browser: Any, url: str) -> float:
    """Milliseconds until the first strips are drawn."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    start = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.locator("[data-testid^=cell-]").first.wait_for(timeout=120_000)
    taken = 1000 * (time.perf_counter() - start)
    page.close()
    return taken


def searched(page: Page, query: str) -> dict[str, Any]:
    """Milliseconds that one search takes."""
    box, count = page.get_by_test_id("search"), page.get_by_test_id("result-count")
    box.fill("")
    page.wait_for_timeout(500)
    start = time.perf_counter()
    box.fill(query)
    page.wait_for_function(
        """query => {
            const told = document.querySelector("[data-testid=result-count]");
            const asked = new URLSearchParams(location.hash.slice(1)).get("q");
            return asked === query && told.dataset.milliseconds !== undefined;
        }""",
        arg=query,
        polling=5,
    )
    shown = 1000 * (time.perf_counter() - start)
    return {
        "query": query,
        "find_ms": float(count.get_attribute("data-milliseconds") or "nan"),
        "shown_ms": shown,
        "found": count.inner_text().strip(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "viewer.json")
    arguments = parser.parse_args()
    path = arguments.run / "view.html"
    making = written(arguments.run, path)
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox"])
        openings = [opened(browser, path.resolve().as_uri()) for _ in range(arguments.repetitions)]
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        start = time.perf_counter()
        page.goto(path.resolve().as_uri())
        page.locator("[data-testid=result-count][data-indexed=true]").wait_for(timeout=300_000)
        indexed = 1000 * (time.perf_counter() - start)
        page.get_by_test_id("tab-turns").click()
        first, *later = [searched(page, query) for _ in range(arguments.repetitions) for query in QUERIES]
        heap = page.evaluate("performance.memory.usedJSHeapSize") / 1e6
        version = browser.version
        browser.close()
    find, shown = ([search[name] for search in later] for name in ("find_ms", "shown_ms"))
    print(f"made in {making['seconds']:.1f} s, {making['page_megabytes']:.1f} MB")
    print(f"opens in {statistics.median(openings):.0f} ms ({min(openings):.0f} to {max(openings):.0f})")
    print(f"texts indexed after {indexed:.0f} ms; heap {heap:.0f} MB")
    print(
        f"first search {first['find_ms']:.0f} ms; later ones {statistics.median(find):.0f} ms, at most {max(find):.0f}"
    )
    result = {
        "command": shlex.join(["python", "benchmarks/bench_viewer.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": {**machine("pivotrl", "playwright"), "chromium": version},
        "making": making,
        "open_ms": {"all": openings, "median": statistics.median(openings)},
        "indexed_after_ms": indexed,
        "first_search": first,
        "later_searches": {
            "find_ms": {"median": statistics.median(find), "maximum": max(find)},
            "shown_ms": {"median": statistics.median(shown), "maximum": max(shown)},
            "all": later,
        },
        "heap_megabytes": heap,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
