"""Copies among trajectories, and evaluation texts inside them."""
