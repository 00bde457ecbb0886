"""Halves of readers: what several of them share, or what would make one too long. One format a file."""
