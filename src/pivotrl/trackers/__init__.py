"""Trackers, one per file: observers (:mod:`pivotrl.protocols.observing`) that send a run's events elsewhere."""
