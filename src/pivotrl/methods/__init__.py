"""Training methods, one a file: how the groups of a step come about. See :class:`pivotrl.training.Method`."""
