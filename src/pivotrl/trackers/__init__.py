"""Trackers, one a file: observers (:mod:`pivotrl.observing`) that take a run to where a user looks at it."""
