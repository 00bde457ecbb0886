"""Trainable policies, one per file."""
