"""Training methods, one per file. Each makes the groups of a step, see :class:`pivotrl.training.Method`."""
