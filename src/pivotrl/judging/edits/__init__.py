"""Whether two edits leave the same file."""
