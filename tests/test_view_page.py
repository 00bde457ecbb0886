"""The prebuilt page of ``pivotrl view``: built from the sources in the tree, self-contained, with its licences."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "frontend"
BROWSER = ROOT / "src" / "pivotrl" / "report" / "browser"
PAGE = (BROWSER / "page.html").read_text(encoding="utf-8")


def test_the_page_is_built_from_these_sources() -> None:
    """Twin of frontend/build/sourceHash.ts. If it fails: make viewer."""
    names = ["package-lock.json", "package.json", "page.template.html", "tsconfig.json", "vite.config.ts"]
    for folder in ("build", "src"):
        files = (path for path in (SOURCES / folder).rglob("*") if path.is_file())
        names += [path.relative_to(SOURCES).as_posix() for path in files]
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(name.encode() + b"\0" + (SOURCES / name).read_bytes() + b"\0")
    built = re.search(r'<meta name="pivotrl-source" content="(\w+)"', PAGE)
    assert built and built[1] == digest.hexdigest(), "page.html is older than frontend/: run `make viewer`"


def test_the_page_is_one_small_file_that_loads_nothing() -> None:
    assert len(PAGE.encode()) <= 1_500_000
    for mark in ("<!--pivotrl:csp-->", "<!--pivotrl:data-->"):
        assert PAGE.count(mark) == 1
    script = PAGE.index("<script>")
    assert PAGE.index("<!--pivotrl:csp-->") < PAGE.index("<!--pivotrl:data-->") < script
    markup = re.sub(r"<(script|style)>.*?</\1>", "", PAGE, flags=re.DOTALL)
    assert not re.search(r"\s(src|href|style)=", markup)
    style = re.search(r"<style>(.*?)</style>", PAGE, re.DOTALL)
    assert style and not re.search(r"@import|url\(", style[1])


def test_the_script_ends_where_its_tag_ends() -> None:
    """A stray end tag or comment in the script would cut it off."""
    assert len(re.findall(r"<script\b", PAGE)) == 1 and PAGE.count("</script") == 1
    assert PAGE.count("<!--") == 2


def test_licences_of_the_bundled_packages_ship_with_it() -> None:
    licences = (BROWSER / "page.licenses.txt").read_text(encoding="utf-8")
    for package in ("react-dom", "@ariakit/components", "@tanstack/react-virtual", "@visx/shape", "diff"):
        assert re.search(rf"^## {re.escape(package)} - [\d.]+ \(", licences, re.MULTILINE), package


def test_the_lock_file_names_no_registry() -> None:
    assert '"resolved"' not in (SOURCES / "package-lock.json").read_text(encoding="utf-8")
