"""Reads a page of the pivot browser back, as its own script does."""

from __future__ import annotations

import base64
import gzip
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from pivotrl.report.browser import packing


class Tags(HTMLParser):
    """Scripts by id, those without an id in a list, and every other tag."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: dict[str, str] = {}
        self.code: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._inside: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self._inside = dict(attrs).get("id") or ""
            self.code += [""] if not self._inside else []

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[self._inside] = self.scripts.get(self._inside, "") + data
        elif self._inside == "":
            self.code[-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._inside = None


def tags_of(text: str) -> Tags:
    found = Tags()
    found.feed(text)
    return found


def unpacked(chunk: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(chunk)))
    return found


class Page:
    """A page with its data unpacked."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text("utf-8")
        self.parsed = tags_of(self.text)
        self.head: dict[str, Any] = json.loads(self.parsed.scripts["head"])
        self.chunks = [unpacked(self.parsed.scripts[f"c{number}"]) for number in range(self.head["chunks"])]
        self.index = self.chunks[0]

    @property
    def sources(self) -> list[str]:
        return [source["name"] for source in self.head["sources"]]

    def turn_ids(self) -> list[str]:
        turns, names = self.index["turns"], self.index["trajectories"]["id"]
        return [f"{names[t]}#{m}" for t, m in zip(turns["trajectory"], turns["message"], strict=True)]

    def status(self, turn: int) -> str:
        return str(self.index["codes"][self.index["turns"]["status"][turn]])

    def trajectory(self, number: int) -> dict[str, Any]:
        rows = self.index["trajectories"]
        found: dict[str, Any] = self.chunks[rows["chunk"][number]]["trajectories"][rows["slot"][number]]
        return found

    def results(self, source: str) -> dict[str, dict[str, Any]]:
        """Turn id -> its row of results, with its samples."""
        rows, ids = self.index["results"][self.sources.index(source)], self.turn_ids()
        found = {}
        for place, turn in enumerate(rows["turn"]):
            row = {name: values[place] for name, values in rows.items()}
            found[ids[turn]] = row | {"samples": self.chunks[row["chunk"]]["samples"][row["slot"]]}
        return found

    def prompt(self, turn: int) -> dict[str, Any] | None:
        """The prompt of a turn with its whole text."""
        turns = self.index["turns"]
        if turns["prompt"][turn] < 0:
            return None
        prompts = self.chunks[turns["prompt"][turn]]["prompts"]
        return {**prompts[turns["prompt_slot"][turn]], "text": _whole(prompts, turns["prompt_slot"][turn])}


def _whole(prompts: list[dict[str, Any]], slot: int) -> str:
    """As JavaScript puts it together: the prefix counts UTF-16 code units."""
    entry = prompts[slot]
    if entry["base"] < 0:
        return str(entry["text"])
    units = _whole(prompts, entry["base"]).encode("utf-16-le")[: 2 * entry["prefix"]]
    return units.decode("utf-16-le") + str(entry["text"])


def template() -> str:
    return Path(packing.__file__).with_name("page.html").read_text("utf-8")
