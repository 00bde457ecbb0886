"""One verifier per file."""
