"""Control tokens, and a tokenizer that recognises only intended ones.

In *marked* text every control token that the chat template wrote stands as a private mark; the same characters inside
data stay characters. The tokenizer knows the marks in place of the strings, so marked text is tokenized in one go,
exactly as transformers would tokenize the plain text when its data holds no control string.
"""

from __future__ import annotations

import functools
import json
import re
from typing import Any

from pivotrl.protocols import InputError, NotRenderable

_BEGIN, _END = "\ufdd0", "\ufdd1"  # noncharacters: no text that is meant for people holds them


class ControlTokens:
    """The control tokens of one tokenizer: its special tokens, and other added tokens that its template writes.

    Args:
        tokenizer: a fast tokenizer of transformers.
        template: the source of its chat template.

    Raises:
        InputError: the tokenizer is not a fast one.
    """

    def __init__(self, tokenizer: Any, template: str) -> None:
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise InputError(
                "the tokenizer is not a fast one (tokenizer.json); its chat template cannot be used safely"
            )
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        self.ids = {
            token.content: number
            for number, token in added.items()
            if token.special or (token.content in template and not token.content.isspace())
        }
        self.special = {token.content for token in added.values() if token.special}
        self._unknown = tokenizer.unk_token_id
        self._marks = {text: f"{_BEGIN}{number}{_END}" for text, number in self.ids.items()}
        self._strings = {mark: text for text, mark in self._marks.items()}
        longest_first = sorted(self.ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._mark_pattern = re.compile(f"{_BEGIN}[0-9]+{_END}")

    def found_in(self, text: str) -> list[str]:
        """The control strings of a text, in order."""
        return self._pattern.findall(text)

    def marked(self, text: str) -> str:
        """The text with a mark for every control string.

        Raises:
            NotRenderable: it holds the characters that marks are made of.
        """
        if _BEGIN in text or _END in text:
            raise NotRenderable("the text contains U+FDD0 or U+FDD1, which are not characters")
        return self._pattern.sub(lambda found: self._marks[found[0]], text)

    def marks_in(self, marked: str) -> list[tuple[str, int, int]]:
        """(control string, start, end) for every mark of a marked text."""
        return [(self._strings[m[0]], m.start(), m.end()) for m in self._mark_pattern.finditer(marked)]

    def plain(self, marked: str) -> str:
        return self._mark_pattern.sub(lambda found: self._strings[found[0]], marked)

    def encode(self, marked: str) -> list[int]:
        """Token ids of a marked text: its marks become control tokens, and nothing else does.

        Raises:
            NotRenderable: the tokenizer produces a control token from ordinary text.
        """
        meant = [self.ids[text] for text, _, _ in self.marks_in(marked)]
        plain = self.plain(marked)
        if len(self.found_in(plain)) == len(meant):  # none is inside data
            ids: list[int] = self._tokenizer(plain, add_special_tokens=False).input_ids
        else:
            backend, numbers = self._marking_backend
            ids = [numbers.get(number, number) for number in backend.encode(marked, add_special_tokens=False).ids]
        control = set(self.ids.values()) - {self._unknown}
        if [number for number in ids if number in control] != [number for number in meant if number in control]:
            raise NotRenderable("the tokenizer produces a control token from ordinary text")
        return ids

    @functools.cached_property
    def _marking_backend(self) -> tuple[Any, dict[int, int]]:
        """The tokenizer with marks in place of control strings, and its ids -> the real ones where they differ."""
        from tokenizers import Tokenizer

        description = json.loads(self._tokenizer.backend_tokenizer.to_str())
        description.update(post_processor=None, truncation=None, padding=None)
        for token in description["added_tokens"]:
            token["content"] = self._marks.get(token["content"], token["content"])
        backend = Tokenizer.from_str(json.dumps(description))
        added = [(backend.token_to_id(token["content"]), token["id"]) for token in description["added_tokens"]]
        numbers = {number: real for number, real in added if number is not None}
        return backend, numbers
