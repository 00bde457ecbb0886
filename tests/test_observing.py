"""Observers: one that fails stops nobody else."""

from __future__ import annotations

import warnings

import pytest

from pivotrl.cli.watching import Watching
from pivotrl.protocols import InputError, Notice
from pivotrl.protocols.observing import Observer, Observers, told_notices


class Listening(Observer):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
        self.heard.append(f"{done}/{total}")

    def notice(self, text: str) -> None:
        self.heard.append(text)

    def close(self) -> None:
        self.heard.append("closed")


class Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Failing(Observer):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def progress(self, kind: str, done: int, total: int, note: str = "") -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("gone"), "RuntimeError: gone"),
        (OSError("no network"), "OSError: no network"),
        (SystemExit(7), "SystemExit: 7"),
        (Speechless(), "Speechless"),
    ],
)
def test_one_that_fails_is_named_once_and_the_others_go_on(error: BaseException, said: str) -> None:
    other = Listening()
    watchers = Observers([Failing(error), other])
    watchers.progress("steps", 0, 2)
    watchers.progress("steps", 1, 2)
    watchers.close()
    told = f"Failing failed in progress and gets no more events: {said}"
    assert sorted(other.heard) == sorted([told, "0/2", "1/2", "closed"])


def test_one_that_answers_a_notice_with_a_notice_does_not_hear_itself() -> None:
    class Talking(Listening):
        def notice(self, text: str) -> None:
            super().notice(text)
            warnings.warn("I heard it", Notice, stacklevel=2)

    talking, other = Talking(), Listening()
    with told_notices(watchers := Observers([talking, other])):
        warnings.warn("something", Notice, stacklevel=1)
    watchers.close()
    assert talking.heard == ["something", "closed"]
    assert sorted(other.heard) == ["I heard it", "closed", "something"]


closed: list[str] = []


class Tracker(Observer):
    def close(self) -> None:
        closed.append("closed")


def test_a_tracker_is_closed_if_a_later_one_cannot_be_made() -> None:
    closed.clear()
    watching = Watching(tracker=("test_observing:Tracker", "nosuch"))
    with pytest.raises(InputError, match="no tracker called 'nosuch'"), watching.observer():
        pass
    assert closed == ["closed"]
