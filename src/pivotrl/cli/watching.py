"""The observers of a command: the terminal and the named trackers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pivotrl import plugins
from pivotrl.cli.live_progress import live_progress
from pivotrl.options import InputError
from pivotrl.protocols.background import Background
from pivotrl.protocols.observing import Observer, Observers, at_work, told_notices


@dataclass(frozen=True)
class Watching:
    """Who observes the run besides the terminal."""

    tracker: tuple[str, ...] = ()
    """Trackers with options, such as tensorboard or "wandb(project='mine')". A resumed stage keeps its own. See
    `pivotrl list trackers`."""

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
        with live_progress(directory, price_per_hour) as terminal:
            watchers = Observers([terminal, *self._started(terminal), *others], self.tracker)
            try:
                with told_notices(watchers):
                    yield watchers
            finally:
                watchers.close()

    def _started(self, terminal: Observer) -> list[Observer]:
        trackers: list[Observer] = []
        try:
            for spec in self.tracker:
                name = plugins.parse_spec(spec)[0]
                with at_work(terminal, f"starting the tracker {name}"):
                    trackers.append(Background(name, partial(_loaded, spec)))
        except BaseException:
            Observers(trackers).close()
            raise
        return trackers


def _loaded(spec: str) -> Observer:
    tracker = plugins.load("trackers", spec)
    if not isinstance(tracker, Observer):
        raise InputError(
            f"the tracker {spec!r} is not an Observer: derive its class from pivotrl.protocols.observing.Observer; "
            "see docs/plugins.md"
        )
    return tracker
