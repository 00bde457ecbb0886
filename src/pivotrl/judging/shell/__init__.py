"""Whether two shell commands do the same, by their syntax."""
