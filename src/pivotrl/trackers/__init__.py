"""Trackers, one a file: observers (:mod:`pivotrl.protocols.observing`) that take a run to where a user looks at it."""
