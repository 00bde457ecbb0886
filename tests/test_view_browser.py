"""The pivot browser in a real Chromium: open, search, filter, compare, label, keyboard, dark, narrow, hostile text.

Run alone: python -m pytest tests/test_view_browser.py
Needs the package playwright and a Chromium (PIVOTRL_CHROMIUM names another than the one in PATH).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pivotrl.comparison.browsing import write_comparison_view
from pivotrl.policies.tabular import Policy
from pivotrl.protocols import Turn
from pivotrl.records import Action, Label
from pivotrl.report.browser import write_view
from pivotrl.report.browser.views import Views
from pivotrl.runs.files import RunFiles
from test_cli import call
from test_comparison_view import compared
from test_view import HOSTILE, hostile_logs, made
from view_pages import Page as Data

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

import synthetic_run

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = os.environ.get("PIVOTRL_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("there is no Chromium: apt-get install chromium", allow_module_level=True)

AXE = Path(__file__).parents[1] / "frontend" / "node_modules" / "axe-core" / "axe.min.js"


class Wordy(Policy):
    """Wrong actions with text of their own."""

    def menu(self, turn: Turn) -> tuple[Action, ...]:
        right, *others = super().menu(turn)
        return (right, *(Action(content=f"{right.content} almost {n} at {turn.id}") for n in range(len(others))))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = made(tmp_path_factory.mktemp("browser"), policy=Wordy())
    return write_view(run, views=Views.of(["guessing_pictures"], must_exist=False))


class Tab:
    """A tab that remembers what the console, the network and dialogs saw."""

    def __init__(self, browser: Any, path: Path, **facts: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **facts})
        self.page, self.faults, self.asked, self.url = self.context.new_page(), [], [], path.as_uri()
        self.page.set_default_timeout(60_000)
        self.page.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.faults.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.go("")

    def go(self, place: str) -> None:
        self.page.goto("about:blank")
        self.page.goto(self.url + place)
        self.page.locator("#main").wait_for()

    def by(self, name: str) -> Any:
        return self.page.get_by_test_id(name)

    def shown(self) -> str:
        """Id of the turn on the screen."""
        trajectory = self.by("crumb-trajectory").inner_text()
        message = self.page.evaluate("new URLSearchParams(location.hash.slice(1)).get('turn')").rpartition("#")[2]
        return f"{trajectory}#{message}"

    def count(self) -> int:
        """Turns that match, as the header says it."""
        found = re.search(r"[\d,]+", self.by("result-count").inner_text())
        assert found
        return int(found[0].replace(",", ""))

    def wait_for(self, expression: str) -> None:
        self.page.wait_for_function(f"() => {expression}")  # a bare expression would need eval, which the page forbids


@pytest.fixture
def tab(browser: Any, view: Path) -> Iterator[Tab]:
    opened = Tab(browser, view)
    yield opened
    assert opened.faults == []
    own = ("file:", "about:", "blob:", "data:")
    assert [url for url in opened.asked if not url.startswith(own)] == []  # no network
    opened.context.close()


def first_pivot(view: Path) -> str:
    data = Data(view)
    return data.turn_ids()[data.index["turns"]["pivot"].index(1)]


def test_it_opens_with_a_strip_for_every_trajectory(tab: Tab, view: Path) -> None:
    data = Data(view)
    tab.page.locator("[data-testid^=cell-]").first.wait_for()
    assert tab.count() == len(data.turn_ids())
    assert f"{len(data.index['trajectories']['id'])}" in tab.by("trajectory-count").inner_text()
    assert "tabular" in tab.by("facts").inner_text()


def test_a_turn_shows_its_samples_and_its_link_survives_a_reload(tab: Tab, view: Path) -> None:
    turn = first_pivot(view)
    row = Data(view).results("profile")[turn]
    tab.go(f"#view=turn&turn={turn.replace('#', '%23')}&source=profile")
    tab.by("action-0").wait_for()
    assert tab.shown() == turn
    commonest = row["samples"]["actions"][0]
    assert f"{commonest['count']} of 6" in tab.by("action-0").inner_text()
    assert row["samples"]["expected"]["content"] in tab.by("expected").inner_text()
    assert tab.page.get_by_test_id("difference").count() > 0
    tab.page.reload()
    tab.by("action-0").wait_for()
    assert tab.shown() == turn


def test_contents_are_searched_and_the_first_hit_opens(tab: Tab, view: Path) -> None:
    tab.page.locator("[data-testid=result-count][data-indexed=true]").wait_for()
    turn = next(iter(Data(view).results("profile")))
    tab.by("tab-turns").click()
    everything = tab.count()
    tab.page.keyboard.press("/")
    tab.page.keyboard.type(f'"almost 0 at {turn}"')
    tab.wait_for(f"parseInt(document.querySelector('[data-testid=result-count]').textContent) < {everything}")
    assert tab.count() >= 1
    tab.by(f"row-{turn}").locator("mark", has_text=f"almost 0 at {turn}").wait_for()  # the list moves no more
    tab.by(f"row-{turn}").get_by_role("link").click()
    tab.by("action-0").wait_for()
    assert tab.shown() == turn


def test_a_bar_of_the_histogram_filters_the_turns(tab: Tab, view: Path) -> None:
    everything = tab.count()
    tab.by("bar-0").click()
    tab.wait_for("location.hash.includes('outcome=fail')")
    failing = sum(row["mean"] == 0 for row in Data(view).results("profile").values())
    tab.wait_for(f"parseInt(document.querySelector('[data-testid=result-count]').textContent) === {failing}")
    tab.by("clear-filters").first.click()
    tab.wait_for(f"parseInt(document.querySelector('[data-testid=result-count]').textContent) === {everything}")


def test_compare_begins_with_the_turn_that_lost_most(tab: Tab, view: Path) -> None:
    data = Data(view)
    losses = {}
    for pair, (old, new, _) in enumerate(data.head["pairs"]):
        before, after = data.results(data.sources[old]), data.results(data.sources[new])
        losses[pair] = min(after[t]["mean"] - before[t]["mean"] for t in before if t in after)
    pair = min(losses, key=lambda number: losses[number])
    assert losses[pair] < 0
    tab.go(f"#view=compare&pair={pair}&order=loss")
    first = tab.page.locator("[data-testid^=change-]").first
    first.wait_for()
    turn = str(first.get_attribute("data-testid")).removeprefix("change-")
    before, after = (data.results(data.sources[n]) for n in data.head["pairs"][pair][:2])
    assert after[turn]["mean"] - before[turn]["mean"] == pytest.approx(losses[pair])
    first.click()
    tab.by("sides").wait_for()


def test_keys_go_from_pivot_to_pivot(tab: Tab, view: Path) -> None:
    data, ids = Data(view), Data(view).turn_ids()
    pivots = [turn for turn, chosen in zip(ids, data.index["turns"]["pivot"], strict=True) if chosen]
    tab.go(f"#view=turn&turn={pivots[0].replace('#', '%23')}&source=profile")
    tab.by("action-0").wait_for()
    tab.page.keyboard.press("p")
    tab.wait_for(f"decodeURIComponent(location.hash).includes({json.dumps(pivots[1])})")
    tab.page.keyboard.press("P")
    tab.wait_for(f"decodeURIComponent(location.hash).includes({json.dumps(pivots[0])})")
    tab.page.keyboard.press("j")
    tab.wait_for(f"decodeURIComponent(location.hash).includes({json.dumps(ids[ids.index(pivots[0]) + 1])})")
    tab.page.keyboard.press("?")
    tab.by("help-dialog").wait_for()


def test_labels_are_exported_in_the_form_that_is_read_again(tab: Tab, view: Path, tmp_path: Path) -> None:
    turn = first_pivot(view)
    tab.go(f"#view=turn&turn={turn.replace('#', '%23')}&source=profile")
    tab.by("action-0").wait_for()
    tab.by("label-drop").check()
    tab.by("label-note").fill("wrong </script> here")
    tab.page.locator("[data-testid^=accept-]").first.click()
    tab.by("labels").click()
    with tab.page.expect_download() as download:
        tab.by("labels-export").click()
    file, out = tmp_path / "labels.json", tmp_path / "again.html"
    download.value.save_as(file)
    told = json.loads(file.read_text())
    assert told["format"] == "pivotrl-labels-1"
    assert told["trajectories_sha256"] == RunFiles(view.parent).sha256("trajectories.jsonl")
    (label,) = told["labels"]
    assert (label["turn_id"], label["drop"], label["note"]) == (turn, True, "wrong </script> here")
    assert all(Action.model_validate(action).content for action in label["accept"]) and label["accept"]
    assert call("view", view.parent, "-o", out, "--labels", file) == 0
    assert [Label.model_validate(one) for one in Data(out).head["labels"]] == [Label.model_validate(label)]


def test_labels_of_a_file_and_of_the_browser_are_both_kept_until_the_reader_chooses(
    browser: Any, view: Path, tmp_path: Path
) -> None:
    turn, page = first_pivot(view), tmp_path / "view.html"
    shutil.copy(view, page)
    tab = Tab(browser, page)
    place = f"#view=turn&turn={turn.replace('#', '%23')}&source=profile"
    tab.go(place)
    tab.by("label-note").fill("mine")
    write_view(view.parent, page, labels=[Label(turn_id=turn, drop=True, note="theirs")])
    again = tab.context.new_page()  # the same browser, and the page written again with labels
    again.goto(page.as_uri() + place)
    assert "One label of a file differs" in again.get_by_test_id("labels-differ").inner_text()
    assert again.get_by_test_id("label-note").input_value() == "mine"
    again.get_by_test_id("labels-differ").get_by_role("button").click()
    shown = again.get_by_test_id(f"conflict-{turn}").inner_text()
    assert "mine" in shown and "theirs" in shown and "drop" in shown
    again.get_by_test_id(f"take-offered-{turn}").click()
    again.get_by_test_id("labels-dialog-close").click()
    assert again.get_by_test_id("label-note").input_value() == "theirs"
    assert again.get_by_test_id("label-drop").is_checked()
    later = tab.context.new_page()
    later.goto(page.as_uri() + place)
    later.get_by_test_id("label-note").wait_for()
    assert later.get_by_test_id("labels-differ").count() == 0 and tab.faults == []
    tab.context.close()


def test_mistakes_are_readable_and_lead_to_their_turns(browser: Any, tmp_path: Path) -> None:
    run = tmp_path / "shop"
    synthetic_run.make(run, num_turns=60, num_samples=4, num_steps=2)
    path = write_view(run)
    data = Data(path)
    clusters = data.index["clusters"]
    number = next(n for n, one in enumerate(clusters) if one["act"]["calls"] and one["source"] == 0)
    tab = Tab(browser, path)
    tab.go("#view=mistakes&source=profile")
    shown = tab.by(f"cluster-{number}").inner_text()
    (call_shown,) = clusters[number]["act"]["calls"]
    assert f"{call_shown['name']}(" in shown and '{"' not in shown  # as elsewhere, not as raw JSON
    assert str(clusters[number]["count"]) in shown
    assert data.head["explain"]["reasons"][data.index["codes"][clusters[number]["reason"]]] in shown
    turn = data.turn_ids()[clusters[number]["turns"][0]]
    tab.by(f"cluster-{number}").get_by_test_id(f"cluster-turn-{turn}").click()
    tab.by("action-0").wait_for()
    assert tab.shown() == turn and tab.faults == []
    tab.context.close()


def test_a_word_is_found_as_a_word_and_quotes_find_letters_anywhere(tab: Tab, view: Path) -> None:
    tab.page.locator("[data-testid=result-count][data-indexed=true]").wait_for()
    tab.by("tab-turns").click()

    def found(query: str) -> int:
        tab.by("search").fill(query)
        tab.wait_for(
            f"new URLSearchParams(location.hash.slice(1)).get('q') === {json.dumps(query)} && "
            "document.querySelector('[data-testid=result-count]').dataset.milliseconds !== undefined"
        )
        return tab.count()

    assert found("lmost") == 0 < found('"lmost"') == found("almos")  # almost
    assert found("almos 0") == 0 < found("almost 0")


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_comparison_view(compared(tmp_path_factory.mktemp("comparison")))


def test_a_comparison_leads_to_the_turn_that_lost_most_between_any_two_policies(browser: Any, comparison: Path) -> None:
    data, tab = Data(comparison), Tab(browser, comparison)
    shown = data.head["comparison"]
    table = tab.by("policies").inner_text()
    for row in (row for row in shown["policies"] if row["best"]):
        assert row["policy"] in table and f"{100 * row['values']['turns/greedy'][0]:.1f}" in table
    assert tab.page.locator("[data-testid^=point-]").count() == len(shown["policies"]) - 1
    tab.by("axis-seconds").check(force=True)
    tab.by("open-compare").click()
    before, after = (data.head["sources"][n]["policy"] for n in data.head["pairs"][-1][:2])
    tab.by("before").select_option(before)
    tab.by("after").select_option(after)
    tab.by("draw").select_option("T = 1, seed 1")
    sources = data.head["sources"]
    names = [s["name"] for p in (before, after) for s in sources if (s["policy"], s["draw"]) == (p, "T = 1, seed 1")]
    old, new = (data.results(name) for name in names)
    worst = min(new[turn]["mean"] - old[turn]["mean"] for turn in old)
    assert worst < 0
    first = tab.page.locator("[data-testid^=change-]").first
    turn = str(first.get_attribute("data-testid")).removeprefix("change-")
    assert new[turn]["mean"] - old[turn]["mean"] == pytest.approx(worst)
    assert tab.by("side-before").inner_text() != tab.by("side-after").inner_text()
    tab.by("open-turn").click()
    tab.by("action-0").wait_for()
    assert tab.shown() == turn and tab.faults == []
    tab.context.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_a_comparison_fits_the_screen_and_has_no_serious_fault(browser: Any, comparison: Path, width: int) -> None:
    tab = Tab(browser, comparison, viewport={"width": width, "height": 844}, color_scheme="dark")
    for place in ("#view=overview", "#view=compare", "#view=mistakes"):
        tab.go(place)
        tab.page.wait_for_timeout(300)
        assert tab.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, place
        if AXE.is_file():
            tab.page.evaluate(AXE.read_text())
            faults = tab.page.evaluate("axe.run().then(found => found.violations.map(v => [v.impact, v.id]))")
            assert [fault for fault in faults if fault[0] in ("serious", "critical")] == [], place
    tab.context.close()


def test_episodes_play_back(tab: Tab, view: Path) -> None:
    rows = Data(view).index["trajectories"]
    place = max((n for n, split in enumerate(rows["split"]) if split == "episode"), key=lambda n: rows["num_turns"][n])
    assert rows["num_turns"][place] > 1
    name = rows["id"][place]
    tab.page.evaluate("id => { location.hash = new URLSearchParams({view: 'play', trajectory: id}).toString() }", name)
    tab.by("play-forward").wait_for()
    before = tab.by("play-position").inner_text()
    tab.by("play-forward").click()
    tab.wait_for(f"document.querySelector('[data-testid=play-position]').textContent !== {json.dumps(before)}")
    assert tab.by("frame").inner_text().strip()


@pytest.mark.parametrize("view_name", ["overview", "turns", "compare", "mistakes"])
def test_no_view_is_wider_than_a_phone(browser: Any, view: Path, view_name: str) -> None:
    tab = Tab(browser, view, viewport={"width": 390, "height": 844}, color_scheme="dark")
    tab.go(f"#view={view_name}")
    tab.page.wait_for_timeout(300)
    assert tab.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    dark = tab.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)")
    assert max(dark) < 100 and tab.faults == []
    tab.context.close()


def test_hostile_text_is_shown_and_never_obeyed(browser: Any, tmp_path: Path) -> None:
    logs = hostile_logs(tmp_path / "logs.jsonl")
    assert call("read", logs, "-o", tmp_path / "run", "--heldout-fraction", 0, "--duplicates", "keep") == 0
    given = ["--policy", "tabular", "--verifier", "exact", "--num-samples", 2]
    assert call("profile", tmp_path / "run", *given) == 0
    path = write_view(tmp_path / "run")
    data = Data(path)
    tab = Tab(browser, path)
    for number in range(len(HOSTILE)):
        turn = data.turn_ids()[data.index["trajectories"]["first_turn"][number]]
        tab.page.evaluate("id => { location.hash = new URLSearchParams({view: 'turn', turn: id}).toString() }", turn)
        tab.by("action-0").wait_for()
        assert (
            tab.page.locator("#main :is(script, iframe, a[href^=javascript]), #main img:not([src^='data:'])").count()
            == 0
        )
        assert tab.by("chat").inner_text().strip()
    assert "nul" in tab.by("chat").inner_text()
    assert tab.faults == [] and tab.page.evaluate("'__hacked' in window") is False
    tab.context.close()


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core comes with the front end: npm ci in frontend/")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(browser: Any, view: Path, scheme: str) -> None:
    tab = Tab(browser, view, color_scheme=scheme)
    turn = first_pivot(view).replace("#", "%23")
    for place in ("#view=overview", "#view=turns", "#view=compare", "#view=mistakes", f"#view=turn&turn={turn}"):
        tab.go(place)
        tab.page.wait_for_timeout(500)
        tab.page.evaluate(AXE.read_text())
        faults = tab.page.evaluate(
            "axe.run().then(found => found.violations.map(v => [v.impact, v.id, v.nodes[0].html]))"
        )
        assert [fault for fault in faults if fault[0] in ("serious", "critical")] == [], place
    tab.context.close()
