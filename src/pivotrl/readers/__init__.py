"""One log format per file."""
