"""One way to act at turns, without training, a file."""
