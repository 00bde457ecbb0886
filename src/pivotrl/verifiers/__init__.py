"""One rule for judging an action a file."""
