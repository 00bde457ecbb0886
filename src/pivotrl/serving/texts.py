"""The text of a sample while it grows: whole characters only, and cut at a stop text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pivotrl.protocols.live import Finish, LiveToken, News

_NO_CHARACTER = "\ufffd"

Decode = Callable[[Sequence[int]], str]


class SampleText:
    """One sample.

    Args:
        decode: token ids -> text.
        stops: texts that end the sample, and are no part of it.
        stop_ids: tokens that end the sample, and are no part of its text.
        follows: whether the text is needed before the sample ends.
    """

    def __init__(self, decode: Decode, stops: Sequence[str], stop_ids: frozenset[int], follows: bool) -> None:
        self._decode, self._stops, self._stop_ids = decode, tuple(stops), stop_ids
        self._follows = follows or bool(stops)
        self._longest = max(map(len, self._stops), default=1)
        self._text, self._from, self._read = "", 0, 0
        self.tokens: list[LiveToken] = []
        self.finish: Finish | None = None
        self.stop_reason: str | int | None = None
        """The text, or the token of the request, that ended it; None for the model's own end and the token limit."""

    def add(self, news: News) -> None:
        """More tokens; nothing after the end counts."""
        if self.finish is not None:
            return
        for token in news.tokens:
            self.tokens.append(token)
            if self._follows and self._follow(is_last=news.finish is not None and token is news.tokens[-1]):
                return
        self.finish = news.finish
        if news.finish is not None:
            self._text = self._decode(self.shown_ids)

    @property
    def token_ids(self) -> list[int]:
        return [token.token_id for token in self.tokens]

    @property
    def shown_ids(self) -> list[int]:
        """Without the token that ended the sample."""
        ids = self.token_ids
        return ids[:-1] if ids and ids[-1] in self._stop_ids else ids

    @property
    def text(self) -> str:
        """What is known of it; whole once the sample has ended."""
        return self._text

    @property
    def settled(self) -> str:
        """What no later token can take back: without what may be the beginning of a stop text."""
        held = self._longest - 1 if self._stops and self.finish is None else 0
        return self._text[: len(self._text) - held] if held else self._text

    def _follow(self, is_last: bool) -> bool:
        """Whether a stop text has ended the sample.

        Some tokenizers write a token otherwise at the start of a text. So new tokens are decoded behind those before
        them, and what those alone say is taken off.
        """
        ids = self.shown_ids
        new, old = self._decode(ids[self._from :]), self._decode(ids[self._from : self._read])
        if new.endswith(_NO_CHARACTER) and not is_last:
            return False  # the rest of a character is still to come
        begin = max(0, len(self._text) - self._longest + 1)
        self._text += new[len(old) :]
        self._from, self._read = self._read, len(ids)
        places = [(place, stop) for stop in self._stops if (place := self._text.find(stop, begin)) >= 0]
        if not places:
            return False
        place, self.stop_reason = min(places)
        self._text, self.finish = self._text[:place], "stop"
        return True
