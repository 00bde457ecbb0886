"""Chunks of compressed JSON, and the page that holds them.

Everything that comes from a log or a model is data: JSON with ``<``, ``>`` and ``&`` escaped, or base64. The content
security policy allows the page's own script and style, by their hashes, and nothing else: no network, no inline code.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from dataclasses import dataclass, field
from importlib.resources import files as resources
from typing import Any

_CHUNK_CHARACTERS = 1 << 19
_CSP_MARK, _DATA_MARK = "<!--pivotrl:csp-->", "<!--pivotrl:data-->"
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}

Place = tuple[int, int]
"""(chunk, slot) of an entry."""


def json_text(value: Any) -> str:
    """JSON that any browser reads: no NaN, and half a surrogate pair as an escape.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text


@dataclass
class _Open:
    number: int
    entries: dict[str, list[str]] = field(default_factory=dict)
    num_characters: int = 0


class Chunks:
    """Entries of several kinds, packed in the order in which they come. Only open chunks are held as plain text.

    Chunk 0 is kept for the index, which is known last.
    """

    def __init__(self) -> None:
        self._done: dict[int, str] = {}
        self._open: dict[str, _Open] = {}
        self._num_chunks = 1

    def __len__(self) -> int:
        return self._num_chunks

    def add(self, kind: str, value: Any, stream: str = "") -> Place:
        """Where the entry is. Entries of different streams never share a chunk."""
        return self.add_text(kind, json_text(value), stream)

    def add_text(self, kind: str, text: str, stream: str = "") -> Place:
        """As :meth:`add`, of JSON text."""
        current = self._open.get(stream)
        if current is None:
            current = self._open[stream] = _Open(self._num_chunks)
            self._num_chunks += 1
        place = current.number, len(current.entries.setdefault(kind, []))
        current.entries[kind].append(text)
        current.num_characters += len(text)
        if current.num_characters >= _CHUNK_CHARACTERS:
            self._close(stream)
        return place

    def open_chunk(self, stream: str) -> int:
        """Number of the chunk that the next entry of the stream goes into; -1 if it begins a new one."""
        return self._open[stream].number if stream in self._open else -1

    def _close(self, stream: str) -> None:
        chunk = self._open.pop(stream)
        inside = ",".join(f"{json.dumps(kind)}:[{','.join(texts)}]" for kind, texts in chunk.entries.items())
        self._done[chunk.number] = _packed(f"{{{inside}}}")

    def finish(self, index: Any) -> list[str]:
        """All chunks in order as base64 of gzip, the index first."""
        for stream in list(self._open):
            self._close(stream)
        self._done[0] = _packed(json_text(index))
        return [self._done[number] for number in range(self._num_chunks)]


def _packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


def page(head: Any, chunks: list[str]) -> str:
    """The page with its data. The same data give the same text."""
    template = resources("pivotrl.report.browser").joinpath("page.html").read_text("utf-8")
    data = [f'<script type="application/json" id="head">{json_text(head).translate(_ESCAPES)}</script>']
    data += [
        f'<script type="application/octet-stream" id="c{number}">{chunk}</script>'
        for number, chunk in enumerate(chunks)
    ]
    for mark, text in ((_CSP_MARK, _content_security_policy(template)), (_DATA_MARK, "\n".join(data))):
        before, found, after = template.partition(mark)
        assert found, f"the template lacks {mark}"
        template = before + text + after
    return template


def _content_security_policy(template: str) -> str:
    allowed = {
        tag: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
            for code in re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}>", template, re.DOTALL)
        )
        for tag in ("script", "style")
    }
    rules = (
        "default-src 'none'",
        f"script-src {allowed['script'] or chr(39) + 'none' + chr(39)}",
        f"style-src {allowed['style'] or chr(39) + 'none' + chr(39)}",
        "img-src data:",
        "worker-src blob:",
        "base-uri 'none'",
        "form-action 'none'",
    )
    return f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(rules)}">'
