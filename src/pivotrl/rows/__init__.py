"""Pivots as rows for other training stacks, and the reward of a row."""
