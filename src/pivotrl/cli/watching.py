"""The observers of a command: the terminal and the named trackers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pivotrl import plugins
from pivotrl.cli.live_progress import live_progress
from pivotrl.options import InputError
from pivotrl.protocols.observing import Observer, Observers, told_notices


@dataclass(frozen=True)
class Watching:
    """Who observes the run besides the terminal."""

    tracker: tuple[str, ...] = ()
    """Tracker plugins with options, such as "jsonl(path='events.jsonl')". See `pivotrl list trackers`."""

    @contextmanager
    def observer(
        self, *others: Observer, directory: Path | None = None, price_per_hour: float | None = None
    ) -> Iterator[Observer]:
        """The terminal, the trackers and these others as one observer, closed at the end.

        Args:
            directory, price_per_hour: of the run, for its cost so far in the terminal.

        Raises:
            InputError: a tracker cannot be made.
        """
        trackers: list[Observer] = []
        try:
            for spec in self.tracker:
                trackers.append(_loaded(spec))
        except BaseException:
            Observers(trackers).close()
            raise
        with live_progress(directory, price_per_hour) as terminal:
            watchers = Observers([terminal, *trackers, *others])
            try:
                with told_notices(watchers):
                    yield watchers
            finally:
                watchers.close()


def _loaded(spec: str) -> Observer:
    tracker = plugins.load("trackers", spec)
    if not isinstance(tracker, Observer):
        raise InputError(
            f"the tracker {spec!r} is not an Observer: derive its class from pivotrl.protocols.observing.Observer; "
            "see docs/plugins.md"
        )
    return tracker
